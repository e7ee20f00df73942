"""The Feast store of a deployment: its settings, opening it, applying the definitions to it.

`apply` also writes `feature_store.yaml` and `definitions.py` into the store's folder, which makes the folder
a Feast repository: `feast -c <folder> ...` works there without another setting.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

import feature_repo.no_torch  # noqa: F401

# isort: split
from feast import FeatureStore, RepoConfig
from feast.errors import FeastError

from feature_repo.views import SERVICE, VIEW, Definitions, definitions
from jobs.config.deployment import Deployment
from model.atomic_write import atomic_write_text
from model.errors import InstructUEError

TEMPLATE = Path(__file__).with_name("feature_store.yaml")
DEFINITIONS = '''"""Written by `publish` for the command line of Feast; edit the deployment file instead."""

from feature_repo.views import definitions
from jobs.config.deployment import Deployment

parts = definitions(Deployment.read({path!r}), width={width})
entity, source, view = parts.entity, parts.source, parts.view
globals().update((service.name, service) for service in parts.services)
'''


DRIVERS = ("sqlalchemy", "sqlite3", "redis", "psycopg", "psycopg2")
"""Modules whose errors tell of a registry or an online store."""


class StoreError(InstructUEError):
    """A store that cannot be opened or read as asked."""


def settings(deployment: Deployment) -> str:
    """The text of `feature_store.yaml` for a deployment, environment variables in it not yet replaced."""
    store, folder = deployment.store, Path(deployment.resolve(deployment.store.folder))
    online = dict(store.online)
    if online.get("type") == "sqlite":
        online["path"] = deployment.resolve(online["path"]) if "path" in online else str(folder / "online.db")
    if online.get("type") == "redis":
        # Redis drops a row whose time is not later than the stored one: a day computed again would change nothing.
        online["skip_dedup"] = True
    registry = store.registry or f"sqlite:///{folder / 'registry.db'}"
    values = {"project": store.project, "registry": registry, "online": online}
    text = TEMPLATE.read_text(encoding="utf-8")
    comment, _, body = text.partition("project:")
    for name, value in values.items():
        body = body.replace(f" {{{name}}}", f" {json.dumps(value)}")
    return f"{comment}project:{body}"


def repo_config(deployment: Deployment) -> RepoConfig:
    """Feast's configuration of a deployment.

    The offline store is named by its type alone: the Spark session is the caller's, and a lookup never loads it.

    Raises
    ------
    StoreError
        Feast knows no such online store, or not with these settings; or the environment lacks a variable that they
        name.
    """
    text = settings(deployment)
    named = [
        whole or braced
        for line in text.splitlines()
        if not line.lstrip().startswith("#")
        for whole, braced in re.findall(r"\$(\w+)|\$\{(\w+)\}", line)
    ]
    if missing := [name for name in named if name not in os.environ]:
        raise StoreError(
            f"{deployment.path}: store names ${missing[0]}, and the environment has no such variable; export it"
        )
    values: dict[str, Any] = yaml.safe_load(os.path.expandvars(text))
    try:
        return RepoConfig(**{**values, "offline_store": "spark"})
    except ValidationError as error:
        # Without the values found: a password may stand among them.
        wrong = "; ".join(f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}" for detail in error.errors())
        raise StoreError(f"{deployment.path}: store.online or store.registry does not suit Feast: {wrong}") from None
    except FeastError as error:
        kind = deployment.store.online["type"]
        raise StoreError(
            f"{deployment.path}: store.online.type = {kind!r}: {error}; name a store that Feast has, such "
            f"as sqlite, and install what it needs, such as `feast[{kind}]`"
        ) from None


@contextmanager
def translate_store_errors(deployment: Deployment) -> Iterator[None]:
    """Raise what keeps the registry or the online store from being read or written as StoreError."""
    try:
        yield
    except Exception as error:
        store = type(error).__module__.partition(".")[0] in DRIVERS or isinstance(error, ModuleNotFoundError)
        if not store or "disk is full" in str(error):
            raise
        raise StoreError(
            f"{deployment.path}: the registry or the online store cannot be used: {_first_line(error)}; "
            "see store.registry and store.online. A SQLite file of theirs that is broken may be removed: "
            "`instructue publish` for the newest day writes it again"
        ) from error


def apply(deployment: Deployment, width: int) -> FeatureStore:
    """Bring the registry and the online store's tables to the deployment, and return the store.

    Parameters
    ----------
    width
        Values in a vector.
    """
    folder = Path(deployment.resolve(deployment.store.folder))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"{deployment.path}: store.folder = {deployment.store.folder}: {error.strerror}; name a "
            "folder that may be written to"
        ) from None
    _write(folder / "feature_store.yaml", settings(deployment))
    _write(folder / "definitions.py", DEFINITIONS.format(path=str(deployment.path), width=width))
    wanted = definitions(deployment, width)
    with (
        translate_store_errors(deployment),
        warnings.catch_warnings(),
    ):  # Feast's Spark module sets a filter when it is imported
        store = FeatureStore(config=repo_config(deployment))
        store.apply(wanted.objects, objects_to_delete=_left_over(store, wanted), partial=False)
    if store.config.online_store.type == "sqlite":
        # Readers must not wait for the publisher, nor fail while it writes.
        with sqlite3.connect(store.config.online_store.path) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        connection.close()
    return store


def open_store(deployment: Deployment) -> FeatureStore:
    """The store as `publish` left it, for reading.

    Raises
    ------
    StoreError
        Nothing was published to it yet.
    """
    config = repo_config(deployment)
    path = config.registry.path.removeprefix("sqlite:///")
    unpublished = StoreError(
        f"project {config.project!r} is not in the registry {config.registry.path}; run `instructue publish` first"
    )
    if path != config.registry.path and not Path(path).exists():
        raise unpublished
    with translate_store_errors(deployment):
        store = FeatureStore(config=config)
        try:
            store.get_feature_view(VIEW)
        except FeastError:
            raise unpublished from None
        return store


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _left_over(store: FeatureStore, wanted: Definitions) -> list[Any]:
    """Services of scenarios that the deployment has no more."""
    names = {service.name for service in wanted.services}
    return [
        service
        for service in store.list_feature_services()
        if service.name.startswith(SERVICE) and service.name not in names
    ]


def _write(path: Path, text: str) -> None:
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        atomic_write_text(path, text)
