"""Maintain: the tables get smaller, and whatever the retention promises can still be read."""

from __future__ import annotations

import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import date, timedelta
from pathlib import Path

import deltalake
import pyarrow as pa
import pytest

from jobs.lake import run_log, spark_tables, staleness
from jobs.lake.delta import TableError, job_lock, midnight
from jobs.lake.handoff import MaintainHandoff
from jobs.operations.maintain import maintain
from tests.support.deployment import deploy

KEYS = {"user_profiles": ("user_id",), "user_embeddings": ("user_id", "scenario"), "user_vectors": ("user_id",)}
REJECTED = "rejected_rows"
TODAY = date(2025, 6, 30)
DAYS = [TODAY - timedelta(days=back) for back in (90, 61, 60, 59, 30, 0)]
HORIZON = TODAY - timedelta(days=60)
JOBS = {"user_profiles": "assemble", "user_embeddings": "embed", "user_vectors": "publish"}
HASHES = {"user_profiles": "profile_hash", "user_embeddings": "profile_hash", "user_vectors": "food"}


@pytest.fixture
def lake(spark, tmp_path):
    """Three tables of which some keys get a row on some days, each run recorded."""
    rng, d = random.Random(3), deploy(tmp_path, retention={"rows": 60})
    for day in DAYS:
        for table, job in JOBS.items():
            rows = [
                {
                    "user_id": f"u{n}",
                    "scenario": scenario,
                    "day": day,
                    "as_of": midnight(day),
                    HASHES[table]: rng.choice([None, "a", "b", "c"]),
                }
                for n in range(12)
                for scenario in ("food", "film")[: len(KEYS[table])]
                if rng.random() < 0.5
            ]
            with spark_tables.job_run(spark, d, job, day) as run:
                run.replacing()
                write(d.table(table), rows, day)
    return d


def write(path, rows, day):
    """A day's rows in two files."""
    for part in (rows[::2], rows[1::2]):
        deltalake.write_deltalake(path, pa.Table.from_pylist(part, schema(part)), mode="append", partition_by=["day"])


def schema(rows):
    kinds = {"as_of": pa.timestamp("us", "UTC"), "day": pa.date32()}
    return pa.schema([(name, kinds.get(name, pa.string())) for name in rows[0]])


def rows_of(d, table, version=None):
    return deltalake.DeltaTable(d.table(table), version=version).to_pyarrow_table().to_pylist()


def as_of(rows, table, day):
    """Each key's latest row at or before a day, literally."""
    latest: dict[tuple[str, ...], dict] = {}
    for row in sorted(rows, key=lambda row: row["day"]):
        if row["day"] <= day:
            latest[tuple(row[key] for key in KEYS[table])] = row
    return latest


def test_rows_that_a_later_one_follows_by_the_horizon_are_dropped_and_no_others(spark, lake):
    before = {table: rows_of(lake, table) for table in KEYS}
    done = maintain(lambda: nullcontext(spark), lake, TODAY)
    assert done.horizon == HORIZON
    for table in KEYS:
        after = rows_of(lake, table)
        for day in [HORIZON + timedelta(days=n) for n in range(61)]:
            assert as_of(after, table, day) == as_of(before[table], table, day), (table, day)
        old = [row for row in before[table] if row["day"] <= HORIZON]
        superseded = len(old) - len(as_of(old, table, HORIZON))
        assert done.tables[table].rows_dropped == superseded == len(before[table]) - len(after) > 0
    assert not any(result.rows_dropped for result in maintain(lambda: nullcontext(spark), lake, TODAY).tables.values())
    # A day before the horizon can no longer be made again, a later one can.
    for job in JOBS.values():
        with pytest.raises(TableError, match=rf"{job} for {DAYS[2]}: maintain has dropped .* up to {HORIZON}"):
            staleness.require_retained(lake, job, DAYS[2])
        staleness.require_retained(lake, job, DAYS[3])
        assert staleness.stale_reason(lake, job, TODAY) is None


def test_nothing_is_dropped_while_a_day_before_the_horizon_is_stale(spark, lake):
    before = {table: rows_of(lake, table) for table in KEYS}
    with spark_tables.job_run(spark, lake, "embed", DAYS[0]) as run:
        run.replacing()
    with pytest.raises(TableError, match=rf"{DAYS[2]} is stale: embed for {DAYS[0]} .* --as-of {DAYS[1]} --through"):
        maintain(lambda: nullcontext(spark), lake, TODAY)
    assert {table: rows_of(lake, table) for table in KEYS} == before
    [refused] = run_log.read_runs(lake, "maintain")
    assert (refused.status, refused.day, refused.handoff(MaintainHandoff).horizon) == ("failed", TODAY, None)
    assert f"{DAYS[2]} is stale" in refused.details["error"]


def test_a_second_run_of_a_day_keeps_the_horizon_of_the_first(spark, lake):
    maintain(lambda: nullcontext(spark), lake, TODAY)
    maintain(no_spark, deploy(lake.path.parent), TODAY)  # its file keeps every row
    with pytest.raises(TableError, match=f"up to {HORIZON}"):
        staleness.require_retained(lake, "embed", HORIZON)


def test_small_files_become_one_and_old_versions_are_still_read(spark, lake):
    path = Path(lake.table("user_profiles"))
    version = deltalake.DeltaTable(str(path)).version()
    before = rows_of(lake, "user_profiles")
    stray = {age: path / f"day={DAYS[0]}" / f"killed-{age}.parquet" for age in (6, 8)}
    for age, file in stray.items():
        file.write_bytes(b"a run was killed")
        os.utime(file, (time.time() - age * 86_400,) * 2)
    done = maintain(no_spark, deploy(lake.path.parent), TODAY)
    assert done.horizon is None
    result = done.tables["user_profiles"]
    assert (result.files_before, result.files_after, result.files_removed) == (2 * len(DAYS), len(DAYS), 1)
    assert {age: file.exists() for age, file in stray.items()} == {6: True, 8: False}
    assert rows_of(lake, "user_profiles", version) == before
    assert sorted(map(str, rows_of(lake, "user_profiles"))) == sorted(map(str, before))
    assert spark.read.format("delta").load(str(path)).count() == len(before)


def test_refused_rows_go_by_their_age(deployment):
    d = deployment(retention={"rejected": 60})
    for day in DAYS:
        write(d.table(REJECTED), [{"source": "bill", "row": row, "day": day} for row in "abc"], day)
    assert maintain(no_spark, d, TODAY).tables[REJECTED].rows_dropped == 6
    assert {row["day"] for row in rows_of(d, REJECTED)} == {*DAYS[2:]}


def test_a_running_job_is_waited_for(lake, caplog):
    d = deploy(lake.path.parent)
    with ThreadPoolExecutor(1) as pool:
        with job_lock(d, "publish"):
            run = pool.submit(maintain, no_spark, d, TODAY)
            while "another publish is running" not in caplog.text:
                assert not run.done(), run.result()
                time.sleep(0.01)
            version = deltalake.DeltaTable(d.table("user_vectors")).version()
        run.result()
    assert deltalake.DeltaTable(d.table("user_vectors")).version() > version


def no_spark():
    raise AssertionError("there is nothing to drop")
