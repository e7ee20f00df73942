"""The settings of an online store: those that the project sets, and those that break one of its promises.

It imports no Feast, so that a deployment file is refused when it is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

PROMISE = "a user without new events keeps the vector until the user is deactivated"
EXPIRY = re.compile(r"ttl|expir|evict", re.IGNORECASE)
"""Names of settings with which a store forgets rows."""
REQUIRED: dict[str, dict[str, tuple[Any, str]]] = {
    "redis": {
        "skip_dedup": (True, "without it Redis keeps its row where a day that is computed again has the same time")
    },
    "aerospike": {"ttl_seconds": (0, f"without it rows expire as the namespace says, and {PROMISE}")},
}
"""By type of store: the settings that must have a value, which is also the default, and why."""
COPIES = {
    "vector_enabled": "the vectors are packed bytes, which a store cannot search; search in SQL with most_similar",
    "text_search_enabled": "the store keeps a copy of each text that is not cleared with the user's row",
}
"""Settings of any store that must be off, and why."""
UNUSABLE = {
    "chronon": "it cannot be written to",
    "hybrid": "it chooses a store by a tag that the feature view does not have; name that store itself",
    "faiss": "it keeps rows in the memory of one process",
}
"""Types of stores that cannot hold the vectors, and why."""


def store_type(kind: str) -> str:
    """Return the short name of a type: `redis` for `feast.infra.online_stores.redis.RedisOnlineStore`."""
    name = kind.rpartition(".")[2]
    return name.removesuffix("OnlineStore").lower() if name.endswith("OnlineStore") else kind


def complete(online: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of an online store with those that the project requires."""
    required = REQUIRED.get(store_type(online["type"]), {})
    return {**online, **{key: value for key, (value, _) in required.items()}}


def validate(online: Mapping[str, Any]) -> None:
    """Check the settings of an online store.

    Raises
    ------
    ValueError
        The store cannot hold the vectors, or a setting would lose some or keep what must go; with the reason.
    """
    kind = store_type(online["type"])
    if kind in UNUSABLE:
        raise ValueError(f"type {online['type']} cannot hold the vectors: {UNUSABLE[kind]}")
    if kind == "sqlite" and ":memory:" in str(online.get("path")):
        raise ValueError("path is in the memory of one process: name a file, or remove the key")
    required = REQUIRED.get(kind, {})
    for key, value in online.items():
        if key in required and value != required[key][0]:
            raise ValueError(f"{key} = {value!r}: {required[key][1]}; remove the key")
        if key in COPIES and value:
            raise ValueError(f"{key} = {value!r}: {COPIES[key]}; remove the key")
    for key, value in _leaves(online):
        if EXPIRY.search(key.rpartition(".")[2]) and value not in (None, 0, False, "", "0"):
            raise ValueError(f"{key} = {value!r}: rows would expire, and {PROMISE}; remove the key")


def _leaves(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and the value of each setting."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
