"""Runs that Airflow's own commands create, with and without a date, and one that it runs to the end."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.airflow_environment import airflow_environment

ROOT = Path(__file__).parents[2]

COMMANDS = """
import io, json, os, sys
from contextlib import redirect_stdout

from airflow.cli.cli_parser import get_parser
from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session


def airflow(*words):
    out = io.StringIO()
    with redirect_stdout(out):
        arguments = get_parser().parse_args([*words])
        arguments.func(arguments)
    return out.getvalue()


airflow("db", "migrate")
airflow("dags", "reserialize")
airflow("dags", "trigger", "embed_users", "--run-id", "no-date")
airflow("dags", "trigger", "embed_users", "--run-id", "as_of", "--conf", json.dumps({"as_of": "2026-01-05"}))
airflow("dags", "trigger", "embed_users", "--run-id", "logical-date", "--logical-date", "2026-01-07T12:00:00+08:00")
airflow("assets", "materialize", "--name", "user_vectors")
airflow("backfill", "create", "--dag-id", "embed_users", "--from-date", "2026-01-01", "--to-date", "2026-01-01",
        "--max-active-runs", "1")
refused = ""
try:
    airflow("dags", "trigger", "embed_users", "--conf", json.dumps({"as_of": "2026-02-30"}))
except Exception as error:
    refused = type(error).__name__
with create_session() as session:
    runs = {run.run_id: run.run_after.date().isoformat() for run in session.query(DagRun)}
days = {}
for run_id in runs:
    text = airflow("tasks", "render", "embed_users", "publish", run_id)
    days[run_id] = text.partition("--as-of")[2].split("'")[2]
sys.path.insert(0, "dags")
import embed_users

state = embed_users.dag.test(logical_date=None).state
print(json.dumps({"days": days, "after": runs, "refused": refused, "state": state}), file=sys.stderr)
"""

RECORD = """
import os, sys
with open(os.environ["RECORD"], "a") as file:
    file.write(" ".join(sys.argv[1:]) + "\\n")
"""


# airflow #46390, #47612, #50310
@pytest.mark.slow
def test_runs_of_airflows_own_commands_have_their_days(tmp_path: Path) -> None:
    application, record = tmp_path / "record.py", tmp_path / "record.txt"
    application.write_text(RECORD)
    environment = airflow_environment(
        tmp_path / "airflow", INSTRUCTUE_APPLICATION=str(application), INSTRUCTUE_CONFIG="/c.yaml", RECORD=str(record)
    )
    begin = datetime.now(UTC).date()
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    result = json.loads(done.stderr.splitlines()[-1])
    days, after = result["days"], result["after"]
    [backfill] = [run for run in days if run.startswith("backfill")]
    [asset] = [run for run in days if run.startswith("asset")]
    assert days == {
        "no-date": after["no-date"],
        "as_of": "2026-01-05",
        "logical-date": "2026-01-07",
        asset: after[asset],
        backfill: "2026-01-02",
    }
    assert {days["no-date"], days[asset]} <= {str(begin), str(datetime.now(UTC).date())}
    assert result["refused"] == "ParamValidationError"
    assert result["state"] == "success"
    assert [line.split() for line in record.read_text().splitlines()] == [
        [job, "--config", "/c.yaml", "--as-of", days["no-date"]] for job in ("assemble", "embed", "publish")
    ]
