"""Staleness: which days of a job can be used, from `job_runs` alone."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta

import deltalake
import pyarrow as pa
import pytest

from jobs.lake import delta, run_log, staleness
from jobs.lake.handoff import MaintainHandoff
from jobs.lake.run_log import RefusedError, RunRecord
from jobs.lake.spark_tables import job_run

FIRST = date(2025, 1, 1)
START = datetime(2026, 1, 1, tzinfo=UTC)
FEEDS = {"assemble": ["assemble"], "embed": ["assemble", "embed"], "publish": ["assemble", "embed", "publish"]}


def write_runs(deployment, rows):
    """Write rows of `job_runs` as (job, day, status, started, finished, replaced), moments in minutes."""
    moment = lambda minutes: None if minutes is None else START + timedelta(minutes=minutes)  # noqa: E731
    schema = delta.arrow_schema(run_log.TABLE)
    filled = [
        dict.fromkeys(schema.names)
        | {"job": job, "day": day, "as_of": delta.midnight(day), "status": status, "left_out": [], "versions": []}
        | {"started_at": moment(started), "finished_at": moment(finished), "replaced_at": moment(replaced)}
        for job, day, status, started, finished, replaced in rows
    ]
    deltalake.write_deltalake(
        deployment.table("job_runs"), pa.Table.from_pylist(filled, schema), partition_by=["day", "job"]
    )


def stale(rows, job, day):
    """Whether a day is stale, literally as the docstring says."""
    own = [row for row in rows if row[:2] == (job, day)]
    if not own or own[0][2] != "ok":
        return True
    return any(
        row[4] is None or (row[5] is not None and row[5] > own[0][3])
        for row in rows
        if row[0] in FEEDS[job] and row[1] <= day and row[:2] != (job, day)
    )


@pytest.mark.parametrize("seed", range(3))
def test_the_first_stale_day_is_what_asking_of_each_day_gives_and_the_record_is_read_once(
    seed, deployment, monkeypatch
):
    rng, shop = random.Random(seed), deployment()
    days = [FIRST + timedelta(days=number) for number in range(40)]
    rows = []
    for number, day in enumerate(days):
        for order, job in enumerate(FEEDS):
            started = 10 * number + 3 * order
            again = rng.random() < 0.04
            replaced = rng.choice([None, started + 1, started + 1]) if not again else 1000 + number
            status, finished = rng.choice([("ok", started + 2)] * 30 + [("failed", started + 2), ("failed", None)])
            rows.append((job, day, status, started + (1000 if again else 0), finished, replaced))
    write_runs(shop, rows)
    reads = []
    monkeypatch.setattr(run_log, "read_rows", lambda *args, **more: reads.append(1) or delta.read_rows(*args, **more))
    for job in FEEDS:
        for day in days[::6]:
            assert bool(staleness.stale_reason(shop, job, day)) == stale(rows, job, day), (job, day)
            first = day
            for row in reversed(rows):
                if row[0] == job and row[1] < day and (row[5] is not None or row[4] is None):
                    if not stale(rows, job, row[1]):
                        break
                    first = row[1]
            reads.clear()
            assert staleness.first_stale(shop, job, day) == first, (job, day)
            assert len(reads) == 1


def run(deployment, job, day):
    with RunRecord.kept(deployment, job, day) as record:
        record.replacing()


def test_a_refused_day_leaves_a_failed_row_and_an_earlier_run_of_it_as_it_was(deployment, spark):
    shop, days = deployment(), [FIRST + timedelta(days=number) for number in range(3)]
    run(shop, "assemble", days[0])
    with RunRecord.kept(shop, "maintain", days[2]) as record:
        record.handoff = MaintainHandoff(horizon=days[1])
    for day in days[:2]:
        refuses = pytest.raises(RefusedError, match=f"maintain has dropped rows of the days up to {days[1]}")
        with refuses, job_run(spark, shop, "assemble", day):
            raise AssertionError("the day is refused first")
    before, refused = run_log.read_runs(shop, "assemble")
    assert (before.status, before.left_rows, "error" in before.details) == ("ok", True, False)
    assert "maintain has dropped rows" in before.details["refused"]
    assert (refused.status, refused.left_rows) == ("failed", False)
    assert "maintain has dropped rows" in refused.details["error"]
    assert staleness.stale_reason(shop, "assemble", days[0]) is None
    assert staleness.first_stale(shop, "assemble", days[2]) == days[2]
