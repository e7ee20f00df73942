"""The Feast store: apply the definitions to it, open it.

`open_store`, `require_online` and `check_writable` compare what the registry and the online store hold with the
deployment: the lake that they belong to and the feature view. `apply` repairs the view, and `open_store` the paths in
the store's folder. Any other difference is refused.
"""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import feature_repo.no_torch  # noqa: F401

# isort: split
from feast import FeatureStore, RepoConfig
from feast.errors import FeastError

from feature_repo.online import OnlineView
from feature_repo.owner import Owner, own_lake, read_owner, registered_owner, require_own, write_owner
from feature_repo.redis_server import require_no_eviction
from feature_repo.registered_view import require_as_published, vector_widths
from feature_repo.repository import write_repository
from feature_repo.settings import StoreError, StoreSettings, repo_config
from feature_repo.views import OWNER, SERVICE, VIEW, Definitions, definitions

DRIVERS = ("sqlalchemy", "sqlite3", "redis", "psycopg", "psycopg2")
"""Modules whose errors come from a registry or an online store."""


def apply(settings: StoreSettings, width: int) -> FeatureStore:
    """Update the registry and the online store's tables to the settings, and return the store.

    Parameters
    ----------
    width : int
        Values in a vector.

    Raises
    ------
    StoreError
        The folder cannot be written to, or the registry or the online store cannot be used.
    """
    config = repo_config(settings)
    own = own_lake(settings, _registry_place(config))
    owner = own.text() if own.id else None
    write_repository(settings, settings.scenarios, width, owner)
    target = definitions(scenarios=settings.scenarios, table=settings.table, width=width, owner=owner)
    with (
        translate_store_errors(settings),
        warnings.catch_warnings(),
    ):  # Feast's Spark module sets a filter when it is imported
        store = FeatureStore(config=config)
        store.apply(target.objects, objects_to_delete=_removed_services(store, target), partial=False)
    if store.config.online_store.type == "sqlite":
        # In this mode readers neither wait for the publisher nor fail while it writes.
        with sqlite3.connect(store.config.online_store.path) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        connection.close()
    return store


def open_store(settings: StoreSettings) -> FeatureStore:
    """Open the store for reading, as `publish` left it.

    Raises
    ------
    StoreError
        Nothing was published to it, it belongs to another lake, or its feature view is not the one of `publish`.
    """
    store = find_store(settings)
    if store is None:
        config = repo_config(settings)
        raise StoreError(
            f"project {config.project!r} is not in the registry {config.registry.path}; run `instructue publish` first"
        )
    view = store.get_feature_view(VIEW)
    former = registered_owner(settings, view)
    _require_readers_lake(settings, former, _registry_place(store.config))
    require_as_published(settings, store)
    widths = vector_widths(view)
    with suppress(StoreError):  # a reader may not write to the folder
        write_repository(settings, [*widths], widths[next(iter(widths))], view.tags.get(OWNER))
    return store


def find_store(settings: StoreSettings) -> FeatureStore | None:
    """Open the store without a comparison; None where nothing was published to it.

    Raises
    ------
    StoreError
        The registry cannot be used.
    """
    config = repo_config(settings)
    path = config.registry.path
    if path.startswith("sqlite") and not Path(_file(path)).exists():
        return None
    with translate_store_errors(settings):
        store = FeatureStore(config=config)
        try:
            store.get_feature_view(VIEW)
        except FeastError:
            return None
        return store


def require_online(settings: StoreSettings, store: FeatureStore) -> None:
    """Check that the online store holds the vectors of the deployment's lake, for a reader.

    Raises
    ------
    StoreError
        The online store was emptied, is another one than was published to, or belongs to another lake.
    """
    former = read_owner(OnlineView(store))
    place = _online_place(store.config)
    if former is None and OWNER in store.get_feature_view(VIEW).tags:
        raise StoreError(
            f"{settings.origin}: {place} holds no vectors of project {settings.project!r}, which was published: it was "
            "emptied, or store.online named another one; correct store.online, or run `instructue publish` for the "
            "newest day"
        )
    _require_readers_lake(settings, former, place)


def check_writable(settings: StoreSettings, store: FeatureStore) -> bool:
    """Check that vectors may be written, and return whether the online store records an owner.

    Raises
    ------
    StoreError
        The registry or the online store holds the vectors of another lake, or the online store would lose some.
    """
    online = OnlineView(store)
    registered, recorded = registered_owner(settings, store.get_feature_view(VIEW)), read_owner(online)
    require_own(settings, registered, own_lake(settings, _registry_place(store.config)))
    require_own(settings, recorded, own_lake(settings, _online_place(store.config)))
    require_no_eviction(settings, online)
    return recorded is not None


def record_owner(settings: StoreSettings, online: OnlineView) -> None:
    """Record the deployment's lake as the owner of the online store."""
    write_owner(online, own_lake(settings, _online_place(online.config)))


@contextmanager
def translate_store_errors(settings: StoreSettings) -> Iterator[None]:
    """Raise an error of the registry or the online store as StoreError."""
    try:
        yield
    except Exception as error:
        of_store = type(error).__module__.partition(".")[0] in DRIVERS or isinstance(error, ModuleNotFoundError)
        if not of_store or "disk is full" in str(error):
            raise
        raise StoreError(
            f"{settings.origin}: the registry or the online store cannot be used: {_first_line(error)}; "
            "see store.registry and store.online. A SQLite file of theirs that is broken may be removed: "
            "`instructue publish` for the newest day writes it again"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _require_readers_lake(settings: StoreSettings, former: Owner | None, place: str) -> None:
    """Check the owner for a reader, who needs no access to a lake that has not moved."""
    if former is not None and former.table != settings.users:
        require_own(settings, former, own_lake(settings, place))


def _registry_place(config: RepoConfig) -> str:
    path = config.registry.path
    return f"the registry {_file(path)}" if path.startswith("sqlite") else f"the registry in {path.partition(':')[0]}"


def _online_place(config: RepoConfig) -> str:
    online = config.online_store
    return f"the online store {online.path}" if online.type == "sqlite" else f"the online store in {online.type}"


def _file(url: str) -> str:
    """Return the path of a SQLite file from its SQLAlchemy URL."""
    return url.partition(":///")[2]


def _removed_services(store: FeatureStore, target: Definitions) -> list[Any]:
    """Return the registered services of scenarios that were removed."""
    names = {service.name for service in target.services}
    return [
        service
        for service in store.list_feature_services()
        if service.name.startswith(SERVICE) and service.name not in names
    ]
