"""The Delta tables: their schemas, the one place that replaces a day, and the record of every run.

A table of a lake is partitioned by `day`, the date of its `as_of` (UTC midnight). Recomputing a day
replaces its partition and never appends; a run whose rows are the day's rows already writes nothing.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import deltalake
from delta import DeltaTable
from filelock import FileLock, Timeout
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from jobs.deployment import Deployment
from model.errors import InstructUEError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
REJECTED_PER_REASON = 1_000

REJECTED_ROWS = "as_of timestamp, source string, reason string, row string, day date"
JOB_RUNS = """job string, as_of timestamp, status string, started_at timestamp, finished_at timestamp,
    replaced_at timestamp, rows_in bigint, rows_out bigint, left_out map<string,bigint>, seconds double,
    model_version string, versions map<string,bigint>, details string, day date"""
LABELS = "user_id string, as_of timestamp, scenario string, label int"
USERQA = """user_id string, as_of timestamp, question string, instruction string, answer string, axis string,
    split string, day date"""
USER_EMBEDDINGS = """user_id string, scenario string, as_of timestamp, embedding array<float>,
    model_version string, instruction_hash string, profile_hash string, created_at timestamp, day date"""

MADE_BY = {"user_profiles": "assemble", "training_profiles": "userqa", "userqa": "userqa",
           "user_embeddings": "embed", "user_vectors": "publish", "labels": "generate"}
"""The job that makes each table, named in the error where a table is missing."""

INPUTS = {"assemble": (), "userqa": (), "embed": ("assemble",), "publish": ("embed", "assemble")}
"""The daily jobs whose day an earlier or equal day of these jobs feeds."""


class TableError(InstructUEError):
    """A table of the lake is missing or does not look as it must."""


class SourceError(TableError):
    """A source table, or a column of it, is not what the deployment file says; all such mistakes at once."""


def user_profiles(deployment: Deployment) -> StructType:
    """Schema of `user_profiles` and `training_profiles`: the model's input, see docs on tables."""
    sources = [source.name for source in deployment.sources]
    events = [f"{name} array<struct<event_time: timestamp, text: string, gap: int>>" for name in sources]
    ages = ", ".join(f"{name}: int" for name in sources)
    tabular = ", ".join([f"{n}: double" for n in deployment.numbers]
                        + [f"{c}: string" for c in deployment.categories])
    columns = ["user_id string", "as_of timestamp", *events, f"ages struct<{ages}>"]
    columns += [f"tabular struct<{tabular}>"] if tabular else []
    return _schema(", ".join([*columns, "profile_hash string", "day date"]))


def user_vectors(deployment: Deployment) -> StructType:
    """Schema of `user_vectors`: one row per user and as_of, a packed float16 vector per scenario."""
    vectors = [f"{name} binary, {name}_model_version string, {name}_as_of timestamp"
               for name in deployment.scenario_names]
    return _schema(", ".join(["user_id string", "as_of timestamp", *vectors, "day date"]))


def _schema(columns: str) -> StructType:
    return cast(StructType, StructType.fromDDL(columns))


def midnight(day: date) -> datetime:
    """The as_of of a day: its first moment, UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def moment(day: date) -> Column:
    """`midnight(day)` as a Spark literal."""
    return F.lit(f"{day.isoformat()} 00:00:00+00:00").cast("timestamp")


def days(as_of: date, through: date | None = None) -> tuple[date, ...]:
    """The days that one call runs, oldest first: `as_of` alone, or to `through`, both included."""
    last = through or as_of
    if last < as_of:
        raise TableError(f"through {last} is before as_of {as_of}; name the same day or a later one")
    return tuple(as_of + timedelta(days=step) for step in range((last - as_of).days + 1))


def exists(spark: SparkSession, path: str) -> bool:
    return bool(DeltaTable.isDeltaTable(spark, path))


def version(spark: SparkSession, path: str) -> int:
    """The newest version of a Delta table."""
    if "://" not in path:
        return deltalake.DeltaTable(path, without_files=True).version()
    return int(DeltaTable.forPath(spark, path).history(1).head()["version"])  # type: ignore[index]


def read(spark: SparkSession, deployment: Deployment, table: str, *, at: int | None = None) -> DataFrame:
    """A table of the lake (or a path or URI), at a version if one is named.

    Raises
    ------
    TableError
        There is no such Delta table; names the job that makes it.
    """
    path = deployment.table(table)
    if not exists(spark, path):
        job = MADE_BY.get(table)
        fix = f"run `instructue {job}` first, or" if job else "create it, or"
        raise TableError(f"{deployment.path}: lake = {deployment.lake}: there is no Delta table {table} at "
                         f"{path}; {fix} correct `lake`")
    reader = spark.read.format("delta")
    return (reader if at is None else reader.option("versionAsOf", at)).load(path)


def latest(df: DataFrame, keys: Sequence[str], as_of: date, strictly_before: bool = False) -> DataFrame:
    """The latest row per key at `as_of` (or strictly before it), whole; `df` has one per key and as_of."""
    past = df.where(F.col("day") < F.lit(as_of) if strictly_before else F.col("day") <= F.lit(as_of))
    newest = past.groupBy(*keys).agg(F.max_by(F.struct(*df.columns), "as_of").alias("newest"))
    return newest.select("newest.*")


def replace_day(df: DataFrame, path: str, as_of: date, partitions: Sequence[str] = ("day",),
                also: Mapping[str, str] | None = None) -> None:
    """Replace a day's rows of a Delta table in one commit; the table is created where it is missing.

    `df` gets `as_of` and `day` where it lacks them. `also` narrows the rows replaced to those whose further
    partition columns have these values (`job_runs` replaces one job's row of a day).
    """
    if "as_of" not in df.columns:
        df = df.withColumn("as_of", moment(as_of))
    where = " AND ".join([f"day = '{as_of.isoformat()}'", *(f"{k} = '{v}'" for k, v in (also or {}).items())])
    # A source added to the deployment file adds its column; one removed leaves it null.
    (df.withColumn("day", F.lit(as_of)).write.format("delta").mode("overwrite").option("replaceWhere", where)
       .option("mergeSchema", "true").partitionBy(*partitions).save(path))


def clear_day(spark: SparkSession, path: str, as_of: date) -> None:
    """Remove a day's rows, where there is such a table and it has any."""
    if exists(spark, path):
        there = spark.read.format("delta").load(path).where(F.col("day") == F.lit(as_of))
        if not there.isEmpty():
            replace_day(there.limit(0), path, as_of)


def same_rows(df: DataFrame, path: str, as_of: date, columns: Sequence[str]) -> bool:
    """Whether a day of a table holds exactly the rows of `df`, by `columns`, whatever their order."""
    spark = df.sparkSession
    if not exists(spark, path):
        return False
    there = spark.read.format("delta").load(path).where(F.col("day") == F.lit(as_of))
    if there.isEmpty():
        return df.isEmpty()
    if not set(columns) <= set(there.columns):
        return False
    return bool(_fingerprint(df, columns) == _fingerprint(there, columns))


def _fingerprint(df: DataFrame, columns: Sequence[str]) -> Any:
    # Null and '' must differ, so each column is hashed with whether it is null.
    row = F.xxhash64(*[part for name in columns for part in (F.col(name), F.col(name).isNull())])
    return df.agg(F.count(F.lit(1)), F.sum(row.cast("decimal(38,0)")), F.bit_xor(row)).head()


def write_rejected(df: DataFrame, deployment: Deployment, as_of: date) -> None:
    """Replace the day's `rejected_rows` by `df` (source, reason, row); at most 1,000 a source and reason."""
    from pyspark.sql import Window

    path = deployment.table("rejected_rows")
    order = Window.partitionBy("source", "reason").orderBy("row")
    kept = df.withColumn("n", F.row_number().over(order)).where(F.col("n") <= REJECTED_PER_REASON)
    replace_day(kept.select("source", "reason", "row", moment(as_of).alias("as_of")), path, as_of)


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


@dataclass(kw_only=True)
class JobRun:
    """What a job tells about its run while it runs; becomes one row of `job_runs` when it ends."""

    spark: SparkSession
    deployment: Deployment
    job: str
    as_of: date
    started_at: datetime
    former: Run | None = None
    """What an earlier run for the same day left behind."""
    rows_in: int | None = None
    rows_out: int | None = None
    left_out: dict[str, int] = field(default_factory=dict)
    model_version: str | None = None
    versions: dict[str, int] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    replaced: bool = False

    def read(self, table: str) -> DataFrame:
        """Read a table at its newest version and note that version."""
        path = self.deployment.table(table)
        if exists(self.spark, path):
            self.versions.setdefault(table, version(self.spark, path))
        return read(self.spark, self.deployment, table, at=self.versions.get(table))

    def replace(self, df: DataFrame, table: str, same: Sequence[str], as_of: date | None = None) -> bool:
        """Replace a day of `table` unless it holds the same rows by the columns `same`; True where written.

        `df` is read twice: cache it. `as_of` is the run's own day unless named.
        """
        path, day = self.deployment.table(table), as_of or self.as_of
        if same_rows(df, path, day, same):
            return False
        if not self.replaced:
            # Killed between the two commits, the unfinished row tells that the day's rows may be new.
            self.replaced = True
            _record(self, "failed", finished_at=None)
        replace_day(df, path, day)
        return True

    def seconds(self) -> float:
        """How long it has run."""
        return (datetime.now(UTC) - self.started_at).total_seconds()

    def row(self, status: str, finished_at: datetime | None) -> tuple[Any, ...]:
        """The run so far as a row of `job_runs`."""
        now = datetime.now(UTC)
        former = self.former
        unchanged = former is not None and former.finished_at is not None and not self.replaced
        replaced_at = former.replaced_at if former and unchanged else now
        return (self.job, midnight(self.as_of), status, self.started_at, finished_at, replaced_at,
                self.rows_in, self.rows_out, self.left_out, self.seconds(),
                self.model_version, self.versions,
                json.dumps(self.details, ensure_ascii=False, default=str), self.as_of)


@contextmanager
def job_run(spark: SparkSession, deployment: Deployment, job: str, as_of: date) -> Iterator[JobRun]:
    """Run the body under the job's lock and leave one row in `job_runs` for (job, as_of), also on failure."""
    with locked(deployment, job):
        former = runs(spark, deployment, [job], as_of, first=as_of)
        run = JobRun(spark=spark, deployment=deployment, job=job, as_of=as_of, started_at=datetime.now(UTC),
                     former=former[0] if former else None)
        try:
            yield run
        except BaseException as error:
            run.details["error"] = f"{type(error).__name__}: {error}"[:2000]
            try:
                _record(run, "failed", finished_at=datetime.now(UTC))
            except Exception as unrecorded:
                # Spark itself may have died: what failed first is what the person must see.
                error.add_note(f"the run was not recorded in job_runs: {unrecorded}"[:300])
            raise
        _record(run, "ok", finished_at=datetime.now(UTC))


def _record(run: JobRun, status: str, finished_at: datetime | None) -> None:
    rows: list[tuple[Any, ...]] = [run.row(status, finished_at)]
    df = run.spark.createDataFrame(rows, _schema(JOB_RUNS)).coalesce(1)
    # Different jobs share this table: one at a time, each replacing a partition of its own.
    with locked(run.deployment, "job_runs"):
        replace_day(df, run.deployment.table("job_runs"), run.as_of, ("day", "job"), {"job": run.job})


@dataclass(frozen=True, kw_only=True)
class Run:
    """What later runs need to know of a row of `job_runs`; times are UTC."""

    job: str
    day: date
    status: str
    started_at: datetime
    finished_at: datetime | None
    """None while it runs, or when it was killed."""
    replaced_at: datetime


def runs(spark: SparkSession, deployment: Deployment, jobs: Iterable[str], last: date,
         first: date | None = None) -> list[Run]:
    """The rows of `job_runs` of these jobs with `first` <= day <= `last`, oldest first."""
    path = deployment.table("job_runs")
    if not exists(spark, path):
        return []
    times = [F.unix_micros(name).alias(name) for name in ("started_at", "finished_at", "replaced_at")]
    found = (spark.read.format("delta").load(path)
             .where(F.col("job").isin(*jobs) & (F.col("day") <= F.lit(last)))
             .where(F.col("day") >= F.lit(first) if first else F.lit(True))
             .select("job", "day", "status", *times).collect())

    def utc(micros: int) -> datetime:
        return EPOCH + timedelta(microseconds=micros)

    return [Run(job=row["job"], day=row["day"], status=row["status"], started_at=utc(row["started_at"]),
                finished_at=None if row["finished_at"] is None else utc(row["finished_at"]),
                replaced_at=utc(row["replaced_at"]))
            for row in sorted(found, key=lambda row: (row["day"], row["job"]))]


def stale(spark: SparkSession, deployment: Deployment, job: str, as_of: date) -> str | None:
    """Why the day's rows of a job cannot be trusted, or None where they can.

    A day is stale when its own run failed or never finished, or when what it was made from was replaced
    after it started: an earlier day of the same job, or the same or an earlier day of a job that feeds it.
    """
    found = runs(spark, deployment, (job, *INPUTS.get(job, ())), as_of)
    own = next((run for run in found if run.job == job and run.day == as_of), None)
    if own is None:
        return f"{job} has not run for {as_of}"
    if own.status != "ok":
        return f"{job}'s last run for {as_of} did not succeed"
    for run in found:
        if run is own:
            continue
        if run.finished_at is None:
            return f"{run.job} for {run.day} was replacing rows and has not finished"
        if run.replaced_at > own.started_at:
            return f"{run.job} for {run.day} was replaced after {job} for {as_of} had started"
    return None
