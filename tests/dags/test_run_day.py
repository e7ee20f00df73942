"""The day of each kind of run: Airflow's own task instances render the arguments of the jobs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TODAY = datetime.now(UTC).date()
TOMORROW = TODAY + timedelta(days=1)

RENDER = """
import json, sys
from datetime import datetime
from uuid import uuid4

sys.path.insert(0, "dags")
import embed_users
from airflow.sdk.api.datamodels._generated import DagRun, TIRunContext
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance


def render(run):
    run = {
        "dag_id": "embed_users", "run_id": "r", "logical_date": None, "data_interval_start": None,
        "data_interval_end": None, "start_date": None, "end_date": None, "run_type": "manual", "state": "running",
        "consumed_asset_events": [], "partition_key": None, **run,
    }
    task = embed_users.dag.get_task("publish")
    fields = {"task_id": "publish", "dag_id": "embed_users", "run_id": "r", "try_number": 1, "map_index": -1}
    instance = RuntimeTaskInstance.model_construct(
        id=uuid4(), **fields, task=task, start_date=datetime.fromisoformat(run["run_after"]),
        _ti_context_from_server=TIRunContext(dag_run=DagRun.model_validate(run), max_tries=0),
    )
    try:
        context = instance.get_template_context()
        return task.render_template(task.application_args, context)[-1]
    except Exception as error:
        return f"{type(error).__name__}: {error}"


print(json.dumps([render(run) for run in json.load(sys.stdin)]))
"""


def run(day: str, **fields: Any) -> dict[str, Any]:
    """Return a run of Airflow: `day` is the moment after which it runs, with its offset."""
    return {"run_after": day, **fields}


def interval(start: str, end: str, **fields: Any) -> dict[str, Any]:
    """Return a run with a data interval, as the scheduler makes it."""
    return run(end, logical_date=start, data_interval_start=start, data_interval_end=end, **fields)


NOON, MIDNIGHT = "2026-01-02T12:00:00Z", "2026-01-02T00:00:00Z"
RUNS: dict[str, tuple[dict[str, Any], str]] = {
    "a scheduled run": (interval("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", run_type="scheduled"), "2026-01-02"),
    # airflow #42529
    "a backfill": (interval("2025-12-31T00:00:00Z", "2026-01-01T00:00:00Z", run_type="backfill"), "2026-01-01"),
    # airflow #23689, #41014
    "a run with a logical date": (
        run(NOON, logical_date=NOON, data_interval_start="2026-01-01T00:00:00Z", data_interval_end=MIDNIGHT),
        "2026-01-02",
    ),
    # airflow #64740
    "a run of a past logical date, whose data interval Airflow derives from the present": (
        run(
            "2026-02-03T05:00:00Z",
            logical_date=NOON,
            data_interval_start="2026-02-02T00:00:00Z",
            data_interval_end="2026-02-03T00:00:00Z",
        ),
        "2026-01-02",
    ),
    "a run that another DAG triggers with a logical date": (
        run("2026-02-03T05:00:00Z", logical_date=NOON, run_type="operator_triggered"),
        "2026-01-02",
    ),
    # airflow #48473
    "a run that another DAG triggers": (run(NOON, run_type="operator_triggered"), "2026-01-02"),
    # airflow #46196
    "a run that materializes the asset": (run(NOON, run_type="asset_materialization"), "2026-01-02"),
    # airflow #46197, #46198, #46522, #47384, ro-dou #318
    "a run without a logical date": (run(NOON), "2026-01-02"),
    "a run without a logical date at midnight": (run("2026-01-02T00:00:00Z"), "2026-01-02"),
    "a run a moment before midnight": (run("2026-01-01T23:59:59.999999Z"), "2026-01-01"),
    "a run whose time has an eastern offset": (run("2026-01-02T07:00:00+08:00"), "2026-01-01"),
    "a run whose time has a western offset": (run("2026-01-01T20:00:00-05:00"), "2026-01-02"),
    "a run on a leap day": (run("2024-02-29T01:00:00Z"), "2024-02-29"),
    # airflow #46192, #46194
    "a run that an asset triggers": (run(NOON, run_type="asset_triggered"), "2026-01-02"),
    "a run with an empty configuration": (run(NOON, conf={}), "2026-01-02"),
    "a run with as_of": (run(NOON, conf={"as_of": "2025-12-30"}), "2025-12-30"),
    "a run with as_of and a data interval": (
        interval("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", conf={"as_of": "2025-12-30"}),
        "2025-12-30",
    ),
    "a run with an as_of of null": (run(NOON, conf={"as_of": None}), "2026-01-02"),
    "a run of today": (run(NOON, conf={"as_of": str(TODAY)}), str(TODAY)),
    "a run of tomorrow": (
        run(NOON, conf={"as_of": str(TOMORROW)}),
        f"ValueError: {TOMORROW} has not begun (UTC), so its events are incomplete; name {TODAY} or an earlier day",
    ),
    "a run whose data interval ends after today": (
        interval(f"{TODAY}T00:00:00Z", f"{TOMORROW}T00:00:00Z", run_type="scheduled"),
        f"ValueError: {TOMORROW} has not begun (UTC), so its events are incomplete; name {TODAY} or an earlier day",
    ),
    **{
        f"a run with an as_of of {value!r}": (run(NOON, conf={"as_of": value}), "ParamValidationError: Invalid input")
        for value in ("2026-02-30", "yesterday", "", "2026-01-02T00:00", "20260102", 20260102, "2026-W01-5", True)
    },
}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the day that `publish` is given in each run, or the error."""
    done = subprocess.run(
        [sys.executable, "-c", RENDER],
        cwd=ROOT,
        input=json.dumps([fields for fields, _ in RUNS.values()]),
        text=True,
        capture_output=True,
        env={**os.environ, "AIRFLOW_HOME": str(tmp_path_factory.mktemp("airflow")), "TZ": "Asia/Shanghai"},
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(zip(RUNS, json.loads(done.stdout.splitlines()[-1]), strict=True))


@pytest.mark.parametrize("name", RUNS)
def test_the_day_of_a_run(name: str, rendered: dict[str, str]) -> None:
    expected = RUNS[name][1]
    result = rendered[name]
    assert result.startswith(expected) if "Error" in expected else result == expected
