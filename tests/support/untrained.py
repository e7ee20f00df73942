"""Releases of untrained networks over made-up profiles."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from model.data.config import NetworkConfig, Tabular
from model.serving.export import export
from model.serving.release import Release, read
from model.training.training import initialise
from tests.support.made_once import make_once
from tests.support.made_up import made_up_pairs, made_up_profiles, network_config

SCENARIOS = {"universal": None, "food": "Predict whether this user will order food next month.", "films": "What films?"}
VECTOR_SPEC: dict[str, Any] = {
    "sources": [{"name": "bill", "template": "paid {band}", "max_events": 60, "max_tokens": 16, "window_days": 365}],
    "numbers": ["bills", "income"],
    "categories": ["city"],
}


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A release, the checkpoint that it was exported from, and the profiles that its gates compared."""

    checkpoint: Path
    release: Release
    profiles: pa.Table


def export_full(folder: Path) -> Exported:
    """Export the network of `network_config` with three scenarios, unless the folder holds it."""
    return _export(folder, "made_up", made_up_profiles(40), network_config(), SCENARIOS)


def export_plain(folder: Path) -> Exported:
    """Export the smallest network: one source, one layer, a linear adapter, no pooled token, band or tabular column.

    The folder is left as it is when it holds the release.
    """
    full = network_config()
    config = NetworkConfig(
        sources=full.sources[:1],
        encoder=replace(full.encoder, layers=1),
        backbone=replace(full.backbone, layers=1),
        tabular=Tabular(),
        shared_encoder=True,
        adapter="linear",
        pooled_tokens=False,
        time_bands=False,
    )
    return _export(folder, "plain", made_up_profiles(12), config, {"universal": None})


def _export(
    folder: Path, name: str, profiles: pa.Table, config: NetworkConfig, scenarios: dict[str, str | None]
) -> Exported:
    def make(at: Path) -> None:
        release = export(
            initialise(profiles, made_up_pairs(profiles), config, at / "checkpoint"),
            at / "releases",
            scenarios=scenarios,
            vector_spec=VECTOR_SPEC,
            deployment=f"name: {name}\n",
            profiles=profiles,
        )
        # Tests put further releases beside it.
        (at / "first").symlink_to(release.path, target_is_directory=True)

    release = (make_once(folder, make) / "first").resolve()
    return Exported(checkpoint=folder / "checkpoint", release=read(release), profiles=profiles)
