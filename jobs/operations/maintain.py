"""Maintain: the project's own tables kept small, as the deployment's `retention` says.

Three things for each table, under the lock of the job that writes it:

- rows that nothing can ask for any more are dropped: of the days up to the horizon each key keeps its latest row, so
  whatever is read as of the horizon or later stays as it is; refused rows go by their age alone;
- a day's small files become one (OPTIMIZE);
- files that no version within `retention.files` days reads are removed (VACUUM), those of killed runs among them.

The company's own tables are never touched.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs.config.deployment import Deployment
from jobs.lake import run_log
from jobs.lake import spark_tables as tables
from jobs.lake.delta import job_lock, open_path, table_days, table_exists
from jobs.lake.errors import MADE_BY, TableError
from jobs.lake.run_log import RunRecord

KEYS = {"user_profiles": ("user_id",), "user_embeddings": ("user_id", "scenario"), "user_vectors": ("user_id",)}
"""Tables of which the latest row at or before a day is asked for, and what it is the latest of."""
REJECTED = "rejected_rows"
TABLES = (*KEYS, "training_profiles", "userqa", REJECTED, "online_users", run_log.JOB_RUNS)
DAILY = ("assemble", "embed", "publish")
MEGABYTE = 1e6


@dataclass(frozen=True, kw_only=True)
class TableMaintenance:
    """What was done to a table."""

    rows_dropped: int
    files_before: int
    files_after: int
    """Of the newest version."""
    megabytes: float
    """Of the newest version, afterwards."""
    files_removed: int
    """Of former versions and of killed runs."""


@dataclass(frozen=True, kw_only=True)
class MaintainResult:
    """What one run of maintain did."""

    as_of: date
    horizon: date | None
    """The first day that can still be asked for; None: every day can."""
    tables: dict[str, TableMaintenance]
    seconds: float


def maintain(
    session: Callable[[], AbstractContextManager[SparkSession]], deployment: Deployment, as_of: date | None = None
) -> MaintainResult:
    """Drop, compact and remove what the deployment's retention lets go; recorded in `job_runs` under `as_of`.

    A job that is running is waited for, table by table, and waits for its table in turn.

    Parameters
    ----------
    session
        Opens Spark; called only where rows are to be dropped.
    as_of
        The day from which `retention` counts back; today (UTC) unless named.

    Raises
    ------
    TableError
        A day before the horizon is stale: once its rows are dropped it could not be made again.
    """
    as_of = as_of or datetime.now(UTC).date()
    keep = deployment.retention
    horizon = as_of - timedelta(days=keep.rows) if keep.rows else None
    with RunRecord.kept(deployment, "maintain", as_of) as run:
        dropped = _drop_superseded(session, deployment, horizon, run) if horizon else {}
        found = {
            table: _tidy(deployment, table, dropped.get(table, 0), as_of)
            for table in TABLES
            if table_exists(deployment.table(table))
        }
        run.rows_out = sum(tidied.rows_dropped for tidied in found.values())
        return MaintainResult(as_of=as_of, horizon=horizon, tables=found, seconds=run.seconds())


def _drop_superseded(
    session: Callable[[], AbstractContextManager[SparkSession]], deployment: Deployment, horizon: date, run: RunRecord
) -> dict[str, int]:
    """Rows dropped by table: those of a key that a later row, at or before the horizon, follows."""
    old = [
        table
        for table in KEYS
        if table_exists(path := deployment.table(table)) and any(day < horizon for day in table_days(open_path(path)))
    ]
    if not old:
        return {}
    for job in DAILY:
        _require_settled(deployment, job, horizon)
    # Said before a row goes: from now on a day before the horizon can no longer be made again.
    run.details[run_log.HORIZON] = str(horizon)
    run.replacing()
    with session() as spark:
        return {table: _drop(spark, deployment, table, horizon) for table in old}


def _require_settled(deployment: Deployment, job: str, horizon: date) -> None:
    before = [run.day for run in run_log.read_runs(deployment, job, last=horizon) if run.left_rows]
    if before and (reason := run_log.stale_reason(deployment, job, before[-1])):
        first = run_log.first_stale(deployment, job, before[-1])
        raise TableError(
            f"rows before {horizon} cannot be dropped, for {before[-1]} is stale: {reason}; run "
            f"`instructue {job} --as-of {first} --through {before[-1]}` first"
        )


def _drop(spark: SparkSession, deployment: Deployment, table: str, horizon: date) -> int:
    with job_lock(deployment, MADE_BY[table]):
        path = deployment.table(table)
        rows = spark.read.format("delta").load(path)
        past = rows.where(F.col("day") <= F.lit(horizon))
        kept = tables.latest_per_key(past, KEYS[table], horizon).select(*rows.columns).cache()
        try:
            gone = past.count() - kept.count()
            if gone:
                (
                    kept.write.format("delta")
                    .mode("overwrite")
                    .option("replaceWhere", f"day <= '{horizon}'")
                    .partitionBy("day")
                    .save(path)
                )
        finally:
            kept.unpersist()
        return gone


def _tidy(deployment: Deployment, table: str, dropped: int, as_of: date) -> TableMaintenance:
    keep = deployment.retention
    with job_lock(deployment, MADE_BY.get(table, table)):
        found = open_path(deployment.table(table))
        before = len(_files(found))
        if table == REJECTED:
            last = as_of - timedelta(days=keep.rejected)
            dropped = sum(file["num_records"] for file in _files(found) if file["partition.day"] < last)
            if dropped:
                found.delete(f"day < '{last}'")
        found.optimize.compact()
        removed = found.vacuum(keep.files * 24, dry_run=False, full=True)
        found.create_checkpoint()
        found.cleanup_metadata()
        files = _files(found)
        return TableMaintenance(
            rows_dropped=dropped,
            files_before=before,
            files_after=len(files),
            megabytes=sum(file["size_bytes"] for file in files) / MEGABYTE,
            files_removed=len(removed),
        )


def _files(table: DeltaTable) -> list[dict[str, Any]]:
    """The files of the newest version, with their sizes and rows."""
    return pa.table(table.get_add_actions(flatten=True)).to_pylist()
