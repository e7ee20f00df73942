"""Settings of a store that would lose vectors, or keep what must go: refused when the file is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.config.deployment import DeploymentError
from tests.support.deployment import deploy
from tests.support.error_page import case, refused

EXPIRE = "rows would expire, and a user without new events keeps the vector until the user is deactivated; remove"
COPY = "the store keeps a copy of each text that is not cleared with the user's row; remove the key"
PACKED = "the vectors are packed bytes, which a store cannot search"
REDIS = "feast.infra.online_stores.redis.RedisOnlineStore"
ON_PAGE = [
    # feast #2341, #3275, #4679
    case("an online store whose keys expire", {"type": "redis", "key_ttl_seconds": 86400}),
    # feast #2795, #5163
    case("an online store that keeps its own row", {"type": "redis", "skip_dedup": False}),
    case("a store in the memory of one process", {"type": "sqlite", "path": ":memory:"}),
]
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "an online store whose keys expire, by a variable": (
        {"type": "redis", "key_ttl_seconds": "$TTL"},
        f"key_ttl_seconds = '$TTL': {EXPIRE}",
    ),
    "a Hazelcast whose entries expire": ({"type": "hazelcast", "key_ttl_seconds": 60}, f"= 60: {EXPIRE}"),
    "an Aerospike whose records expire": (
        {"type": "aerospike", "ttl_seconds": 60},
        "ttl_seconds = 60: without it rows",
    ),
    "an Aerospike with its namespace's expiry": ({"type": "aerospike", "ttl_seconds": None}, "ttl_seconds = None: "),
    "a MongoDB whose documents expire": (
        {"type": "mongodb", "client_kwargs": {"expireAfterSeconds": 60}},
        f"client_kwargs.expireAfterSeconds = 60: {EXPIRE}",
    ),
    "a store of another package whose rows expire": ({"type": "theirs.OwnOnlineStore", "row_ttl": 1}, f"= 1: {EXPIRE}"),
    "a Redis by its class that keeps its own row": (
        {"type": REDIS, "skip_dedup": False},
        "skip_dedup = False: without",
    ),
    "a SQLite for search": ({"type": "sqlite", "vector_enabled": True}, f"vector_enabled = True: {PACKED}"),
    "a PostgreSQL for search": ({"type": "postgres", "vector_enabled": True}, f"vector_enabled = True: {PACKED}"),
    "a SQLite for search in texts": ({"type": "sqlite", "text_search_enabled": True}, f"= True: {COPY}"),
    "a store that is read-only": ({"type": "chronon"}, "type chronon cannot hold the vectors: it cannot be written to"),
    "a store that routes by a tag": ({"type": "hybrid", "online_stores": []}, "type hybrid cannot hold the vectors: "),
    "a store of an index in memory": (
        {"type": "feast.infra.online_stores.faiss_online_store.FaissOnlineStore"},
        "cannot hold the vectors: it keeps rows in the memory of one process",
    ),
}


@pytest.mark.parametrize(
    ("wrong", "online"), [*ON_PAGE, *(case(wrong, online, said=said) for wrong, (online, said) in WRONG.items())]
)
def test_a_setting_that_breaks_a_promise_is_refused(wrong: str, online: dict[str, Any], tmp_path: Path) -> None:
    with refused(wrong):
        deploy(tmp_path, store={"folder": "store", "online": online})


@pytest.mark.parametrize("registry", ["sqlite://", "sqlite:///:memory:", "sqlite+pysqlite:///:memory:"])
# sandman #46
def test_a_registry_in_memory_is_refused(registry: str, tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match="is in the memory of one process; name a file, or"):
        deploy(tmp_path, store={"folder": "store", "registry": registry})


def test_a_message_about_a_store_shows_no_password(tmp_path: Path) -> None:
    online = {"type": "redis", "connection_string": "redis:6379,password=s3cret", "key_ttl_seconds": 60}
    with pytest.raises(DeploymentError) as caught:
        deploy(tmp_path, store={"folder": "store", "online": online})
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "online",
    [
        {"type": "redis", "key_ttl_seconds": None},
        {"type": "redis", "key_ttl_seconds": 0, "skip_dedup": True, "full_scan_for_deletion": False},
        {"type": "sqlite", "vector_enabled": False, "path": "online.db"},
        {"type": "cassandra", "hosts": ["db"], "keyspace": "k", "read_concurrency": 100},
        {"type": "remote", "path": "http://feast:6566", "connection_idle_timeout": 300},
    ],
    ids=str,
)
def test_other_settings_are_taken(online: dict[str, Any], tmp_path: Path) -> None:
    assert deploy(tmp_path, store={"folder": "store", "online": online}).store.online == online
