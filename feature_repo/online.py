"""Rows of the feature view in the online store: read, compare, write and clear them, in any store of Feast.

Feast cannot delete one user from an online store, and a write leaves features that it does not name. A user is
therefore cleared by a row in which every feature is null: the store then has no vector, and a lookup returns none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import feature_repo.no_torch  # noqa: F401

# isort: split
from feast import FeatureStore
from feast.infra.online_stores.helpers import get_online_store_from_config
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value

from feature_repo.views import VIEW

NULL = Value()


@dataclass(frozen=True, kw_only=True, eq=False)
class OnlineRow:
    """A user's row: its time, and the features that are not null."""

    user_id: str
    as_of: datetime | None
    values: dict[str, Value]

    def same(self, other: OnlineRow) -> bool:
        """Return whether a lookup returns the same from both rows."""
        # Without as_of: a lookup does not return it, and SQLite returns that of any feature, also of one removed since.
        return self.values == other.values


class OnlineView:
    """The feature view in the online store of `store`, one row per user."""

    def __init__(self, store: FeatureStore) -> None:
        self.config = store.config
        self.view = store.get_feature_view(VIEW)
        self.features = [feature.name for feature in self.view.features]
        self.online: Any = get_online_store_from_config(self.config.online_store)

    def create(self) -> None:
        """Create what the store lacks to hold the view, such as a table that was lost."""
        self.online.update(self.config, [], [self.view], [], [], partial=True)

    def read(self, users: Sequence[str]) -> list[OnlineRow]:
        """Return the rows of these users, in their order; a user who is not in the store has a row without values."""
        # A copy of the list, because the store may add a name of its own to it.
        rows = self.online.online_read(self.config, self.view, [entity_key(user) for user in users], [*self.features])
        return [
            OnlineRow(user_id=user, as_of=as_of, values=self._values(values or {}))
            for user, (as_of, values) in zip(users, rows, strict=True)
        ]

    def write(self, rows: Sequence[OnlineRow]) -> None:
        """Write whole rows: a feature that is not in a row becomes null."""
        now = datetime.now(UTC)
        data = []
        for row in rows:
            values = {name: row.values.get(name, NULL) for name in self.features}
            data.append((entity_key(row.user_id), values, row.as_of or now, now))
        self.online.online_write_batch(self.config, self.view, data, None)

    def _values(self, values: dict[str, Value]) -> dict[str, Value]:
        return {
            name: values[name]
            for name in self.features
            if name in values and values[name].WhichOneof("val") is not None
        }


def online_row(user_id: str, as_of: int, features: Mapping[str, bytes | str | int | None]) -> OnlineRow:
    """Return a user's row from its cells in `user_vectors`; times are seconds since 1970, UTC."""
    values = {name: _value(cell) for name, cell in features.items() if cell is not None}
    return OnlineRow(user_id=user_id, as_of=datetime.fromtimestamp(as_of, UTC), values=values)


def _value(cell: bytes | str | int) -> Value:
    if isinstance(cell, bytes):
        return Value(bytes_val=cell)
    return Value(string_val=cell) if isinstance(cell, str) else Value(unix_timestamp_val=cell)


def entity_key(user: str) -> Any:
    """Return Feast's key of a user."""
    return EntityKey(join_keys=["user_id"], entity_values=[Value(string_val=user)])
