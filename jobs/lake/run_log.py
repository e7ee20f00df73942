"""The record of every run, the table `job_runs`: one row for each job and day, and whether its rows can be trusted.

Read and written without a JVM: to Spark, so small a table is a dozen queries and seconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Self

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from jobs.config.deployment import Deployment
from jobs.lake import catalog
from jobs.lake.delta import arrow_schema, job_lock, midnight, open_path, open_table, read_rows, table_exists
from jobs.lake.errors import TableError, as_user_error, error_reason, translate_errors

TABLE = catalog.TABLES["job_runs"]
HORIZON = "horizon"
"""In the details of a maintain: the day up to which it dropped rows that later ones replace."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What later runs need to know of a row of `job_runs`; times are UTC."""

    job: str
    day: date
    status: str
    started_at: datetime
    finished_at: datetime | None
    """None while it runs, or when it was killed."""
    replaced_at: datetime | None
    """When the day's rows were last replaced; None where no run of the day has."""
    model_version: str | None
    versions: dict[str, int]
    """The Delta version of each table that the day's rows were made of."""
    details: dict[str, Any]

    @property
    def left_rows(self) -> bool:
        """Whether the day may hold rows of it."""
        return self.replaced_at is not None or self.finished_at is None

    @property
    def command(self) -> str:
        """The command that does it again."""
        return f"instructue {self.job}" + ("" if self.job == "userqa" else f" --as-of {self.day}")

    def require_ok(self) -> None:
        """Refuse what a run left behind that failed, was killed or still runs: some rows may be old, others new.

        Raises
        ------
        TableError
            Its status is not `ok`; names the command to run again.
        """
        if self.status != "ok":
            why = self.details.get("error", "it was killed, or still runs").splitlines()[0]
            raise TableError(
                f"{self.job} for {self.day} did not succeed ({why[:200]}), so its rows cannot be trusted; "
                f"run `{self.command}` again"
            )


def read_runs(deployment: Deployment, *jobs: str, first: date = date.min, last: date = date.max) -> list[Run]:
    """The rows of these jobs with `first` <= day <= `last`, the oldest day first."""
    path = deployment.table(TABLE.name)
    if not table_exists(path):
        return []
    columns = [
        "job",
        "day",
        "status",
        "started_at",
        "finished_at",
        "replaced_at",
        "model_version",
        "versions",
        "details",
    ]
    found = read_rows(open_path(path), columns=columns, filters=[("job", "in", list(jobs))])
    ordered = sorted(found.to_pylist(), key=lambda row: (row["day"], row["job"]))
    return [
        Run(**row | {"versions": dict(row["versions"]), "details": json.loads(row["details"] or "{}")})
        for row in ordered
        if first <= row["day"] <= last
    ]


def stale_reason(deployment: Deployment, job: str, as_of: date) -> str | None:
    """Why the day's rows of a job cannot be trusted, or None where they can.

    A day is stale when its own run failed or never finished, or when what it was made from was replaced
    after it started: an earlier day of the same job, or the same or an earlier day of a job that feeds it.
    """
    found = read_runs(deployment, job, *catalog.input_jobs(job), last=as_of)
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
        if run.replaced_at is not None and run.replaced_at > own.started_at:
            return f"{run.job} for {run.day} was replaced after {job} for {as_of} had started"
    return None


def first_stale(deployment: Deployment, job: str, as_of: date) -> date:
    """The first of the unbroken stale days of a job that end at `as_of`: where to run it again from."""
    first = as_of
    for run in reversed(read_runs(deployment, job, last=as_of - timedelta(days=1))):
        if not run.left_rows:
            continue
        if not stale_reason(deployment, job, run.day):
            break
        first = run.day
    return first


def require_retained(deployment: Deployment, job: str, as_of: date) -> None:
    """Refuse a day of which maintain has dropped rows.

    Raises
    ------
    TableError
        The day lies at or before a horizon of maintain's.
    """
    horizons = [str(run.details[HORIZON]) for run in read_runs(deployment, "maintain") if HORIZON in run.details]
    if horizons and as_of.isoformat() <= max(horizons):
        raise TableError(
            f"{job} for {as_of}: maintain has dropped rows of the days up to {max(horizons)}, so that day "
            "cannot be made again; later ones can (`retention.rows` says how many are kept)"
        )


@dataclass(kw_only=True)
class RunRecord:
    """What a job tells about its run while it runs; becomes one row of `job_runs` when it ends."""

    deployment: Deployment
    job: str
    as_of: date
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    rows_in: int | None = None
    rows_out: int | None = None
    left_out: dict[str, int] = field(default_factory=dict)
    model_version: str | None = None
    versions: dict[str, int] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    replaced: bool = False
    """Whether it has begun to replace rows."""
    former: Run | None = field(init=False)
    """What an earlier run for the same day left behind."""

    def __post_init__(self) -> None:
        self.former = next(iter(read_runs(self.deployment, self.job, first=self.as_of, last=self.as_of)), None)

    def open(self, table: str) -> DeltaTable:
        """Open a table as Arrow and note its version."""
        found = open_table(self.deployment, table)
        self.versions[table] = found.version()
        return found

    def pin(self, tables: Iterable[str]) -> None:
        """Read these tables as they were when the day was run last.

        Raises
        ------
        TableError
            The day's last run, if there is one, noted no version of one of them.
        """
        noted = self.former.versions if self.former else {}
        if unknown := [table for table in tables if table not in noted]:
            raise TableError(
                f"no run of {self.job} for {self.as_of} has noted the versions of {', '.join(unknown)}, "
                "so there is nothing to repeat; run it without --source-versions"
            )
        self.versions |= {table: noted[table] for table in tables}

    def replacing(self) -> None:
        """Say, before the first rows are replaced, that they may be new: a kill in between must be seen."""
        if not self.replaced:
            self.replaced = True
            self.write("failed", finished_at=None)

    def seconds(self) -> float:
        """How long it has run."""
        return (datetime.now(UTC) - self.started_at).total_seconds()

    def write(self, status: str, finished_at: datetime | None) -> None:
        """Write the run so far as the one row of its job and day."""
        killed = self.former is not None and self.former.finished_at is None  # it may have replaced the rows
        before = self.former.replaced_at if self.former else None
        # What failed before it replaced anything has left the rows of the run before it, which read other versions.
        stands = None if self.replaced or status == "ok" else self.former
        versions = stands.versions if stands else self.versions
        row = {
            "job": self.job,
            "as_of": midnight(self.as_of),
            "status": status,
            "started_at": self.started_at,
            "finished_at": finished_at,
            "replaced_at": datetime.now(UTC) if self.replaced or killed else before,
            "rows_in": self.rows_in,
            "rows_out": self.rows_out,
            "left_out": [*self.left_out.items()],
            "seconds": self.seconds(),
            "model_version": self.model_version,
            "versions": [*versions.items()],
            "details": json.dumps(self.details, ensure_ascii=False, default=str),
            "day": self.as_of,
        }
        # Different jobs share this table: one at a time, each replacing a partition of its own.
        with job_lock(self.deployment, TABLE.lock):
            path = self.deployment.table(TABLE.name)
            where = f"day = '{self.as_of.isoformat()}' AND job = '{self.job}'"
            write_deltalake(
                path,
                pa.Table.from_pylist([row], arrow_schema(TABLE)),
                mode="overwrite",
                partition_by=[*TABLE.partition],
                predicate=where if table_exists(path) else None,
            )

    @classmethod
    @contextmanager
    def kept(cls, deployment: Deployment, job: str, as_of: date, **more: Any) -> Iterator[Self]:
        """Run the body under the job's lock and leave one row for (job, as_of), also on failure.

        What Spark, Delta or the disk failed with is told in words that a person can act upon, in the row too.
        """
        with translate_errors(deployment), job_lock(deployment, job):
            run = cls(deployment=deployment, job=job, as_of=as_of, **more)
            try:
                yield run
            except BaseException as error:
                told = as_user_error(error, deployment) or error
                run.details["error"] = f"{type(told).__name__}: {error_reason(told)}"[:2000]
                try:
                    run.write("failed", finished_at=datetime.now(UTC))
                except Exception as unrecorded:
                    # What failed first is what the person must see.
                    error.add_note(f"the run was not recorded in job_runs: {unrecorded}"[:300])
                raise
            run.write("ok", finished_at=datetime.now(UTC))
