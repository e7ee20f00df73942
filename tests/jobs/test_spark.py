"""The session: one, with Delta, in UTC, quiet; and one line where it cannot start."""

from __future__ import annotations

import os
import subprocess
import sys

from jobs.spark import session


def test_session_joins_the_active_one(spark, deployment):
    assert session(deployment(spark={"master": "local[7]"})) is spark


def test_session_runs_delta_in_utc_on_this_interpreter(spark, tmp_path):
    assert spark.conf.get("spark.sql.session.timeZone") == "UTC"
    assert spark.sparkContext.pythonExec == sys.executable
    path = str(tmp_path / "t")
    spark.sql(f"CREATE TABLE delta.`{path}` USING delta AS SELECT 1 AS a")
    assert spark.sql(f"SELECT a FROM delta.`{path}`").collect()[0].a == 1


def test_without_java_one_line_names_what_to_install(deployment, tmp_path):
    code = ("import sys; from jobs.deployment import Deployment; from jobs.spark import SparkError, session\n"
            "try: session(Deployment.read(sys.argv[1]))\n"
            "except SparkError as error: print(error)")
    env = {**os.environ, "PATH": str(tmp_path), "JAVA_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code, str(deployment().path)], env=env, text=True,
                          capture_output=True, timeout=60, check=True)
    assert done.stdout.count("\n") == 1
    assert "install Java 17" in done.stdout
    assert done.stderr == ""


def test_a_person_sees_nothing_of_the_jvm_nor_of_the_next_session_in_it(deployment, tmp_path):
    code = ("import sys; from jobs.deployment import Deployment; from jobs.spark import session\n"
            "for users in (3, 4):\n"
            "    s = session(Deployment.read(sys.argv[1])); print(s.range(users).count()); s.stop()")
    env = {**os.environ, "PYTHONPATH": os.getcwd()}
    done = subprocess.run([sys.executable, "-c", code, str(deployment().path)], env=env, text=True,
                          capture_output=True, timeout=120, check=True, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("3\n4\n", "")
    [log] = (tmp_path / "logs").glob("spark-*.log")
    assert log.stat().st_size > 0
