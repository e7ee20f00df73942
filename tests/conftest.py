"""One Spark session for every test, and a deployment in a folder of the test's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from jobs.deployment import Deployment

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# Two files run at a time: threads that wait for one another while others hold the cores cost ten times what they save.
os.environ.setdefault("OMP_NUM_THREADS", "1")

DEPLOYMENT: dict[str, Any] = {
    "name": "shop", "lake": "lake", "releases": "releases",
    "sources": [
        {"name": "bill", "table": "bills", "time": "paid_at", "id": "bill_id",
         "template": "{merchant} {amount:amount_band}", "max_events": 3, "window_days": 30},
        {"name": "search", "table": "searches", "time": "searched_at", "template": "{query}",
         "max_events": 4, "window_days": 60},
    ],
    "userqa": {"questions": "questions.yaml", "as_of": ["2025-01-01"]},
    "spark": {"master": "local[2]", "conf": {
        "spark.driver.memory": "1g", "spark.sql.shuffle.partitions": "2", "spark.default.parallelism": "2",
        "spark.databricks.delta.snapshotPartitions": "1", "spark.sql.adaptive.enabled": "false",
        # Many small queries, none hot: compiling them, by Spark or by Java, would cost more than it gives.
        "spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN",
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1"}},
    "store": {"folder": "store"},
}
"""Two small event sources; a test changes what it is about."""


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """The session that `jobs.spark.session` starts for a small deployment."""
    from jobs.spark import session

    started = session(deploy(tmp_path_factory.mktemp("session")))
    yield started
    started.stop()


def deploy(folder: Path, **changes: Any) -> Deployment:
    """`DEPLOYMENT` with these keys changed, written to `folder` and read back through the front door."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "deployment.yaml"
    path.write_text(yaml.safe_dump({**DEPLOYMENT, **changes}, sort_keys=False), encoding="utf-8")
    return Deployment.read(path)


@pytest.fixture
def deployment(tmp_path: Path) -> Callable[..., Deployment]:
    """`deployment(key=value, ...)` makes a deployment in the test's own folder."""
    return lambda **changes: deploy(tmp_path, **changes)
