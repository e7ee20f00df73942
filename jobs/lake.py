"""The lake without a JVM: who makes its tables, the tables as Arrow, and one lock per job."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from hashlib import sha256
from pathlib import Path

from deltalake import DeltaTable
from filelock import FileLock, Timeout

from jobs.deployment import Deployment
from model.errors import InstructUEError

MADE_BY = {"user_profiles": "assemble", "training_profiles": "userqa", "userqa": "userqa",
           "rejected_rows": "assemble", "user_embeddings": "embed", "user_vectors": "publish",
           "online_users": "publish", "labels": "generate"}
"""The job that makes each table, named in the error where a table is missing."""


class TableError(InstructUEError):
    """A table of the lake is missing or does not look as it must."""


class MissingTableError(TableError):
    """There is no such Delta table."""


def midnight(day: date) -> datetime:
    """The as_of of a day: its first moment, UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def opened(deployment: Deployment, table: str) -> DeltaTable:
    """A table of the lake (or a path or URI).

    Raises
    ------
    TableError
        There is no such Delta table; names the job that makes it.
    """
    path = deployment.table(table)
    if not DeltaTable.is_deltatable(path):
        raise missing(deployment, table)
    return DeltaTable(path)


def missing(deployment: Deployment, table: str) -> MissingTableError:
    """The error that there is no such table; names the job that makes it."""
    job = MADE_BY.get(table)
    fix = f"run `instructue {job}` first, or" if job else "create it, or"
    return MissingTableError(f"{deployment.path}: lake = {deployment.lake}: there is no Delta table {table} at "
                      f"{deployment.table(table)}; {fix} correct `lake`")


def last_day(table: DeltaTable) -> date:
    """The last day of a table that is partitioned by it."""
    found = days(table)
    if not found:
        raise TableError(f"{table.table_uri} has no rows; run `instructue userqa` first")
    return max(found)


def days(table: DeltaTable) -> set[date]:
    """The days of a table that is partitioned by them."""
    return {date.fromisoformat(partition["day"]) for partition in table.partitions()}


@contextmanager
def locked(deployment: Deployment, job: str) -> Iterator[None]:
    """Hold the one lock of this lake and job; a second run says so in one line and waits.

    The lock lies in the lake. A lake that is no local folder is guarded among the runs of this machine:
    its object store's own commit protocol keeps other machines apart.
    """
    if deployment.local:
        folder = Path(deployment.table("_locks"))
    else:
        lake = sha256(deployment.lake.encode()).hexdigest()[:16]
        folder = Path(tempfile.gettempdir()) / f"instructue-{lake}"
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{job}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"another {job} is running on {deployment.lake}; waiting for it", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
