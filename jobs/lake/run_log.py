"""The table `job_runs`: one row for each job and day, about its last run.

It is read and written without a JVM: Spark would take seconds and a dozen queries for so small a table.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, write_deltalake

from jobs.config.deployment import Deployment
from jobs.lake import catalog, handoff
from jobs.lake.delta import arrow_schema, job_lock, midnight, open_path, open_table, read_rows, table_exists
from jobs.lake.error_text import error_reason
from jobs.lake.errors import TableError, as_user_error, translate_errors
from jobs.lake.handoff import Handoff, HandoffType
from jobs.lake.table import Retention

TABLE = catalog.TABLES["job_runs"]


class RefusedError(TableError):
    """A run that was refused before it read or wrote anything; the rows of an earlier run stay valid."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A row of `job_runs`, with the columns that later runs read; times are UTC."""

    job: str
    day: date
    status: str
    started_at: datetime
    finished_at: datetime | None
    """None: it runs, or was killed."""
    replaced_at: datetime | None
    """When the day's rows were last replaced; None: they never were."""
    model_version: str | None
    versions: dict[str, int]
    """The Delta version of each table that the day's rows were made of."""
    details: dict[str, Any]

    @property
    def left_rows(self) -> bool:
        """Whether the day may hold rows that the run wrote."""
        return self.replaced_at is not None or self.finished_at is None

    @property
    def command(self) -> str:
        """The command that runs it again."""
        daily = self.job in {table.made_by for table in catalog.tables_kept_by(Retention.LATEST)}
        return f"instructue {self.job}" + (f" --as-of {self.day}" if daily else "")

    def require_ok(self) -> None:
        """Raise TableError unless the run succeeded, because otherwise some of its rows may be old and others new.

        Raises
        ------
        TableError
            The run failed, was killed or still runs; names the command that runs it again.
        """
        if self.status != "ok":
            why = self.details.get("error", "it was killed, or still runs").splitlines()[0]
            raise TableError(
                f"{self.job} for {self.day} did not succeed ({why[:200]}), so its rows cannot be trusted; "
                f"run `{self.command}` again"
            )

    def handoff(self, kind: type[HandoffType]) -> HandoffType:
        """Return the data that the run handed to later runs.

        Raises
        ------
        HandoffError
            The handoff is incomplete, or another version of the project wrote it; names the command that runs it again.
        """
        return kind.read(self.details, f"{self.job} for {self.day}", self.command)


def read_runs(deployment: Deployment, *jobs: str, first: date = date.min, last: date = date.max) -> list[Run]:
    """Return the last runs of these jobs for the days from `first` to `last`, the oldest day first."""
    path = deployment.table(TABLE.name)
    if not table_exists(path):
        return []
    columns = [*Run.__dataclass_fields__]
    rows = read_rows(open_path(path), columns=columns, filters=pc.field("job").isin(list(jobs)))
    ordered = sorted(rows.to_pylist(), key=lambda row: (row["day"], row["job"]))
    return [
        Run(**row | {"versions": dict(row["versions"]), "details": json.loads(row["details"] or "{}")})
        for row in ordered
        if first <= row["day"] <= last
    ]


@dataclass(kw_only=True)
class RunRecord:
    """The record of a run while it runs; becomes one row of `job_runs`."""

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
    """Notes for people."""
    handoff: Handoff | None = None
    """Data for later runs."""
    replaced: bool = False
    """Whether the run has begun to replace rows."""
    former: Run | None = field(init=False)
    """The last run for the same day before this one; None: there was none."""

    def __post_init__(self) -> None:
        self.former = next(iter(read_runs(self.deployment, self.job, first=self.as_of, last=self.as_of)), None)

    def open(self, table: str) -> DeltaTable:
        """Open a table as Arrow and note its version."""
        opened = open_table(self.deployment, table)
        self.versions[table] = opened.version()
        return opened

    def pin(self, tables: Iterable[str]) -> None:
        """Read these tables at the versions that the last run for the day read.

        Raises
        ------
        TableError
            There is no such run, or it noted no version of one of them.
        """
        noted = self.former.versions if self.former else {}
        if unknown := [table for table in tables if table not in noted]:
            raise TableError(
                f"no run of {self.job} for {self.as_of} has noted the versions of {', '.join(unknown)}, "
                "so there is nothing to repeat; run it without --source-versions"
            )
        self.versions |= {table: noted[table] for table in tables}

    def replacing(self) -> None:
        """Record, before the first row is replaced, that the day may hold new rows, in case the run is killed."""
        if not self.replaced:
            self.replaced = True
            self.write("failed", finished_at=None)

    def seconds(self) -> float:
        """Return the seconds since the run started."""
        return (datetime.now(UTC) - self.started_at).total_seconds()

    def write(self, status: str, finished_at: datetime | None) -> None:
        """Write the run so far as the one row of its job and day."""
        killed = self.former is not None and self.former.finished_at is None  # may have replaced the rows
        before = self.former.replaced_at if self.former else None
        # A run that failed before it replaced rows keeps the versions and the handoff of the run that made them.
        kept = None if self.replaced or status == "ok" else self.former
        details = dict(self.details)
        if self.handoff is not None:
            details[handoff.KEY] = self.handoff.record()
        elif kept is not None and handoff.KEY in kept.details:
            details[handoff.KEY] = kept.details[handoff.KEY]
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
            "versions": [*(kept.versions if kept else self.versions).items()],
            "details": _to_json(details),
            "day": self.as_of,
        }
        # All jobs share this table: one writes at a time, and each replaces its own partition.
        with job_lock(self.deployment, TABLE.lock):
            path = self.deployment.table(TABLE.name)
            write_deltalake(
                path,
                pa.Table.from_pylist([row], arrow_schema(TABLE)),
                mode="overwrite",
                partition_by=[*TABLE.partition],
                predicate=self._predicate() if table_exists(path) else None,
            )

    def _fail(self, error: BaseException) -> None:
        """Record that the run failed; a refused run only adds a note to the row of an earlier run."""
        shown = as_user_error(error, self.deployment) or error
        text = f"{type(shown).__name__}: {error_reason(shown)}"[:2000]
        if isinstance(shown, RefusedError) and self.former is not None and self.former.left_rows:
            with job_lock(self.deployment, TABLE.lock):
                # As SQL: deltalake's `new_values` does not quote an apostrophe.
                details = _to_json({**self.former.details, "refused": text}).replace("'", "''")
                open_path(self.deployment.table(TABLE.name)).update(
                    predicate=self._predicate(), updates={"details": f"'{details}'"}
                )
        else:
            self.details["error"] = text
            self.write("failed", finished_at=datetime.now(UTC))

    def _predicate(self) -> str:
        return f"day = '{self.as_of.isoformat()}' AND job = '{self.job}'"

    @classmethod
    @contextmanager
    def kept(cls, deployment: Deployment, job: str, as_of: date, **more: Any) -> Iterator[Self]:
        """Run the body under the job's lock and leave one row for (job, as_of), also on failure.

        An error of Spark, Delta or the disk becomes an error of the project, in the row too.
        """
        with translate_errors(deployment), job_lock(deployment, job):
            run = cls(deployment=deployment, job=job, as_of=as_of, **more)
            try:
                yield run
            except BaseException as error:
                try:
                    run._fail(error)
                except Exception as unrecorded:
                    # The first error is the one to show.
                    error.add_note(f"the run was not recorded in job_runs: {unrecorded}"[:300])
                raise
            run.write("ok", finished_at=datetime.now(UTC))


def _to_json(details: dict[str, Any]) -> str:
    return json.dumps(details, ensure_ascii=False, default=str)
