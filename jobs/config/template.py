"""The template of an event's text: plain text with `{column}` or `{column:filter}`."""

from __future__ import annotations

import re

BRACES = re.compile(r"\{\{|\}\}|[{}]")
FIELD = re.compile(r"(?P<column>(?:`(?:[^`]|``)+`|[^`{}:!])+)(?::(?P<filter>[^{}]*))?\}")
PART = r"(?:`(?:[^`]|``)+`|[^\W\d](?:[\w -]*\w)?)"
"""A part of a column's name: between backticks, or letters, digits, `_`, blanks and hyphens."""


def template_parts(template: str) -> tuple[tuple[str, str | None, str], ...]:
    """Split a template into (literal text, column or None, filter), where `{{` and `}}` are plain braces.

    Raises
    ------
    ValueError
        It does not parse.
    """
    parts: list[tuple[str, str | None, str]] = []
    literal, position = "", 0
    while brace := BRACES.search(template, position):
        literal += template[position : brace.start()]
        position = brace.end()
        if brace[0] in ("{{", "}}"):
            literal += brace[0][0]
        elif brace[0] == "}":
            raise ValueError(f"a single }} at character {position}")
        elif (field := FIELD.match(template, position)) is None:
            raise ValueError(f"no column's name and a closing }} after the {{ at character {position}")
        else:
            parts.append((literal, field["column"], field["filter"] or "text"))
            literal, position = "", field.end()
    literal += template[position:]
    return (*parts, (literal, None, "text")) if literal else tuple(parts)


def require_column_name(column: str) -> None:
    """Raise ValueError where a field's name has a part that is neither plain nor between backticks."""
    if not re.fullmatch(rf"{PART}(?:\.{PART})*", column):
        raise ValueError(
            f"template field {column!r} is not a column name; use letters, digits and _, or put the name between "
            "backticks, as in {`2024 (net)`}"
        )
