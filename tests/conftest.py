"""The order of the tests, and fixtures for all of them: a Spark session, deployments, releases and lakes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jobs.config.deployment import Deployment
from jobs.console import logs
from tests.support.deployment import deploy
from tests.support.made_once import make_once, run_folder

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import SparkSession

    from tests.support.lake_history import History
    from tests.support.shop import ReleaseCache

TESTS = Path(__file__).parent

# Two files run at a time: threads that wait for one another while others hold the cores cost ten times what they save.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A model that is not on this machine is refused at once, without waiting for a server.
os.environ.setdefault("HF_HUB_OFFLINE", "1")


NETWORK_FOLDERS = ("model", "benchmarks", "jobs/training", "jobs/serving", "jobs/evaluation")
"""Folders whose tests compute with networks."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first, so that no worker is left alone with one at the end of the run.

    A test that runs Spark takes a few seconds and one that runs a network takes one. The others take none.
    """
    seconds: Counter[Path] = Counter()
    for item in items:
        folder = item.path.parent.relative_to(TESTS).as_posix()
        seconds[item.path] += 4 if "spark" in item.fixturenames else folder.startswith(NETWORK_FOLDERS)
    items.sort(key=lambda item: -seconds[item.path])


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    """Undo the logging that a test of the command line set up in this process."""
    yield
    logs.remove()


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """Return the session that `get_session` starts for a small deployment."""
    from jobs.lake.session import get_session

    started = get_session(deploy(tmp_path_factory.mktemp("session")))
    yield started
    started.stop()


@pytest.fixture
def deployment(tmp_path: Path) -> Callable[..., Deployment]:
    """Return a function that writes a deployment into the test's folder, with the keys that it is called with."""
    return lambda **changes: deploy(tmp_path, **changes)


@pytest.fixture(scope="session")
def published(request, tmp_path_factory) -> Deployment:
    """Return a deployment with three published days of made-up embeddings; `embedded.copy` copies it for a change."""
    from tests.support import embedded

    def make(folder: Path) -> None:
        embedded.make(request.getfixturevalue("spark"), folder)

    return Deployment.read(make_once(run_folder(tmp_path_factory) / "published", make) / "deployment.yaml")


@pytest.fixture(scope="session")
def shop_releases(tmp_path_factory) -> ReleaseCache:
    """Return the checkpoints and releases of the company of `tests.support.shop`."""
    from tests.support.shop import ReleaseCache

    return ReleaseCache(run_folder(tmp_path_factory) / "shop")


@pytest.fixture
def history(spark, tmp_path) -> History:
    """Return a lake of messy rows without an assembled day."""
    from tests.support.lake_history import History

    return History(spark, tmp_path)


@pytest.fixture(scope="module")
def study_profiles() -> pa.Table:
    """Return profiles of the company for evaluations over seeds."""
    from tests.support import study_company  # imports torch, which most tests do without

    return study_company.profiles()


@pytest.fixture(scope="module")
def study_lake(tmp_path_factory, study_profiles) -> Deployment:
    """Return a company with training tables, profiles and labels of two scenarios, and no release."""
    from tests.support import study_company

    return study_company.make(tmp_path_factory.mktemp("studied"), study_profiles)
