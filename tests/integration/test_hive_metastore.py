"""Sources in a real Hive metastore: Delta, Hive's text and ORC tables, and a view, read by the commands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import deltalake
import pytest

from jobs.config.deployment import Deployment
from tests.support.deployment import deploy

SOURCES = [
    {
        "name": "bill",
        "table": "sales.bills",
        "user": "userId",
        "time": "paidAt",
        "template": "{merchant} {amount:amount_band}",
        "window_days": 60,
    },
    {
        "name": "search",
        "table": "spark_catalog.sales.searches",
        "time": "searched_at",
        "template": "{query} {dt}",
        "window_days": 60,
    },
    {"name": "visit", "table": "sales.visits", "time": "at", "template": "{n} visit", "window_days": 60},
]
ATTRIBUTES = {"table": "sales.people", "static": True, "numbers": ["bills"], "categories": ["city"]}


def run(*command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    return subprocess.run([sys.executable, "-m", *command], env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def company(tmp_path_factory) -> Deployment:
    """A deployment whose tables are in a metastore that another process has filled."""
    deployment = deploy(
        tmp_path_factory.mktemp("hive"),
        sources=SOURCES,
        attributes=ATTRIBUTES,
        spark={"master": "local[2]", "metastore": "warehouse", "conf": {"spark.sql.shuffle.partitions": "2"}},
    )
    done = run("tests.support.hive_metastore", str(deployment.path))
    assert done.returncode == 0, done.stderr[-3000:]
    return deployment


@pytest.mark.slow
def test_tables_and_views_of_a_metastore_are_sources(company):
    done = run("jobs", "assemble", "--config", str(company.path), "--as-of", "2025-02-01")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = deltalake.DeltaTable(company.table("user_profiles")).to_pyarrow_table().to_pylist()
    texts = {
        row["user_id"]: [event["text"] for name in ("bill", "search", "visit") for event in row[name]] for row in rows
    }
    assert texts == {"007": ["tea 5 to 10", "green tea 007"], "7": ["bus 2 to 5", "1 visit"]}
    assert {row["user_id"]: tuple(row["tabular"].values()) for row in rows} == {"007": (1, "Köln"), "7": (1, "Köln")}
    runs = deltalake.DeltaTable(company.table("job_runs")).to_pyarrow_table().to_pylist()
    assert [dict(row["versions"]) for row in runs] == [{"sales.bills": 2}]


@pytest.mark.slow
def test_an_iceberg_table_of_a_metastore_is_refused_by_name(company):
    content = company.path.read_text(encoding="utf-8")
    other = company.path.with_name("iceberg.yaml")
    other.write_text(content.replace("table: sales.visits", "table: sales.iceberg"), encoding="utf-8")
    done = run("jobs", "assemble", "--config", str(other), "--as-of", "2025-02-01")
    assert done.returncode == 2
    assert (
        "sources.visit.table = sales.iceberg: `sales`.`iceberg` is an Iceberg table. Apache Iceberg has no"
        in done.stderr
    )
