"""Fixtures that run the loader of each example once; DATA names the folder of the data sets."""

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
    """Return the folder of a data set; skip the test where it is missing."""

    def of(name: str) -> Path:
        folder = Path(os.environ.get("DATA") or DATA) / name
        if not folder.is_dir():
            pytest.skip(f"no {name} data in {folder}: name the folder of the data sets with DATA=")
        return folder

    return of


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory) -> Callable[[str], Deployment]:
    """Copy a deployment file into a temporary folder, with its lake there."""

    def of(name: str) -> Deployment:
        folder = tmp_path_factory.mktemp(name)
        content = yaml.safe_load((CONF / f"{name}.yaml").read_text())
        content["lake"] = "lake"
        (folder / "deployment.yaml").write_text(yaml.safe_dump(content))
        return Deployment.read(folder / "deployment.yaml")

    return of


@pytest.fixture(scope="session")
def loaded(data, elsewhere) -> Callable[..., dict[str, pd.DataFrame]]:
    """Return the tables that a loader writes for a deployment file."""

    def of(deployment_name: str, data_name: str, load: Callable[[Deployment, Path], dict[str, int]]):
        folder, deployment = data(data_name), elsewhere(deployment_name)
        rows = load(deployment, folder)
        frames = {name: DeltaTable(deployment.table(name)).to_pandas() for name in rows}
        assert {name: len(frame) for name, frame in frames.items()} == rows
        return frames

    return of
