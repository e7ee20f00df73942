"""The message for an error that pydantic found in a file: the key, its value and what to write instead."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

SECRETS = (("store", "online"), ("store", "registry"))
"""Keys whose values may hold a password."""


def format_error(detail: Any, keys: Sequence[str]) -> str:
    """Return one of pydantic's errors as `key = value: fix`; `keys` are the candidates for an unknown key."""
    steps = [f"[{step}]" if isinstance(step, int) else f".{step}" for step in detail["loc"]]
    key = "".join(steps).removeprefix(".") or "(file)"
    hidden = detail["type"] == "missing" or detail["loc"] in SECRETS
    value = "" if hidden else f" = {_short(detail['input'])}"
    return f"{key}{value}: {suggest_fix(detail, keys)}"


def suggest_fix(detail: Any, keys: Sequence[str]) -> str:
    """Return what to write instead."""
    if detail["type"] == "missing":
        return "add this key"
    if detail["type"] == "string_pattern_mismatch":
        return "use lower-case letters, digits and _, starting with a letter"
    if detail["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        key = str(detail["loc"][-1])
        near = get_close_matches(key, keys, n=1) if key not in keys else []  # a key of another section
        return "unknown key; " + (f"did you mean {near[0]!r}?" if near else "remove it")
    if detail["type"] == "string_too_short":
        return "is empty; write one"
    return str(detail["msg"]).removeprefix("Value error, ")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
