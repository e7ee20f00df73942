"""The Feast store: apply the definitions to it, open it.

`apply` writes `feature_store.yaml` and `definitions.py` into the store's folder, which makes the folder a Feast
repository: `feast -c <folder> ...` works there without another setting.
"""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import feature_repo.no_torch  # noqa: F401

# isort: split
from feast import FeatureStore
from feast.errors import FeastError

from feature_repo.settings import StoreError, StoreSettings, feature_store_yaml, repo_config
from feature_repo.views import SERVICE, VIEW, Definitions, definitions
from model.atomic_write import atomic_write_text

DEFINITIONS = '''"""Written by `publish` for the command line of Feast; edit the deployment file and publish instead."""

from feature_repo.views import definitions

parts = definitions(scenarios={scenarios!r}, table={table!r}, width={width})
entity, source, view = parts.entity, parts.source, parts.view
globals().update((service.name, service) for service in parts.services)
'''
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
    _write_repository(settings, width)
    target = definitions(scenarios=settings.scenarios, table=settings.table, width=width)
    with (
        translate_store_errors(settings),
        warnings.catch_warnings(),
    ):  # Feast's Spark module sets a filter when it is imported
        store = FeatureStore(config=repo_config(settings))
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
        Nothing was published to it.
    """
    config = repo_config(settings)
    path = config.registry.path.removeprefix("sqlite:///")
    unpublished = StoreError(
        f"project {config.project!r} is not in the registry {config.registry.path}; run `instructue publish` first"
    )
    if path != config.registry.path and not Path(path).exists():
        raise unpublished
    with translate_store_errors(settings):
        store = FeatureStore(config=config)
        try:
            store.get_feature_view(VIEW)
        except FeastError:
            raise unpublished from None
        return store


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


def _removed_services(store: FeatureStore, target: Definitions) -> list[Any]:
    """Return the registered services of scenarios that were removed."""
    names = {service.name for service in target.services}
    return [
        service
        for service in store.list_feature_services()
        if service.name.startswith(SERVICE) and service.name not in names
    ]


def _write_repository(settings: StoreSettings, width: int) -> None:
    """Write the two files that Feast's command line loads, where they differ from those in the folder."""
    try:
        settings.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"{settings.origin}: store.folder = {settings.folder}: {error.strerror}; name a folder that may be "
            "written to"
        ) from None
    texts = {
        "feature_store.yaml": feature_store_yaml(settings),
        "definitions.py": DEFINITIONS.format(scenarios=settings.scenarios, table=settings.table, width=width),
    }
    for name, text in texts.items():
        path = settings.folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            atomic_write_text(path, text)
