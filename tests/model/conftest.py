"""Releases of untrained networks over made-up profiles, each exported once for all tests."""

from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pytest

from model.data.config import NetworkConfig, Tabular
from model.serving.export import export
from model.serving.release import Release
from model.training.training import initialise
from tests.support.made_up import made_up_pairs, made_up_profiles, network_config

SCENARIOS = {"universal": None, "food": "Predict whether this user will order food next month.", "films": "What films?"}
SHAPING = {
    "sources": [{"name": "bill", "template": "paid {band}", "max_events": 60, "max_tokens": 16, "window_days": 365}],
    "numbers": ["bills", "income"],
    "categories": ["city"],
}


@dataclass(frozen=True, kw_only=True)
class Exported:
    checkpoint: Path
    release: Release
    profiles: pa.Table


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("exported")
    profiles = made_up_profiles(40)
    checkpoint = initialise(
        profiles, made_up_pairs(profiles), network_config(), folder / "checkpoint", log=lambda line: None
    )
    release = export(
        checkpoint,
        folder / "releases",
        scenarios=SCENARIOS,
        shaping=SHAPING,
        deployment="name: made_up\n",
        profiles=profiles,
    )
    return Exported(checkpoint=checkpoint, release=release, profiles=profiles)


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The smallest there is: one source, one layer, one linear adapter, no pooled token, band or tabular
    column.
    """
    folder = tmp_path_factory.mktemp("plain")
    whole = network_config()
    config = NetworkConfig(
        sources=whole.sources[:1],
        encoder=replace(whole.encoder, layers=1),
        backbone=replace(whole.backbone, layers=1),
        tabular=Tabular(),
        shared_encoder=True,
        adapter="linear",
        pooled_tokens=False,
        time_bands=False,
    )
    profiles = made_up_profiles(12)
    checkpoint = initialise(profiles, made_up_pairs(profiles), config, folder / "checkpoint", log=lambda line: None)
    release = export(
        checkpoint,
        folder / "releases",
        scenarios={"universal": None},
        shaping=SHAPING,
        deployment="name: plain\n",
        profiles=profiles,
    )
    return Exported(checkpoint=checkpoint, release=release, profiles=profiles)
