"""The tables: replacing a day, the record of runs, locks and staleness."""

from __future__ import annotations

import subprocess
import sys
from datetime import date

import deltalake
import pytest
from pyspark.sql import functions as F

from jobs.lake import run_log, spark_tables, staleness
from jobs.lake.delta import job_lock, midnight
from tests.support.deployment import deploy

DAY1, DAY2, DAY3 = date(2025, 1, 1), date(2025, 1, 2), date(2025, 1, 3)


def rows(path):
    return sorted(tuple(r.values()) for r in deltalake.DeltaTable(path).to_pyarrow_table().to_pylist())


def users(spark, *values):
    return spark.createDataFrame([(v,) for v in values], "user_id string").coalesce(1)


def test_replace_day_replaces_only_its_day_and_creates_the_table(spark, tmp_path):
    path = str(tmp_path / "t")
    spark_tables.replace_day(users(spark, "a", "b"), path, DAY1)
    spark_tables.replace_day(users(spark, "c"), path, DAY2)
    spark_tables.replace_day(users(spark, "d"), path, DAY1)
    table = deltalake.DeltaTable(path)
    assert table.metadata().partition_columns == ["day"]
    assert [(r[0], r[2]) for r in rows(path)] == [("c", DAY2), ("d", DAY1)]
    assert {r[1] for r in rows(path)} == {midnight(DAY1), midnight(DAY2)}


def test_replace_day_takes_a_new_column(spark, tmp_path):
    path = str(tmp_path / "t")
    spark_tables.replace_day(users(spark, "a"), path, DAY1)
    spark_tables.replace_day(users(spark, "b").withColumn("search", F.lit(1)), path, DAY2)
    table = deltalake.DeltaTable(path).to_pyarrow_table().to_pylist()
    assert {r["user_id"]: r["search"] for r in table} == {"a": None, "b": 1}


def test_same_rows_sees_order_nulls_and_repeats(spark, tmp_path):
    path = str(tmp_path / "t")
    written = spark.createDataFrame([("a", None), ("b", "")], "user_id string, hash string")
    spark_tables.replace_day(written, path, DAY1)
    columns = ["user_id", "hash"]

    def same(*pairs):
        return spark_tables.same_rows(spark.createDataFrame(list(pairs), written.schema), path, DAY1, columns)

    assert same(("b", ""), ("a", None))
    assert not same(("b", None), ("a", ""))
    assert not same(("b", ""), ("a", None), ("a", None))
    assert not same(("b", ""))
    assert not spark_tables.same_rows(written, path, DAY2, columns)


def test_replace_table_writes_the_days_that_differ_in_one_commit(spark, tmp_path):
    deployment = deploy(tmp_path)
    path = deployment.table("training_profiles")

    def replace(**users):
        schema = "user_id string, profile_hash string, as_of timestamp"
        at = {"first": midnight(DAY1), "second": midnight(DAY2), "third": midnight(DAY3)}
        written = [(user, user.upper(), at[day]) for day, names in users.items() for user in names]
        with spark_tables.job_run(spark, deployment, "userqa", DAY3) as run:
            days = [at[day].date() for day in users]
            return run.replace_table(spark.createDataFrame(written, schema), "training_profiles", days)

    assert replace(first="ab", second="") == 2
    assert replace(first="ba", second="") == 0
    assert replace(first="ab", second="c", third="d") == 2
    assert [row[0] for row in rows(path)] == ["a", "b", "c", "d"]
    # The third day is no cut-off any more, and the first holds another user.
    assert replace(first="ax", second="c") == 1
    assert [(row[0], row[3]) for row in rows(path)] == [("a", DAY1), ("c", DAY2), ("x", DAY1)]
    assert deltalake.DeltaTable(path).version() == 2


def test_latest_is_the_newest_row_at_or_before(spark, tmp_path):
    path = str(tmp_path / "t")
    for day, value in ((DAY1, "old"), (DAY2, "new"), (DAY3, "later")):
        spark_tables.replace_day(users(spark, "a").withColumn("v", F.lit(value)), path, day)
    df = spark.read.format("delta").load(path)
    assert [r.v for r in spark_tables.latest_per_key(df, ["user_id"], DAY2).collect()] == ["new"]
    assert [r.v for r in spark_tables.latest_per_key(df, ["user_id"], DAY2, strictly_before=True).collect()] == ["old"]
    assert spark_tables.latest_per_key(df, ["user_id"], DAY1, strictly_before=True).collect() == []


def test_missing_table_names_the_job_that_makes_it(spark, deployment):
    with pytest.raises(spark_tables.TableError, match=r"user_profiles at .*instructue assemble"):
        spark_tables.read_table(spark, deployment(), "user_profiles")


def profiles(spark, *values):
    """Return rows that `user_profiles` tells apart by the user alone."""
    return users(spark, *values).withColumn("profile_hash", F.lit("h"))


def job(spark, d, name, day, values):
    with spark_tables.job_run(spark, d, name, day) as run:
        run.rows_in, run.left_out = 5, {"bill: repeated": 2}
        run.replace(profiles(spark, *values), "user_profiles")
    return run_log.read_runs(d, name, first=day, last=day)[0]


def test_a_run_is_one_row_and_keeps_replaced_at_while_rows_stay(spark, deployment):
    d = deployment()
    first = job(spark, d, "assemble", DAY1, "ab")
    again = job(spark, d, "assemble", DAY1, "ba")
    assert again.started_at > first.finished_at
    assert again.replaced_at == first.replaced_at
    assert deltalake.DeltaTable(d.table("user_profiles")).version() == 0
    changed = job(spark, d, "assemble", DAY1, "ac")
    assert changed.replaced_at > again.finished_at
    stored = deltalake.DeltaTable(d.table("job_runs")).to_pyarrow_table().to_pylist()
    assert len(stored) == 1
    assert stored[0]["status"] == "ok"
    assert dict(stored[0]["left_out"]) == {"bill: repeated": 2}


def test_a_failed_run_is_recorded_and_raises(spark, deployment):
    d = deployment()

    def failing():
        with spark_tables.job_run(spark, d, "embed", DAY1) as run:
            run.rows_in = 3
            run.rows_out = 1 // 0

    with pytest.raises(ZeroDivisionError):
        failing()
    [stored] = deltalake.DeltaTable(d.table("job_runs")).to_pyarrow_table().to_pylist()
    assert (stored["status"], stored["rows_in"], stored["rows_out"]) == ("failed", 3, None)
    assert "ZeroDivisionError" in stored["details"]
    assert staleness.stale_reason(d, "embed", DAY1) == "embed's last run for 2025-01-01 did not succeed"


def test_staleness_follows_replaced_inputs(spark, deployment):
    d = deployment()
    assert "has not run" in staleness.stale_reason(d, "embed", DAY2)
    job(spark, d, "assemble", DAY1, "a")
    job(spark, d, "assemble", DAY2, "a")
    job(spark, d, "embed", DAY2, "a")
    assert staleness.stale_reason(d, "embed", DAY2) is None
    job(spark, d, "assemble", DAY1, "a")
    assert staleness.stale_reason(d, "embed", DAY2) is None
    job(spark, d, "assemble", DAY1, "b")
    assert "assemble for 2025-01-01 was replaced" in staleness.stale_reason(d, "embed", DAY2)
    assert "assemble for 2025-01-01 was replaced" in staleness.stale_reason(d, "assemble", DAY2)
    job(spark, d, "assemble", DAY2, "a")
    job(spark, d, "embed", DAY2, "a")
    assert staleness.stale_reason(d, "embed", DAY2) is None


def test_a_run_that_failed_before_it_wrote_makes_no_day_stale(spark, deployment):
    d = deployment()
    job(spark, d, "embed", DAY2, "a")
    with pytest.raises(ValueError, match="refused"), spark_tables.job_run(spark, d, "assemble", DAY1):
        raise ValueError("refused")
    failed = run_log.read_runs(d, "assemble", last=DAY1)[0]
    assert (failed.status, failed.replaced_at, failed.left_rows) == ("failed", None, False)
    assert staleness.stale_reason(d, "embed", DAY2) is None
    # What an earlier run wrote still counts after a later one failed.
    job(spark, d, "assemble", DAY1, "a")
    with pytest.raises(ValueError, match="refused"), spark_tables.job_run(spark, d, "assemble", DAY1):
        raise ValueError("refused")
    assert run_log.read_runs(d, "assemble", last=DAY1)[0].left_rows
    assert "was replaced" in staleness.stale_reason(d, "embed", DAY2)


def test_a_run_killed_after_its_write_makes_later_days_stale(spark, deployment):
    d = deployment()
    first = job(spark, d, "assemble", DAY1, "a")
    job(spark, d, "embed", DAY1, "a")
    # What a process killed after replacing the rows leaves behind: the rows, and no finished row of its own.
    killed = spark_tables.JobRun(spark=spark, deployment=d, job="assemble", as_of=DAY1)
    killed.replace(profiles(spark, "b"), "user_profiles")
    assert "has not finished" in staleness.stale_reason(d, "embed", DAY1)
    assert "did not succeed" in staleness.stale_reason(d, "assemble", DAY1)
    again = job(spark, d, "assemble", DAY1, "b")
    assert again.status == "ok"
    assert again.replaced_at > first.finished_at
    assert "was replaced" in staleness.stale_reason(d, "embed", DAY1)


def test_rejected_rows_are_bounded_and_replaced(spark, deployment):
    d = deployment()
    df = spark.range(1500).selectExpr("'bill' source", "if(id < 1200, 'x', 'y') reason", "string(id) row")
    spark_tables.write_rejected(df, d, DAY1)
    stored = deltalake.DeltaTable(d.table("rejected_rows")).to_pyarrow_table()
    reasons = stored["reason"].to_pylist()
    assert (reasons.count("x"), reasons.count("y")) == (1000, 300)
    spark_tables.write_rejected(df.limit(2), d, DAY1)
    assert deltalake.DeltaTable(d.table("rejected_rows")).to_pyarrow_table().num_rows == 2


def test_the_second_run_waits_and_says_so(deployment):
    d = deployment()
    code = (
        "import sys; from jobs.lake.delta import job_lock; from jobs.config.deployment import Deployment\n"
        "with job_lock(Deployment.read(sys.argv[1]), 'assemble'): print('mine', flush=True)"
    )
    with job_lock(d, "assemble"):
        second = subprocess.Popen(
            [sys.executable, "-c", code, str(d.path)], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert second.stderr.readline() == "another assemble is running on lake; waiting for it\n"
        with job_lock(d, "embed"):
            assert second.poll() is None
    out, _ = second.communicate(timeout=60)
    assert (out, second.returncode) == ("mine\n", 0)
