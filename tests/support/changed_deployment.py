"""A deployment file without a mistake, and the same file with some values changed."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from jobs.config.deployment import Deployment
from tests.support.deployment import DEPLOYMENT

VALID: dict[str, Any] = {
    **DEPLOYMENT,
    "attributes": {"table": "attributes", "static": True, "numbers": ["age"], "categories": ["city"]},
    "aggregates": [{"name": "searches_30d", "source": "search", "function": "count", "window_days": 30}],
    "scenarios": [
        {"name": "food", "instruction": "Will this user order food?"},
        {"name": "film", "instruction": "Does this user like films?"},
    ],
    "eligible": {"min_events": 1},
    "max_reject_share": 0.1,
    "model": {"network": {}, "training": {"steps": 10}},
}
MISSING = object()


def valid() -> dict[Any, Any]:
    """Return a copy of VALID."""
    return deepcopy(VALID)


def change(content: dict[Any, Any], key: Any, value: Any) -> None:
    """Change one value, or remove it; `sources.0.name` is the name of the first source."""
    *way, last = [int(step) if step.isdigit() else step for step in key.split(".")] if isinstance(key, str) else [key]
    section: Any = content
    for step in way:
        section = section[step] if isinstance(step, int) else section.setdefault(step, {})
    if value is MISSING:
        del section[last]
    else:
        section[last] = value


def changed(key: Any, value: Any) -> dict[Any, Any]:
    """Return VALID with one value changed."""
    content = valid()
    change(content, key, value)
    return content


def read(content: Any, folder: Path) -> Deployment:
    """Write the content, or these bytes, as a deployment file and read it."""
    path = folder / "deployment.yaml"
    path.write_bytes(content if isinstance(content, bytes) else yaml.safe_dump(content).encode())
    return Deployment.read(path)
