"""The lake without a JVM: tables as Arrow, and the record of a run, for the jobs that train, export and evaluate."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from jobs.deployment import Deployment
from jobs.tables import MADE_BY, TableError, locked, midnight

JOB_RUNS = pa.schema({
    "job": pa.string(), "as_of": pa.timestamp("us", "UTC"), "status": pa.string(),
    "started_at": pa.timestamp("us", "UTC"), "finished_at": pa.timestamp("us", "UTC"),
    "replaced_at": pa.timestamp("us", "UTC"), "rows_in": pa.int64(), "rows_out": pa.int64(),
    "left_out": pa.map_(pa.string(), pa.int64()), "seconds": pa.float64(), "model_version": pa.string(),
    "versions": pa.map_(pa.string(), pa.int64()), "details": pa.string(), "day": pa.date32(),
})
"""`jobs.tables.JOB_RUNS`, in Arrow."""


def opened(deployment: Deployment, table: str) -> DeltaTable:
    """A table of the lake (or a path or URI).

    Raises
    ------
    TableError
        There is no such Delta table; names the job that makes it.
    """
    path = deployment.table(table)
    if not DeltaTable.is_deltatable(path):
        job = MADE_BY.get(table)
        fix = f"run `instructue {job}` first, or" if job else "create it, or"
        raise TableError(f"{deployment.path}: lake = {deployment.lake}: there is no Delta table {table} at {path}; "
                         f"{fix} correct `lake`")
    return DeltaTable(path)


@dataclass(kw_only=True)
class Run:
    """What a job without Spark tells about its run; becomes its row of `job_runs`."""

    deployment: Deployment
    rows_in: int | None = None
    rows_out: int | None = None
    left_out: dict[str, int] = field(default_factory=dict)
    model_version: str | None = None
    versions: dict[str, int] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    begun: float = field(default_factory=time.monotonic)

    def open(self, table: str) -> DeltaTable:
        """Open a table and note its version."""
        found = opened(self.deployment, table)
        self.versions[table] = found.version()
        return found

    def seconds(self) -> float:
        """How long it has run."""
        return time.monotonic() - self.begun


@contextmanager
def recorded(deployment: Deployment, job: str, as_of: date) -> Iterator[Run]:
    """Run the body under the job's lock and leave one row in `job_runs` for (job, as_of), also on failure."""
    with locked(deployment, job):
        started, run = datetime.now(UTC), Run(deployment=deployment)
        try:
            yield run
        except BaseException as error:
            run.details["error"] = f"{type(error).__name__}: {error}"[:2000]
            _record(run, job, as_of, started, "failed")
            raise
        _record(run, job, as_of, started, "ok")


def last_day(table: DeltaTable) -> date:
    """The last day of a table that is partitioned by it."""
    days: Sequence[str] = [partition["day"] for partition in table.partitions()]
    if not days:
        raise TableError(f"{table.table_uri} has no rows; run `instructue userqa` first")
    return date.fromisoformat(max(days))


def _record(run: Run, job: str, as_of: date, started: datetime, status: str) -> None:
    now = datetime.now(UTC)
    row = {"job": job, "as_of": midnight(as_of), "status": status, "started_at": started, "finished_at": now,
           "replaced_at": now, "rows_in": run.rows_in, "rows_out": run.rows_out, "left_out": list(run.left_out.items()),
           "seconds": run.seconds(), "model_version": run.model_version, "versions": list(run.versions.items()),
           "details": json.dumps(run.details, ensure_ascii=False, default=str), "day": as_of}
    with locked(run.deployment, "job_runs"):
        path = run.deployment.table("job_runs")
        there = DeltaTable.is_deltatable(path)
        write_deltalake(path, pa.Table.from_pylist([row], JOB_RUNS), mode="overwrite", partition_by=["day", "job"],
                        predicate=f"day = '{as_of.isoformat()}' AND job = '{job}'" if there else None)
