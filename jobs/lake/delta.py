"""The lake's tables as Arrow, without a JVM, and the lock of each job."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, write_deltalake
from filelock import FileLock, Timeout
from pyarrow.dataset import ParquetReadOptions

from jobs.config.deployment import Deployment
from jobs.config.location import local_path
from jobs.lake import catalog
from jobs.lake.errors import TableError, translate_table_errors
from jobs.lake.folder_contents import contents
from jobs.lake.protocol import open_supported
from jobs.lake.repair import rewrite_hint
from jobs.lake.table import Table

logger = logging.getLogger(__name__)
READ_OPTIONS = ParquetReadOptions(coerce_int96_timestamp_unit="us")
"""Nanoseconds, Arrow's default for the timestamps of some writers, end in the year 2262."""


class MissingTableError(TableError):
    """A Delta table does not exist."""


def midnight(day: date) -> datetime:
    """Return the first moment of a day, UTC, which is the day's `as_of`."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def open_table(deployment: Deployment, table: str) -> DeltaTable:
    """Open a table by its name in the lake, its path or its URI.

    Raises
    ------
    TableError
        It does not exist, and the message names the job that makes it; or its log cannot be read.
    """
    path = deployment.table(table)
    if not table_exists(path):
        raise missing_table_error(deployment, table)
    return open_path(path)


def table_exists(path: str) -> bool:
    """Return whether there is a Delta table at a path or URI."""
    with translate_table_errors(path):
        return bool(DeltaTable.is_deltatable(path))


def open_path(path: str) -> DeltaTable:
    """Open the Delta table at a path or URI.

    Raises
    ------
    UnsupportedTableError
        It has features that `deltalake` does not read correctly.
    TableError
        Its log cannot be read, or has an empty commit.
    """
    return open_supported(path)


def read_rows(
    table: DeltaTable, *, columns: Sequence[str] | None = None, filters: pc.Expression | None = None
) -> pa.Table:
    """Return the rows of a table that meet a condition, all without one; `columns` of them, all without it.

    Raises
    ------
    TableError
        One of its files is lost or broken, or has a column under a name in other case, which Arrow would read as null.
    """
    path = _table_path(table)
    with translate_table_errors(path):
        dataset = table.to_pyarrow_dataset(parquet_read_options=READ_OPTIONS)
        for fragment in dataset.get_fragments(filter=filters):
            _require_same_case(fragment, dataset.schema, path)
        return dataset.to_table(columns=columns, filter=filters)


def _table_path(table: DeltaTable) -> str:
    """Return the path of an opened table on this machine, or its URI elsewhere."""
    uri = table.table_uri.rstrip("/")
    folder = local_path(uri)
    return uri if folder is None else unquote(str(folder))


def _require_same_case(fragment: Any, schema: pa.Schema, path: str) -> None:
    stored = fragment.physical_schema.names
    for name in (name for name in schema.names if name not in stored):
        if other := next((other for other in stored if other.casefold() == name.casefold()), None):
            raise TableError(
                f"the file {Path(fragment.path).name} of the table at {path} has the column {name} as {other}, which "
                f"only Spark reads as the same column; {rewrite_hint(path)}"
            )


def latest_per_key(rows: pa.Table, keys: Sequence[str], at: datetime | None = None) -> list[int]:
    """Return the positions of the latest row of each key by `as_of`; with `at`, of the rows at or before that moment.

    `rows` has one row of each key and `as_of`. Its Spark counterpart is `spark_tables.latest_per_key`.
    """
    narrow = rows.select([*keys, "as_of"]).append_column("__position", pa.array(range(len(rows)), pa.int64()))
    if at is not None:
        narrow = narrow.filter(pc.less_equal(narrow["as_of"], pa.scalar(at, narrow["as_of"].type)))
    ordered = narrow.sort_by("as_of").drop_columns(["as_of"])
    latest = ordered.group_by([*keys], use_threads=False).aggregate([("__position", "last")])
    return list(latest["__position_last"].to_pylist())


ARROW_TYPES = {
    "string": pa.string(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "double": pa.float64(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", "UTC"),
    "array<float>": pa.list_(pa.float32()),
    "map<string,bigint>": pa.map_(pa.string(), pa.int64()),
}
"""The Arrow types of the catalog's columns, for the tables that are written without Spark."""


def arrow_schema(table: Table) -> pa.Schema:
    """Return the Arrow schema of a table whose columns no deployment file names."""
    if callable(table.columns):
        raise TypeError(f"the columns of {table.name} depend on the deployment file")
    return pa.schema([(column.name, ARROW_TYPES[column.type]) for column in table.columns])


def replace_rows(path: str, rows: pa.Table, where: str) -> None:
    """Replace the rows that a condition selects, in one commit; create the table if it is missing."""
    write_deltalake(path, rows, mode="overwrite", partition_by=["day"], predicate=where if table_exists(path) else None)


def missing_table_error(deployment: Deployment, table: str) -> MissingTableError:
    """Return the error that a table is missing; it names the job that makes it."""
    job = catalog.made_by(table)
    first = f"run `instructue {job}` first, or" if job else "create it, or"
    return MissingTableError(
        f"{deployment.path}: lake = {deployment.lake}: there is no Delta table {table} at "
        f"{deployment.table(table)}{contents(deployment.table(table)).what}; {first} correct `lake`"
    )


def absent_message(path: str) -> str:
    """Return the message that there is no Delta table at a path, what is at the path, and what to do."""
    what, advice = contents(path)
    return f"there is no Delta table at {path}{what}; {advice}"


def last_day(table: DeltaTable) -> date:
    """Return the last day of a table that is partitioned by day; TableError where it has no rows."""
    days = table_days(table)
    if not days:
        path = _table_path(table)
        maker = catalog.made_by(Path(path).name) or "userqa"
        raise TableError(f"{path} has no rows; run `instructue {maker}` first")
    return max(days)


def table_days(table: DeltaTable) -> set[date]:
    """Return the days of a table that is partitioned by day."""
    return {date.fromisoformat(partition["day"]) for partition in table.partitions()}


@contextmanager
def job_lock(deployment: Deployment, job: str) -> Iterator[None]:
    """Hold the lock of a job on this lake while the block runs; a second run logs that it waits, and waits.

    The lock is a file in the lake. For a remote lake it is a file of this machine and keeps the runs of this machine
    apart; the store's own commit protocol keeps those of other machines apart.
    """
    folder = local_path(deployment.table("_locks"))
    if folder is None:
        lake = sha256(deployment.lake.encode()).hexdigest()[:16]
        folder = Path(tempfile.gettempdir()) / f"instructue-{lake}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TableError(
            f"{deployment.path}: lake = {deployment.lake}: {folder} cannot be made ({error.strerror}); "
            "name a folder that may be written to"
        ) from None
    lock = FileLock(folder / f"{job}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.warning("another %s is running on %s; waiting for it", job, deployment.lake)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
