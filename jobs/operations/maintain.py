"""Maintain: keep the project's own tables small, by the section `retention` of the deployment file.

Under the lock of the job that writes a table, maintain

- drops superseded rows: of the days up to the horizon each key keeps its latest row, so a read as of the horizon or a
  later day returns the same rows as before. Rejected rows are dropped by their age.
- merges the small files of a day (OPTIMIZE).
- removes files that no version of the last `retention.files` days reads, those of killed runs included (VACUUM).

The company's own tables are never changed.
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
from jobs.lake import catalog, run_log, spark_tables, staleness
from jobs.lake.delta import job_lock, open_path, table_days, table_exists
from jobs.lake.errors import TableError
from jobs.lake.handoff import MaintainHandoff
from jobs.lake.run_log import RunRecord
from jobs.lake.table import Retention, Table

MAINTAINED = tuple(table for table in catalog.TABLES.values() if not table.company)
MEGABYTE = 1e6
Session = Callable[[], AbstractContextManager[SparkSession]]


@dataclass(frozen=True, kw_only=True)
class TableMaintenance:
    """The result of maintain for one table."""

    rows_dropped: int
    files_before: int
    """Files of the newest version, before."""
    files_after: int
    """Files of the newest version, afterwards."""
    megabytes: float
    """Size of the newest version, afterwards."""
    files_removed: int
    """Files of former versions and of killed runs."""


@dataclass(frozen=True, kw_only=True)
class MaintainResult:
    """The result of one run of maintain."""

    as_of: date
    horizon: date | None
    """The first day that can still be read as of; None: every day can."""
    tables: dict[str, TableMaintenance]
    seconds: float


def maintain(session: Session, deployment: Deployment, as_of: date | None = None) -> MaintainResult:
    """Drop rows, merge files and remove old files; record the run in `job_runs` under `as_of`.

    Maintain waits for a running job table by table, and a job that starts meanwhile waits for its table.

    Parameters
    ----------
    session
        Opens Spark; called only if there are rows to drop.
    as_of
        The day from which `retention` counts back; None: today, UTC.

    Raises
    ------
    TableError
        A day before the horizon is stale: after its rows are dropped it could not be made again.
    """
    as_of = as_of or datetime.now(UTC).date()
    days = deployment.retention.rows
    horizon = as_of - timedelta(days=days) if days else None
    with RunRecord.kept(deployment, "maintain", as_of) as run:
        run.handoff = run.former.handoff(MaintainHandoff) if run.former else MaintainHandoff(horizon=None)
        dropped = _drop_superseded(session, deployment, horizon, run) if horizon else {}
        results = {
            table.name: _compact(deployment, table, dropped.get(table.name, 0), as_of)
            for table in MAINTAINED
            if table_exists(deployment.table(table.name))
        }
        run.rows_out = sum(result.rows_dropped for result in results.values())
        return MaintainResult(as_of=as_of, horizon=horizon, tables=results, seconds=run.seconds())


def _drop_superseded(session: Session, deployment: Deployment, horizon: date, run: RunRecord) -> dict[str, int]:
    """Drop the rows that have a later row of their key at or before the horizon; return their number by table."""
    old = [
        table
        for table in catalog.tables_kept_by(Retention.LATEST)
        if table_exists(path := deployment.table(table.name))
        and any(day < horizon for day in table_days(open_path(path)))
    ]
    if not old:
        return {}
    for table in catalog.tables_kept_by(Retention.LATEST):
        _require_fresh(deployment, table.lock, horizon)
    # Recorded before the first row is dropped: from now on a day before the horizon cannot be made again.
    run.handoff = MaintainHandoff(horizon=horizon)
    run.replacing()
    with session() as spark:
        return {table.name: _drop(spark, deployment, table, horizon) for table in old}


def _require_fresh(deployment: Deployment, job: str, horizon: date) -> None:
    """Raise TableError where the last day of a job at or before the horizon is stale."""
    days = [run.day for run in run_log.read_runs(deployment, job, last=horizon) if run.left_rows]
    if days and (reason := staleness.stale_reason(deployment, job, days[-1])):
        first = staleness.first_stale(deployment, job, days[-1])
        raise TableError(
            f"rows before {horizon} cannot be dropped because {days[-1]} is stale: {reason}; run "
            f"`instructue {job} --as-of {first} --through {days[-1]}` first"
        )


def _drop(spark: SparkSession, deployment: Deployment, table: Table, horizon: date) -> int:
    """Drop the superseded rows of one table; return their number."""
    with job_lock(deployment, table.lock):
        path = deployment.table(table.name)
        rows = spark.read.format("delta").load(path)
        past = rows.where(F.col("day") <= F.lit(horizon))
        kept = spark_tables.latest_per_key(past, table.key, horizon).select(*rows.columns).cache()
        try:
            dropped = past.count() - kept.count()
            if dropped:
                (
                    spark_tables.delta_writer(kept)
                    .mode("overwrite")
                    .option("replaceWhere", f"day <= '{horizon}'")
                    .partitionBy(*table.partition)
                    .save(path)
                )
        finally:
            kept.unpersist()
        return dropped


def _compact(deployment: Deployment, table: Table, dropped: int, as_of: date) -> TableMaintenance:
    """Drop a table's rows by age where the catalog says so, merge its small files and remove its old files.

    `dropped` is the number of superseded rows that were dropped before.
    """
    keep = deployment.retention
    with job_lock(deployment, table.lock):
        delta = open_path(deployment.table(table.name))
        before = _files(delta)
        if table.retention is Retention.AGE:
            first = as_of - timedelta(days=keep.rejected)
            dropped = sum(file["num_records"] for file in before if file["partition.day"] < first)
            if dropped:
                delta.delete(f"day < '{first}'")
        delta.optimize.compact()
        removed = delta.vacuum(keep.files * 24, dry_run=False, full=True)
        delta.create_checkpoint()
        delta.cleanup_metadata()
        after = _files(delta)
        return TableMaintenance(
            rows_dropped=dropped,
            files_before=len(before),
            files_after=len(after),
            megabytes=sum(file["size_bytes"] for file in after) / MEGABYTE,
            files_removed=len(removed),
        )


def _files(table: DeltaTable) -> list[dict[str, Any]]:
    """Return the files of the newest version, with their sizes and rows."""
    return pa.table(table.get_add_actions(flatten=True)).to_pylist()
