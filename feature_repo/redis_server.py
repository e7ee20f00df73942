"""What a Redis may do to rows beside Feast: evict them when its memory is full, or expire them.

The functions do nothing for another store.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import feature_repo.no_torch  # noqa: F401

# isort: split
from feast.infra.online_stores.helpers import _redis_key

from feature_repo.online import OnlineView, entity_key
from feature_repo.online_settings import PROMISE
from feature_repo.settings import StoreError, StoreSettings

logger = logging.getLogger(__name__)


def require_no_eviction(settings: StoreSettings, view: OnlineView) -> None:
    """Check that the server does not evict rows when its memory is full.

    Raises
    ------
    StoreError
        Its `maxmemory-policy` evicts keys that have no expiry.
    """
    client = _client(view)
    if client is None:
        return
    from redis.exceptions import ResponseError

    try:
        memory = client.info("memory")
    except ResponseError as error:  # a managed server may forbid the command
        logger.warning("redis does not tell its maxmemory-policy (%s); make sure that it is noeviction", error)
        return
    nodes = [memory] if "maxmemory_policy" in memory else memory.values()
    for node in nodes:
        if node.get("maxmemory") and node["maxmemory_policy"].startswith("allkeys"):
            raise StoreError(
                f"{settings.origin}: store.online: redis has maxmemory {node['maxmemory']} and maxmemory-policy "
                f"{node['maxmemory_policy']}, so it would evict vectors, and {PROMISE}; set maxmemory-policy to "
                "noeviction, and maxmemory to what all users need"
            )


def remove_expiry(view: OnlineView, batches: Iterable[Sequence[str]]) -> None:
    """Keep the rows of these users, which an earlier version of the project may have written with an expiry."""
    client = _client(view)
    if client is None:
        return
    version = view.config.entity_key_serialization_version
    for users in batches:
        with client.pipeline(transaction=False) as pipeline:
            for user in users:
                pipeline.persist(_redis_key(view.config.project, entity_key(user), version))
            pipeline.execute()


def _client(view: OnlineView) -> Any | None:
    """Return the client that Feast has opened; None where the store is no Redis."""
    online = view.config.online_store
    return view.online._get_client(online) if online.type == "redis" else None
