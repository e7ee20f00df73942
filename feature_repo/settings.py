"""The settings of a Feast store, as plain values and as Feast reads them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

import feature_repo.no_torch  # noqa: F401

# isort: split
from feast import RepoConfig
from feast.errors import FeastError

from feature_repo import online_settings
from model.errors import InstructUEError

TEMPLATE = Path(__file__).with_name("feature_store.yaml")


class StoreError(InstructUEError):
    """A store that cannot be opened, read or written."""


@dataclass(frozen=True, kw_only=True)
class StoreSettings:
    """The settings of a store.

    Attributes
    ----------
    project : str
        Feast's project.
    folder : Path
        The folder for Feast's files.
    registry : str or None
        SQLAlchemy URL of the registry; None: a SQLite file in `folder`.
    online : mapping
        Feast's settings of the online store, `type` among them.
    scenarios : tuple of str
        The scenarios that have features.
    table, users : str
        Path or URI of the tables `user_vectors` and `online_users`.
    table_id : callable
        Returns Delta's id of the table at a path or URI; None where there is none.
    origin : Path
        The file that the settings come from; messages name it.
    """

    project: str
    folder: Path
    registry: str | None
    online: Mapping[str, Any]
    scenarios: tuple[str, ...]
    table: str
    users: str
    table_id: Callable[[str], str | None]
    origin: Path


def feature_store_yaml(settings: StoreSettings) -> str:
    """Return the text of `feature_store.yaml`; environment variables in it are not replaced."""
    online = online_settings.complete(settings.online)
    if online_settings.store_type(online["type"]) == "sqlite":
        online.setdefault("path", str(settings.folder / "online.db"))
    registry = settings.registry or f"sqlite:///{settings.folder / 'registry.db'}"
    values = {"project": settings.project, "registry": registry, "online": online}
    comment, _, body = TEMPLATE.read_text(encoding="utf-8").partition("project:")
    for name, value in values.items():
        body = body.replace(f" {{{name}}}", f" {json.dumps(value, ensure_ascii=False)}")
    return f"{comment}project:{body}"


def repo_config(settings: StoreSettings) -> RepoConfig:
    """Return Feast's configuration.

    It names the offline store by its type alone: a job has a Spark session already, and a lookup loads no Spark.

    Raises
    ------
    StoreError
        Feast has no such online store, the store has no such setting, or an environment variable is missing.
    """
    text = feature_store_yaml(settings)
    if missing := [name for name in _variables(text) if name not in os.environ]:
        raise StoreError(
            f"{settings.origin}: store names ${missing[0]}, and the environment has no such variable; export it"
        )
    values: dict[str, Any] = yaml.safe_load(os.path.expandvars(text))
    try:
        return RepoConfig(**{**values, "offline_store": "spark"})
    except ValidationError as error:
        # The message leaves the values out: one of them may be a password.
        wrong = "; ".join(f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}" for detail in error.errors())
        raise StoreError(f"{settings.origin}: store.online or store.registry does not suit Feast: {wrong}") from None
    except FeastError as error:
        kind = settings.online["type"]
        raise StoreError(
            f"{settings.origin}: store.online.type = {kind!r}: {error}; name a store that Feast has, such "
            f"as sqlite, and install what it needs, such as `feast[{kind}]`"
        ) from None


def _variables(text: str) -> list[str]:
    """Return the environment variables that a YAML text names outside its comments."""
    return [
        plain or braced
        for line in text.splitlines()
        if not line.lstrip().startswith("#")
        for plain, braced in re.findall(r"\$(\w+)|\$\{(\w+)\}", line)
    ]
