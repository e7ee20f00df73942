"""The settings of a deployment's Feast store."""

from __future__ import annotations

from pathlib import Path

from feature_repo.settings import StoreSettings
from feature_repo.views import VIEW
from jobs.config.deployment import Deployment


def store_settings(deployment: Deployment) -> StoreSettings:
    """Return the store's settings, their paths resolved."""
    store, online = deployment.store, dict(deployment.store.online)
    if online.get("type") == "sqlite" and "path" in online:
        online["path"] = deployment.resolve(online["path"])
    return StoreSettings(
        project=store.project,
        folder=Path(deployment.resolve(store.folder)),
        registry=store.registry,
        online=online,
        scenarios=deployment.scenario_names,
        table=deployment.table(VIEW),
        origin=deployment.path,
    )
