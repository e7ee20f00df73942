"""The DAG as Airflow sees it, and run for real: spark-submit, a lake, a release and an online store of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import deltalake
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from jobs.config.deployment import Deployment
from jobs.profiles.assemble import assemble
from jobs.serving.embed import embed
from jobs.serving.publish import publish
from tests.support import shop
from tests.support.airflow_environment import BIN, airflow_environment
from tests.support.made_up import INTERESTS, LEVELS, PLACES

ROOT = Path(__file__).parents[2]
USERS = 60
DAY1, DAY2 = date(2025, 3, 1), date(2025, 3, 2)

LOOK = """
import json, sys, time
import airflow.sdk
begin = time.process_time()
sys.path.insert(0, "dags")
import embed_users
seconds = time.process_time() - begin
from airflow.timetables.base import DataInterval
dag = embed_users.dag
print(json.dumps({
    "seconds": seconds,
    "heavy": [name for name in ("torch", "pyspark", "pandas", "jobs", "model", "feast") if name in sys.modules],
    "tasks": {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks},
    "kinds": sorted({type(task).__name__ for task in dag.tasks}),
    "outlets": {task.task_id: [asset.name for asset in task.outlets] for task in dag.tasks if task.outlets},
    "retries": [task.retries for task in dag.tasks],
    "max_active_runs": dag.max_active_runs, "catchup": dag.catchup,
    "start": dag.start_date and dag.start_date.isoformat(), "end": dag.end_date and dag.end_date.isoformat(),
    "doc": dag.doc_md, "config": dag.params["config"]}))
"""


def look(home: Path, **environment: str) -> dict[str, Any]:
    looked = subprocess.run(
        [sys.executable, "-c", LOOK],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env=airflow_environment(home, **environment),
        timeout=120,
    )
    return json.loads(looked.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return look(tmp_path_factory.mktemp("look"))


def test_the_dag_file_loads_in_a_second(seen: dict[str, Any]):
    assert seen["heavy"] == []
    assert seen["seconds"] < 1  # of CPU time, which other processes do not change


def test_the_day_is_three_submitted_jobs_in_a_row(seen: dict[str, Any]):
    assert seen["tasks"] == {"assemble": ["embed"], "embed": ["publish"], "publish": []}
    assert seen["kinds"] == ["SparkSubmitOperator"]
    assert seen["outlets"] == {"publish": ["user_vectors"]}
    assert all(retries >= 1 for retries in seen["retries"])
    assert seen["max_active_runs"] == 1
    assert "publish" in seen["doc"]
    assert seen["config"] == str(ROOT / "conf" / "demo.yaml")
    assert (seen["catchup"], seen["start"]) == (False, None)


def test_a_first_day_makes_airflow_run_every_day_since(tmp_path: Path):
    seen = look(tmp_path, INSTRUCTUE_START="2026-01-01", INSTRUCTUE_END="2026-01-04", INSTRUCTUE_CONFIG="/c.yaml")
    assert seen["catchup"] is True
    # The data interval that ends on the first day starts the day before.
    assert seen["start"].startswith("2025-12-31T00:00:00")
    assert seen["end"].startswith("2026-01-03T00:00:00")
    assert seen["config"] == "/c.yaml"


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory, shop_releases: shop.ReleaseCache) -> Deployment:
    """A small company whose sources reach into day 2, and a release of an untrained network."""
    deployment = shop.company(tmp_path_factory.mktemp("dag"))
    rng = np.random.default_rng(0)
    for table, time in (("bills", "paid_at"), ("searches", "searched_at")):
        count = USERS * 20
        hours = pd.to_timedelta(rng.integers(0, 30 * 24, count), unit="h")
        deltalake.write_deltalake(
            deployment.table(table),
            pd.DataFrame(
                {
                    "user_id": [f"user-{number:05d}" for number in rng.permutation(count) % USERS],
                    time: pd.Timestamp(DAY2, tz="UTC") - pd.Timedelta(hours=1) - hours,
                    "band": rng.choice(LEVELS, count),
                    "interest": rng.choice(INTERESTS, count),
                    "place": rng.choice(PLACES, count),
                }
            ),
        )
    deltalake.write_deltalake(
        deployment.table("attributes"),
        pd.DataFrame(
            {
                "user_id": [f"user-{number:05d}" for number in range(USERS)],
                "bills": rng.integers(0, 60, USERS) * 1.0,
                "income": rng.lognormal(8, 1, USERS),
                "city": rng.choice(["city-1", "city-2"], USERS),
            }
        ),
    )
    shop_releases.install(deployment)
    return deployment


@pytest.fixture(scope="module")
def airflow(lake: Deployment, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    environment = airflow_environment(
        tmp_path_factory.mktemp("airflow"),
        INSTRUCTUE_CONFIG=str(lake.path),
        INSTRUCTUE_DRIVER_MEMORY="1g",
        SPARK_SUBMIT_OPTS="-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m",
    )
    subprocess.run(
        [str(BIN / "airflow"), "db", "migrate"], env=environment, capture_output=True, check=True, timeout=300
    )
    return environment


def run_day(airflow: dict[str, str], day: date) -> None:
    """Run a day with `airflow dags test`."""
    done = subprocess.run(
        [str(BIN / "airflow"), "dags", "test", "embed_users", f"{day}T12:00"],
        env=airflow,
        cwd=ROOT,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=900,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]


def rows(deployment: Deployment, table: str, day: date) -> list[dict[str, Any]]:
    read = deltalake.DeltaTable(deployment.table(table)).to_pyarrow_table(filters=[("day", "=", day)])
    keys = [(name, "ascending") for name in ("user_id", "scenario") if name in read.column_names]
    return read.sort_by(keys).to_pylist()


@pytest.mark.slow
def test_a_day_is_embedded_and_an_earlier_one_can_follow(lake: Deployment, airflow: dict[str, str], spark: Any):
    run_day(airflow, DAY2)
    profiles, embeddings, vectors = (rows(lake, t, DAY2) for t in ("user_profiles", "user_embeddings", "user_vectors"))
    assert {row["as_of"] for row in embeddings} == {datetime(2025, 3, 2, tzinfo=UTC)}
    users = {row["user_id"] for row in profiles}
    assert len(users) == USERS
    assert {(row["user_id"], row["scenario"]) for row in embeddings} == {
        (user, scenario) for user in users for scenario in lake.scenario_names
    }
    assert {row["user_id"] for row in vectors} == users
    np.testing.assert_allclose(np.linalg.norm([row["embedding"] for row in embeddings], axis=1), 1, atol=1e-4)

    # A backfill: the earlier day has no event at or after its end, and the later day's rows stay as they are.
    assemble(spark, lake, DAY1)
    embed(spark, lake, DAY1)
    publish(spark, lake, DAY1)
    for row in rows(lake, "user_profiles", DAY1):
        times = [event["event_time"] for source in lake.sources for event in row[source.name]]
        assert max(times) < datetime(2025, 3, 1, tzinfo=UTC)
    assert rows(lake, "user_profiles", DAY2) == profiles
    runs = deltalake.DeltaTable(lake.table("job_runs")).to_pyarrow_table(columns=["job", "day", "status"])
    daily = runs.filter(pc.is_in(runs["job"], pa.array(["assemble", "embed", "publish"])))
    assert {tuple(row.values()) for row in daily.to_pylist()} == {
        (job, day, "ok") for job in ("assemble", "embed", "publish") for day in (DAY1, DAY2)
    }
    assert daily.num_rows == 6
