"""The session: one, with Delta, in UTC, quiet; and one line where it cannot start."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import typer

from feature_repo.vectors import VectorError
from jobs.cli.exit_codes import run
from jobs.config.fields import regions
from jobs.console.spark_progress import watch_spark
from jobs.lake.session import get_session
from tests.support.deployment import DEPLOYMENT
from tests.support.error_page import refused, row


def test_session_joins_the_active_one(spark, deployment):
    assert get_session(deployment(spark={"master": "local[7]"})) is spark


def test_session_runs_delta_in_utc_on_this_interpreter(spark, tmp_path):
    assert spark.conf.get("spark.sql.session.timeZone") == "UTC"
    assert spark.sparkContext.pythonExec == sys.executable
    path = str(tmp_path / "t")
    spark.sql(f"CREATE TABLE delta.`{path}` USING delta AS SELECT 1 AS a")
    assert spark.sql(f"SELECT a FROM delta.`{path}`").collect()[0].a == 1


@row("a time zone that Java does not have")
def test_a_time_zone_that_java_lacks_is_refused(wrong, spark, deployment):
    java = spark._jvm.java.time.ZoneId.getAvailableZoneIds()
    if (zone := next((zone for zone in regions() if not java.contains(zone)), None)) is None:
        pytest.skip("this Java has every time zone of Python")
    with refused(wrong):
        get_session(deployment(sources=[{**DEPLOYMENT["sources"][0], "timezone": zone}]))


def test_without_java_one_line_names_what_to_install(deployment, tmp_path):
    code = (
        "import sys; from jobs.config.deployment import Deployment\n"
        "from jobs.lake.session import SparkError, get_session\n"
        "try: get_session(Deployment.read(sys.argv[1]))\n"
        "except SparkError as error: print(error)"
    )
    env = {**os.environ, "PATH": str(tmp_path), "JAVA_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(deployment().path)],
        env=env,
        text=True,
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.count("\n") == 1
    assert "install Java 17" in done.stdout
    assert done.stderr == ""


def run_python(code: str, deployment, folder) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, in a folder; its argument is the path of a deployment file."""
    return subprocess.run(
        [sys.executable, "-c", code, str(deployment().path)],
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        text=True,
        capture_output=True,
        timeout=120,
        cwd=folder,
    )


@pytest.mark.slow
def test_a_person_sees_nothing_of_the_jvm_nor_of_the_next_session_in_it(deployment, tmp_path):
    code = (
        "import sys; from jobs.config.deployment import Deployment; from jobs.lake.session import get_session\n"
        "for users in (3, 4):\n"
        "    s = get_session(Deployment.read(sys.argv[1])); print(s.range(users).count()); s.stop()"
    )
    done = run_python(code, deployment, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("3\n4\n", "")
    [log] = (tmp_path / "logs").glob("spark-*.log")
    assert log.stat().st_size > 0


def lose(batches):
    for _ in batches:
        raise VectorError("3 bytes are not a vector\nof 8 values")
    yield


@pytest.mark.parametrize("way", ["collect", "write"])
def test_an_error_of_ours_in_a_python_worker_is_told_as_itself(spark, tmp_path, capsys, monkeypatch, way):
    app = typer.Typer(pretty_exceptions_enable=False)

    @app.command()
    def fail() -> None:
        rows = spark.range(3).mapInArrow(lose, "id long")
        try:
            rows.collect() if way == "collect" else rows.write.format("delta").save(str(tmp_path / "t"))
        except Exception as error:
            error.add_note("nothing was written")
            raise

    monkeypatch.setattr(sys, "argv", ["fail"])
    with pytest.raises(SystemExit) as exit:
        run(app)
    assert exit.value.code == 2
    assert capsys.readouterr().err.endswith("error: 3 bytes are not a vector\nof 8 values\nnote: nothing was written\n")


def test_the_tasks_of_a_job_are_counted_while_it_runs(spark):
    spark.range(8).repartition(8).count()  # of a job before, which does not count
    output: list[tuple[int, int]] = []
    with watch_spark(spark, lambda done, total: output.append((done, total))):
        spark.sparkContext.parallelize(range(6), 6).map(lambda x: __import__("time").sleep(0.5) or x).count()
        spark.sparkContext.parallelize(range(5), 5).count()
    assert output[-1] == (11, 11)
    assert any(0 < done < total == 6 for done, total in output)


@pytest.mark.slow
def test_a_jvm_that_was_killed_is_told_in_one_line(deployment, tmp_path):
    code = (
        "import os, sys; from pyspark import SparkContext; from jobs.config.deployment import Deployment\n"
        "from jobs.cli.exit_codes import run; from jobs.lake.session import get_session\n"
        "def work():\n"
        "    spark = get_session(Deployment.read(sys.argv[1]), named=False)\n"
        "    os.kill(SparkContext._gateway.proc.pid, 9)\n"
        "    spark.range(3).count()\n"
        "run(work)"
    )
    done = run_python(code, deployment, tmp_path)
    assert done.returncode == 2, done.stderr
    assert "error: Spark's JVM has ended (exit code -9)" in done.stderr
