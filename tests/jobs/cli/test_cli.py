"""The command line in a process of its own: exit codes, the answer on stdout and the log on stderr."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import deltalake
import pyarrow as pa
import pytest
import typer
import yaml
from typer.testing import CliRunner

from jobs.cli.exit_codes import run as main
from jobs.cli.main import app
from jobs.config.deployment import Deployment
from model.errors import InstructUEError

ROOT = Path(__file__).parents[3]
HEAVY = ("torch", "pyspark", "pandas", "feast", "deltalake", "transformers", "onnxruntime", "sklearn", "airflow")
COMMANDS = sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run the command line in the test's folder."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120", "NO_COLOR": "1"}
    for name in ("INSTRUCTUE_CONFIG", "INSTRUCTUE_LOG_LEVEL", "INSTRUCTUE_LOG_JSON"):
        environment.pop(name, None)

    def run(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "jobs", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env={**environment, **(env or {})},
            stdin=subprocess.DEVNULL,
            timeout=300,
        )

    return run


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """conf/demo.yaml with its lake, releases and store in the test's folder."""
    content = yaml.safe_load((ROOT / "conf" / "demo.yaml").read_text(encoding="utf-8"))
    content |= {"lake": "lake", "releases": "releases"}
    content["store"]["folder"] = "store"
    content["spark"]["conf"]["spark.driver.memory"] = "1g"
    path = tmp_path / "demo.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def test_importing_the_command_line_imports_no_heavy_package():
    process = subprocess.run(
        [sys.executable, "-c", f"import jobs.cli.main, sys; print([m for m in {HEAVY!r} if m in sys.modules])"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert process.stdout.strip() == "[]"


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself_with_an_example(command: str):
    process = CliRunner(env={"COLUMNS": "120"}).invoke(app, [command, "--help"])
    assert process.exit_code == 0
    assert f"instructue {command} " in process.stdout
    assert "--config" in process.stdout


def test_an_error_of_the_user_is_one_line_and_exit_code_2(run: Run):
    for arguments in (("generate", "--config", "nowhere.yaml"), ("lookup", "u1", "-c", "nowhere.yaml")):
        process = run(*arguments)
        assert process.returncode == 2
        assert process.stderr.startswith("error: ")
        assert "nowhere.yaml" in process.stderr
        assert "Traceback" not in process.stderr


def test_the_deployment_may_come_from_the_environment(run: Run):
    assert "elsewhere.yaml" in run("lookup", "u1", env={"INSTRUCTUE_CONFIG": "elsewhere.yaml"}).stderr


def test_days_in_the_wrong_order_are_refused_before_spark_starts(run: Run, demo: Path):
    process = run("assemble", "-c", str(demo), "--as-of", "2026-01-02", "--through", "2026-01-01")
    assert process.returncode == 2
    assert "--through" in process.stderr
    assert "2026-01-01 is before" in process.stderr


def test_an_unexpected_error_is_one_line_that_names_the_log_of_the_traceback(run: Run, demo: Path, tmp_path: Path):
    (tmp_path / "lake").write_text("a file where the lake's folder should be")
    process = run("generate", "-c", str(demo), "--users", "100")
    assert process.returncode == 1
    last = process.stderr.strip().splitlines()[-1]
    assert last.startswith("unexpected ")
    assert "Traceback" not in process.stderr
    log = Path(last.rsplit("the traceback is in ", 1)[1])
    assert log.is_relative_to(tmp_path)
    assert "Traceback" in log.read_text()


def test_the_notes_of_an_error_are_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    failing = typer.Typer(pretty_exceptions_enable=False)

    @failing.command()
    def fail() -> None:
        error = InstructUEError("lake/bills is missing: write it")
        error.add_note("the run was not recorded in job_runs: disk full")
        raise error

    monkeypatch.setattr(sys, "argv", ["fail"])
    with pytest.raises(SystemExit) as exit:
        main(failing)
    assert exit.value.code == 2
    assert capsys.readouterr().err == (
        "error: lake/bills is missing: write it\nnote: the run was not recorded in job_runs: disk full\n"
    )


@pytest.mark.slow
def test_the_answer_of_generate_as_json_counts_the_rows_written(run: Run, demo: Path):
    process = run("generate", "-c", str(demo), "--users", "100", "--json")
    assert process.returncode == 0, process.stderr
    summary = json.loads(process.stdout)
    assert summary["users"] == 100
    assert summary["as_of"] == "2026-01-01"
    deployment = Deployment.read(demo)
    for table, rows in summary["rows"].items():
        assert deltalake.DeltaTable(deployment.table(table)).to_pyarrow_table(columns=["user_id"]).num_rows == rows


def test_the_log_is_on_stderr_and_the_answer_on_stdout(run: Run, demo: Path):
    command = ("generate", "-c", str(demo), "--users", "100", "--json")
    plain, as_json = run(*command), run("--log-json", *command)
    first, *_, last = plain.stderr.splitlines()
    assert re.fullmatch(r"\S+Z INFO jobs.console.progress: generate 2026-01-01 \.\.\.", first)
    assert re.fullmatch(r"\S+Z INFO jobs.console.progress: generate 2026-01-01: [\d.]+ s", last)
    records = [json.loads(line) for line in as_json.stderr.splitlines()]
    assert {(record["level"], record["logger"]) for record in records} == {("INFO", "jobs.console.progress")}
    answers = [json.loads(process.stdout) for process in (plain, as_json)]
    assert answers[0]["rows"] == answers[1]["rows"]


def test_the_log_level_may_come_from_the_environment(demo: Path):
    command = ["generate", "-c", str(demo), "--users", "100", "--json"]
    quiet = CliRunner(env={"INSTRUCTUE_LOG_LEVEL": "WARNING"}).invoke(app, command)
    assert (quiet.exit_code, quiet.stderr) == (0, "")
    refused = CliRunner().invoke(app, ["--log-level", "LOUD", *command])
    assert refused.exit_code == 2
    assert "--log-level" in refused.stderr


def test_an_error_is_a_record_of_a_json_log(run: Run, demo: Path, tmp_path: Path):
    process = run("--log-json", "lookup", "u1", "-c", "nowhere.yaml")
    assert process.returncode == 2
    record = json.loads(process.stderr)
    assert record["level"] == "ERROR"
    assert record["message"].startswith("error: deployment file ")
    (tmp_path / "lake").write_text("a file where the lake's folder should be")
    process = run("--log-json", "generate", "-c", str(demo), "--users", "100")
    assert process.returncode == 1
    last = json.loads(process.stderr.splitlines()[-1])
    assert last["message"].startswith("unexpected ")


@pytest.mark.slow
def test_spark_submit_and_the_shell_give_the_same_answer(run: Run, demo: Path, tmp_path: Path):
    paid_at = pa.array([datetime(2025, 12, day, 20, tzinfo=UTC) for day in range(1, 7)], pa.timestamp("us", "UTC"))
    bills = pa.table({"merchant": ["Weishu", "Moran", "Weishu", "Weishu", "Moran", "Anhe"], "paid_at": paid_at})
    deltalake.write_deltalake(Deployment.read(demo).table("bills"), bills)
    query = (
        "SELECT merchant, count(*) AS bills, max(paid_at) AS last, avg(double('NaN')) AS mean FROM bills "
        "GROUP BY merchant HAVING bills > 1 ORDER BY bills DESC"
    )
    expected = [
        {"merchant": "Weishu", "bills": 3, "last": "2025-12-04T20:00:00+00:00", "mean": None},
        {"merchant": "Moran", "bills": 2, "last": "2025-12-05T20:00:00+00:00", "mean": None},
    ]
    away = {"TZ": "Asia/Shanghai"}

    shell = run("sql", query, "-c", str(demo), "--json", env=away)
    # On a cluster it is spark-submit that knows the master, whatever the file says.
    content = yaml.safe_load(demo.read_text(encoding="utf-8"))
    content["spark"]["master"] = content["spark"]["conf"]["spark.master"] = "nowhere://to/be/found"
    demo.write_text(yaml.safe_dump(content), encoding="utf-8")
    assert shell.returncode == 0, shell.stderr
    submitted = subprocess.run(
        [
            str(Path(sys.executable).with_name("spark-submit")),
            "--master",
            "local[2]",
            "--driver-memory",
            "1g",
            str(ROOT / "jobs" / "__main__.py"),
            "sql",
            query,
            "--config",
            str(demo),
            "--json",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=300,
        env={**os.environ, "PYSPARK_PYTHON": sys.executable, **away},
    )
    assert submitted.returncode == 0, submitted.stderr[-3000:]
    for answer in (shell.stdout, submitted.stdout):
        # spark-submit puts what the driver says on stderr among what it prints.
        assert [json.loads(line) for line in answer.splitlines() if line.startswith("{")] == expected
    assert shell.stdout.count("\n") == len(expected)


@pytest.mark.slow
def test_a_failure_under_spark_submit_is_a_failure_of_spark_submit(demo: Path, tmp_path: Path):
    submitted = subprocess.run(
        [
            str(Path(sys.executable).with_name("spark-submit")),
            "--master",
            "local[1]",
            str(ROOT / "jobs" / "__main__.py"),
            "assemble",
            "--config",
            "nowhere.yaml",
            "--as-of",
            "2026-01-01",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=300,
        env={**os.environ, "PYSPARK_PYTHON": sys.executable},
    )
    assert submitted.returncode == 2
    assert "error: deployment file" in submitted.stdout
