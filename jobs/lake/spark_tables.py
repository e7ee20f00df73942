"""The lake's tables in Spark: reading them, and the one place that replaces a day's rows.

A table is partitioned by `day`, the date of its `as_of` (midnight, UTC). Recomputing a day replaces its partition and
never appends. A run whose rows are the day's rows already writes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from functools import partial, reduce
from typing import Any, cast

from delta import DeltaTable
from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, DataFrameWriter, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from jobs.config.deployment import Deployment
from jobs.config.location import is_catalog_name, is_remote
from jobs.lake import catalog
from jobs.lake.company_tables import (
    catalog_version,
    is_files,
    path_exists,
    read_catalog_table,
    read_files,
    without_versions,
)
from jobs.lake.delta import missing_table_error, open_path, table_days
from jobs.lake.errors import TableError, translate_table_errors
from jobs.lake.protocol import UnsupportedTableError
from jobs.lake.repair import LOG
from jobs.lake.run_log import RunRecord
from jobs.lake.staleness import require_retained

TABLE_PROPERTIES = {
    "delta.appendOnly": "false",
    "delta.checkpointPolicy": "classic",
    "delta.columnMapping.mode": "none",
    "delta.enableDeletionVectors": "false",
    "delta.enableTypeWidening": "false",
}
"""Properties that a table of the lake is made with, because the jobs that run without Spark read and write it too."""
REJECTED_PER_REASON = 1_000
"""Rows kept of each source and reason in a day of `rejected_rows`."""


class SourceError(TableError):
    """Source tables or their columns do not fit the deployment file; the message lists all such errors."""


def table_schema(deployment: Deployment, table: str) -> StructType:
    """Return the Spark schema of a table of the catalog; needs a session."""
    return cast(StructType, StructType.fromDDL(catalog.TABLES[table].ddl(deployment)))


def midnight_column(day: date) -> Column:
    """Return `midnight(day)` as a Spark literal."""
    return F.lit(f"{day.isoformat()} 00:00:00+00:00").cast("timestamp")


def delta_exists(spark: SparkSession, path: str) -> bool:
    """Return whether there is a Delta table; TableError where its log cannot be read."""
    with translate_table_errors(path):
        # For a folder inside a table, Delta finds the table above it.
        return bool(DeltaTable.isDeltaTable(spark, path)) and path_exists(spark, f"{path}/{LOG}")


def version(spark: SparkSession, path: str) -> int:
    """Return the newest version of a Delta table."""
    if not is_remote(path):
        with suppress(UnsupportedTableError):
            return open_path(path).version()
    return int(DeltaTable.forPath(spark, path).history(1).head()["version"])  # type: ignore[index]


def read_table(spark: SparkSession, deployment: Deployment, table: str, *, at: int | None = None) -> DataFrame:
    """Read a table by its name in the lake, its path or its URI, at a version if `at` names one.

    Raises
    ------
    TableError
        It does not exist, and the message names the job that makes it; or it no longer has that version; or it is one
        of the project's own and has features with which other jobs cannot read it.
    """
    path = deployment.table(table)
    if is_catalog_name(table):
        return read_catalog_table(spark, path, at)
    company = deployment.company_table(table)
    if company is not None and is_files(company):
        return read_files(spark, path, company)
    if not delta_exists(spark, path):
        raise missing_table_error(deployment, table)
    if at is None and _is_own(table):
        open_path(path)
    reader = spark.read.format("delta")
    with translate_table_errors(path):
        try:
            return (reader if at is None else reader.option("versionAsOf", at)).load(path)
        except AnalysisException as error:
            if at is None or "VERSION" not in (error.getCondition() or ""):
                raise
            raise TableError(
                f"{table} at {path} no longer has version {at}: its log was cleaned or the table was made "
                "anew; read it as it is now"
            ) from None


def read_pinned(spark: SparkSession, deployment: Deployment, table: str, versions: dict[str, int]) -> DataFrame:
    """Read a table at the version in `versions`, or at its newest version, which is added to `versions`.

    Raises
    ------
    TableError
        It does not exist; the message names the job that makes it.
    """
    if table not in versions and (newest := _newest_version(spark, deployment, table)) is not None:
        versions[table] = newest
    return read_table(spark, deployment, table, at=versions.get(table))


def _newest_version(spark: SparkSession, deployment: Deployment, table: str) -> int | None:
    """Return the newest version of a table; None where it has no versions or does not exist."""
    path = deployment.table(table)
    if is_catalog_name(table):
        return catalog_version(spark, path)
    if is_files(deployment.company_table(table)) or not delta_exists(spark, path):
        return None
    return open_path(path).version() if _is_own(table) else version(spark, path)


def _is_own(table: str) -> bool:
    """Return whether a table is the project's own, which jobs without Spark read too."""
    return table in catalog.TABLES and not catalog.TABLES[table].company


def latest_per_key(df: DataFrame, keys: Sequence[str], as_of: date, strictly_before: bool = False) -> DataFrame:
    """Return the latest row of each key at or before a day, or strictly before it.

    `df` has `as_of`, `day` and at most one row of each key and day. For Arrow, see `delta.latest_per_key`.
    """
    past = df.where(F.col("day") < F.lit(as_of) if strictly_before else F.col("day") <= F.lit(as_of))
    newest = past.groupBy(*keys).agg(F.max_by(F.struct(*df.columns), "as_of").alias("newest"))
    return newest.select("newest.*")


def union(frames: Sequence[DataFrame]) -> DataFrame:
    """Return the rows of one or more frames; a column that a frame lacks is null in its rows."""
    return reduce(partial(DataFrame.unionByName, allowMissingColumns=True), frames)


def delta_writer(df: DataFrame) -> DataFrameWriter:
    """Return the writer of rows to a table of the lake, which makes a new table with `TABLE_PROPERTIES`."""
    return df.write.format("delta").options(**TABLE_PROPERTIES)


def replace_day(df: DataFrame, path: str, as_of: date) -> None:
    """Replace a day's rows of a Delta table in one commit; create the table if it is missing.

    `df` gets `day`, and `as_of` if it lacks it.
    """
    if "as_of" not in df.columns:
        df = df.withColumn("as_of", midnight_column(as_of))
    replace_days(df.withColumn("day", F.lit(as_of)), path, [as_of])


def replace_days(df: DataFrame, path: str, days: Collection[date]) -> None:
    """Replace the rows of some days of a Delta table in one commit; create the table if it is missing.

    `df` has `as_of` and `day`, and rows of these days alone.
    """
    where = " OR ".join(f"day = '{day.isoformat()}'" for day in sorted(days))
    # A source added to the deployment file adds its column; one removed leaves it null.
    (
        delta_writer(df)
        .mode("overwrite")
        .option("replaceWhere", where)
        .option("mergeSchema", "true")
        .partitionBy("day")
        .save(path)
    )


def has_day(spark: SparkSession, path: str, as_of: date) -> bool:
    """Return whether a table has files of a day; only its log is read, because a query would take longer to plan."""
    return delta_exists(spark, path) and as_of in table_days(open_path(path))


def clear_day(spark: SparkSession, path: str, as_of: date) -> None:
    """Remove a day's rows, if the table exists and has any."""
    if has_day(spark, path, as_of):
        replace_day(spark.read.format("delta").load(path).limit(0), path, as_of)


def same_rows(df: DataFrame, path: str, as_of: date, columns: Sequence[str]) -> bool:
    """Return whether a day of a table has exactly the rows of `df`, by `columns` and in any order."""
    spark = df.sparkSession
    if not has_day(spark, path, as_of):
        return delta_exists(spark, path) and df.isEmpty()
    stored = spark.read.format("delta").load(path).where(F.col("day") == F.lit(as_of))
    if not set(columns) <= set(stored.columns):
        return False
    return bool(_fingerprint(df, columns) == _fingerprint(stored, columns))


def changed_days(df: DataFrame, path: str, days: Iterable[date], columns: Sequence[str]) -> set[date]:
    """Return the days of which a table does not have exactly the rows of `df`, by `columns` and in any order.

    `df` has `day`; each of both tables is read once. A table without one of the columns has no day.
    """
    stored = df.sparkSession.read.format("delta").load(path)
    if not set(columns) <= set(stored.columns):
        return set(days)
    after, before = (_day_fingerprints(rows, columns) for rows in (df, stored.where(F.col("day").isin([*days]))))
    return {day for day in days if after.get(day) != before.get(day)}


def _day_fingerprints(df: DataFrame, columns: Sequence[str]) -> dict[date, Any]:
    return {row["day"]: row[1:] for row in df.groupBy("day").agg(*_fingerprint_columns(columns)).collect()}


def _fingerprint(df: DataFrame, columns: Sequence[str]) -> Any:
    return df.agg(*_fingerprint_columns(columns)).head()


def _fingerprint_columns(columns: Sequence[str]) -> list[Column]:
    # Null and '' must differ, so each column is hashed with whether it is null.
    row = F.xxhash64(*[part for name in columns for part in (F.col(name), F.col(name).isNull())])
    return [F.count(F.lit(1)), F.sum(row.cast("decimal(38,0)")), F.bit_xor(row)]


def write_rejected(df: DataFrame, deployment: Deployment, as_of: date) -> None:
    """Replace the day's `rejected_rows` by `df` (source, reason, row), at most 1,000 of each source and reason."""
    path = deployment.table("rejected_rows")
    order = Window.partitionBy("source", "reason").orderBy("row")
    kept = df.withColumn("n", F.row_number().over(order)).where(F.col("n") <= REJECTED_PER_REASON)
    replace_day(kept.select("source", "reason", "row", midnight_column(as_of).alias("as_of")), path, as_of)


@dataclass(kw_only=True)
class JobRun(RunRecord):
    """The record of a run in Spark that reads the lake's tables and replaces days of them."""

    spark: SparkSession

    def pin(self, tables: Iterable[str]) -> None:
        """Read these tables at the versions that the last run for the day read; see `RunRecord.pin`."""
        tables = tuple(tables)
        for table in tables:
            if why := without_versions(self.spark, self.deployment, table):
                raise TableError(
                    f"{table} cannot be read at an earlier version: {why}; run {self.job} without --source-versions"
                )
        super().pin(tables)

    def read(self, table: str) -> DataFrame:
        """Read a table at its newest version and note that version."""
        return read_pinned(self.spark, self.deployment, table, self.versions)

    def replace(self, df: DataFrame, table: str, *, known: DataFrame | None = None) -> bool:
        """Replace the run's day of `table`, unless it holds the same rows already; return whether it was written.

        `df` is read twice, once to compare it: cache it, or pass `known`.

        Parameters
        ----------
        known
            The columns by which the catalog tells rows apart, where they are cheaper to compute than `df`; None: `df`
            itself.
        """
        path = self.deployment.table(table)
        same = catalog.TABLES[table].identity(self.deployment)
        if same_rows(df if known is None else known, path, self.as_of, same):
            return False
        self.replacing()
        replace_day(df, path, self.as_of)
        return True

    def replace_table(self, df: DataFrame, table: str, days: Collection[date]) -> int:
        """Make a table hold the rows of these days and of no other, in one commit; return how many were written.

        A day that holds the same rows already is not written. `df` has `as_of`, and is read twice where the table
        exists: cache it.
        """
        path = self.deployment.table(table)
        df = df.withColumn("day", F.to_date("as_of"))
        stored: set[date] = set()
        changed = set(days)
        if delta_exists(self.spark, path):
            stored = table_days(open_path(path))
            changed = changed_days(df, path, days, catalog.TABLES[table].identity(self.deployment))
        if replaced := changed | (stored - set(days)):
            self.replacing()
            replace_days(df.where(F.col("day").isin([*changed])), path, replaced)
        return len(changed)


@contextmanager
def job_run(spark: SparkSession, deployment: Deployment, job: str, as_of: date) -> Iterator[JobRun]:
    """Run the body under the job's lock and leave one row in `job_runs` for (job, as_of), also on failure.

    Raises
    ------
    RefusedError
        Maintain has dropped rows of the day.
    """
    with JobRun.kept(deployment, job, as_of, spark=spark) as run:
        require_retained(deployment, job, as_of)
        yield run
