"""Each example's loader run once on the publisher's data, where it is: DATA names the folder that holds the sets."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml
from deltalake import DeltaTable

from examples.runner import CONF, DATA
from jobs.config.deployment import Deployment


@pytest.fixture(scope="session")
def data() -> Callable[[str], Path]:
    """The folder of a data set; skips the test where it is missing."""

    def of(name: str) -> Path:
        folder = Path(os.environ.get("DATA") or DATA) / name
        if not folder.is_dir():
            pytest.skip(f"no {name} data in {folder}: name the folder that holds it with DATA=")
        return folder

    return of


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory) -> Callable[[str], Deployment]:
    """A deployment file's copy whose lake is a temporary folder."""

    def of(name: str) -> Deployment:
        folder = tmp_path_factory.mktemp(name)
        content = yaml.safe_load((CONF / f"{name}.yaml").read_text())
        content["lake"] = "lake"
        (folder / "deployment.yaml").write_text(yaml.safe_dump(content))
        return Deployment.read(folder / "deployment.yaml")

    return of


@pytest.fixture(scope="session")
def loaded(data, elsewhere) -> Callable[..., dict[str, pd.DataFrame]]:
    """The tables that a loader writes for a deployment file."""

    def of(deployment_name: str, data_name: str, load: Callable[[Deployment, Path], dict[str, int]]):
        folder, deployment = data(data_name), elsewhere(deployment_name)
        rows = load(deployment, folder)
        frames = {name: DeltaTable(deployment.table(name)).to_pandas() for name in rows}
        assert {name: len(frame) for name, frame in frames.items()} == rows
        return frames

    return of
