"""The lake whose vectors a store holds.

A store outlives the deployment file, and two lakes that publish to one project would overwrite each other's vectors.
`publish` therefore records the owner in the registry and in the online store, and everybody who opens the store
compares it with the deployment's lake. A lake is known by the id of its table `online_users`: the id stays when the
lake is moved or copied, and without that table nothing lists the users who are online.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import feature_repo.no_torch  # noqa: F401

# isort: split
from feast import FeatureView
from feast.protos.feast.types.Value_pb2 import Value

from feature_repo.online import OnlineRow, OnlineView
from feature_repo.settings import StoreError, StoreSettings
from feature_repo.views import OWNER

ROW, FEATURE = "(owner) ", "universal_model_version"
"""The row and the feature of the online store that hold the owner; no user id ends with a blank."""


@dataclass(frozen=True, kw_only=True)
class Owner:
    """A lake, and the place in which it is recorded as the owner."""

    table: str
    """Path or URI of its table `online_users`."""
    id: str | None
    """Delta's id of that table; None where there is none."""
    place: str
    """The registry or the online store; a SQLite file that is copied is in another place."""

    def text(self) -> str:
        """Return the owner as it is recorded."""
        return json.dumps(asdict(self), sort_keys=True)


def own_lake(settings: StoreSettings, place: str) -> Owner:
    """Return the deployment's own lake."""
    return Owner(table=settings.users, id=settings.table_id(settings.users), place=place)


def registered_owner(settings: StoreSettings, view: FeatureView) -> Owner | None:
    """Return the owner of a registered feature view; None where it may be any lake."""
    if OWNER in view.tags:
        return _parse(view.tags[OWNER])
    # Earlier versions of the project registered the path of `user_vectors` alone.
    table = getattr(view.batch_source, "path", None) or settings.table
    users = f"{table.rpartition('/')[0]}/{settings.users.rpartition('/')[2]}"
    id = None if table == settings.table else settings.table_id(users)
    return Owner(table=users, id=id, place="") if id else None


def read_owner(online: OnlineView) -> Owner | None:
    """Return the owner that the online store records; None where it records none."""
    value = online.read([ROW])[0].values.get(FEATURE)
    return None if value is None else _parse(value.string_val)


def write_owner(online: OnlineView, owner: Owner) -> None:
    """Record the owner in the online store, where it differs."""
    if read_owner(online) != owner:
        values = {FEATURE: Value(string_val=owner.text())}
        online.write([OnlineRow(user_id=ROW, as_of=datetime.now(UTC), values=values)])


def require_own(settings: StoreSettings, former: Owner | None, own: Owner) -> None:
    """Check that a recorded owner is the deployment's own lake, which may have been moved or copied since.

    Raises
    ------
    StoreError
        The store holds the vectors of another lake.
    """
    if former is None or (former.table, former.id) == (own.table, own.id):
        return
    if former.id == own.id:
        copied_along = former.place != own.place
        if copied_along or settings.table_id(former.table) != former.id:
            return
        reason = f"of which {own.table} is a copy"
    elif former.table == own.table:
        reason = "which was made anew since, so no table lists the users who are online"
    else:
        reason = f"and this deployment's lake has {own.table}"
    raise StoreError(
        f"{settings.origin}: store.project = {settings.project!r}: {own.place} holds the vectors of the lake with "
        f"{former.table}, {reason}; publish this lake to a project of its own: name another store.project"
    )


def _parse(text: str) -> Owner:
    return Owner(**json.loads(text))
