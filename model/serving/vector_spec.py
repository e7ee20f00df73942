"""The vector spec: the parts of a deployment file that shape a vector whatever the instruction.

`Deployment.vector_spec()` returns it. A release, a checkpoint and a job that makes profiles each keep a copy of the one
that they were made with; a deployment whose spec differs from it is refused.
"""

from __future__ import annotations

import json
from typing import Any

VECTOR_SPEC_KEY = "shaping"
"""The key of the vector spec in manifests and hashes. It is the spec's former name: another one would change hashes."""


def as_json(value: Any) -> Any:
    """Return the value as JSON reads it back: tuples become lists."""
    return json.loads(json.dumps(value))


def differences(deployed: Any, other: Any, name: str = "release", key: str = "") -> list[str]:
    """Return a line for each key at which two vector specs differ, with both values.

    Parameters
    ----------
    deployed, other
        The deployment's vector spec, and the one that it is compared with. Items of a list that have a name are
        compared by it.
    name : str
        What the other one belongs to, for the lines.
    key : str
        The dotted key of both values.
    """
    deployed, other = as_json(deployed), as_json(other)
    if isinstance(deployed, list) and isinstance(other, list) and all(_is_named(item) for item in [*deployed, *other]):
        order, other_order = [item["name"] for item in deployed], [item["name"] for item in other]
        if order != other_order:
            return [f"{key}: {order} in the deployment, {other_order} in the {name}"]
        deployed, other = ({item["name"]: item for item in items} for items in (deployed, other))
    if isinstance(deployed, dict) and isinstance(other, dict):
        keys = {part: f"{key}.{part}" if key else part for part in (*deployed, *other)}
        return [
            difference
            for part, below in keys.items()
            for difference in differences(deployed.get(part), other.get(part), name, below)
        ]
    return [] if deployed == other else [f"{key}: {deployed!r} in the deployment, {other!r} in the {name}"]


def _is_named(item: Any) -> bool:
    return isinstance(item, dict) and "name" in item
