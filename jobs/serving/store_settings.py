"""The settings of a deployment's Feast store."""

from __future__ import annotations

import os
import re
from pathlib import Path

from feature_repo.online_settings import store_type
from feature_repo.settings import StoreSettings
from feature_repo.views import VIEW
from jobs.config.deployment import Deployment

ONLINE_USERS = "online_users"


def store_settings(deployment: Deployment) -> StoreSettings:
    """Return the store's settings, their paths resolved."""
    store, online = deployment.store, dict(deployment.store.online)
    if store_type(online["type"]) == "sqlite" and "path" in online:
        online["path"] = deployment.resolve(os.path.expandvars(online["path"]))
    return StoreSettings(
        project=store.project,
        folder=Path(deployment.resolve(store.folder)),
        registry=_registry(deployment),
        online=online,
        scenarios=deployment.scenario_names,
        table=deployment.table(VIEW),
        users=deployment.table(ONLINE_USERS),
        table_id=table_id,
        origin=deployment.path,
    )


def table_id(path: str) -> str | None:
    """Return Delta's id of the table at a path or URI; None where there is no table."""
    from jobs.lake.delta import open_path, table_exists  # a lookup seldom needs them

    return str(open_path(path).metadata().id) if table_exists(path) else None


def _registry(deployment: Deployment) -> str | None:
    """Return the URL of the registry; SQLAlchemy would start the path of a SQLite file at the current folder."""
    url = deployment.store.registry
    relative = re.fullmatch(r"(sqlite(?:\+\w+)?:///)([^/].*)", url or "")
    return relative[1] + deployment.resolve(os.path.expandvars(relative[2])) if relative else url
