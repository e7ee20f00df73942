"""Generate: the source tables and labels of a made-up company, with the rows that had arrived before a day.

The same seed gives the same company; another `as_of` only cuts its history at another arrival time. So `generate` for
one day and then for the next adds the next day's rows, late ones included, and changes nothing else. Each table is
replaced as a whole, in one Delta commit.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import write_deltalake

from jobs.config.deployment import Deployment
from jobs.lake.delta import open_path, table_exists
from jobs.lake.errors import translate_errors
from jobs.synthetic.attributes import attribute_rows
from jobs.synthetic.broken_rows import broken_rows
from jobs.synthetic.company import DAY, TIME, Company
from jobs.synthetic.event_texts import SOURCES
from jobs.synthetic.tables import SCHEMAS, event_rows, label_rows
from model.errors import InstructUEError

if TYPE_CHECKING:
    from jobs.synthetic.label_ceiling import Signal

FIRST_DAY = date(2026, 1, 1)
MADE_UP = "Made up by `instructue generate`"
"""Description of a table that `generate` wrote and may overwrite."""


class GenerateError(InstructUEError):
    """Arguments or tables with which no company can be generated."""


@dataclass(frozen=True, kw_only=True)
class GenerateResult:
    """The result of one run of generate."""

    as_of: date
    users: int
    rows: dict[str, int]
    """Rows per table."""
    late: dict[str, int]
    """Rows per source that arrived a day or more after they happened."""
    broken: dict[str, int]
    """`source: kind` -> rows."""
    signal: Signal | None
    """How well the labels can be predicted; None after the first day, because it does not change."""
    seconds: float

    def lines(self) -> list[tuple[str, str]]:
        """Return the name and value of everything, for printing."""
        lines = [
            ("users", f"{self.users:,}"),
            *((f"rows {name}", f"{n:,}") for name, n in self.rows.items()),
            *((f"late {name}", f"{n:,}") for name, n in self.late.items()),
            *((f"broken {name}", f"{n:,}") for name, n in self.broken.items()),
        ]
        return [*lines, *(self.signal.lines() if self.signal else []), ("seconds", f"{self.seconds:.1f}")]


def generate(
    deployment: Deployment, as_of: date, users: int = 2000, seed: int = 0, first_day: date = FIRST_DAY
) -> GenerateResult:
    """Bring the source tables to what had arrived before `as_of`, and write the labels of `first_day`.

    Parameters
    ----------
    as_of
        Rows with arrived_at before this day's midnight (UTC) are written; attribute rows with valid_from before.
    first_day
        The labels' as_of; the simulated time ends 60 days later.

    Raises
    ------
    GenerateError
        Fewer than 100 users, or a table of that name that `generate` did not write.
    """
    begin = time.monotonic()
    if users < 100:
        raise GenerateError(f"users = {users}: make at least 100, or the labels have too few of each kind")
    _require_own_tables(deployment)
    company = Company(users=users, seed=seed, first_day=first_day)
    cut = (as_of - date(1970, 1, 1)).days * DAY
    counts: dict[str, Counter[str]] = {source: Counter() for source in SOURCES}
    rows = {
        source: _write(deployment, source, _source_batches(company, source, cut, counts[source])) for source in SOURCES
    }
    rows["attributes"] = _write(deployment, "attributes", (attribute_rows(c, cut) for c in company.chunks()))
    rows["labels"] = _write(deployment, "labels", (label_rows(chunk) for chunk in company.chunks()))
    return GenerateResult(
        as_of=as_of,
        users=users,
        rows=rows,
        late={source: counts[source].pop("late") for source in SOURCES},
        broken={f"{source}: {kind}": n for source in SOURCES for kind, n in counts[source].items()},
        signal=_signal(company) if as_of <= first_day else None,
        seconds=time.monotonic() - begin,
    )


def _signal(company: Company) -> Signal:
    # Imported here because scikit-learn takes seconds to import, and later days do not need it.
    from jobs.synthetic.label_ceiling import measure

    return measure(next(company.chunks()))


def _require_own_tables(deployment: Deployment) -> None:
    """Raise GenerateError where `generate` did not write a table, so that no table of a company is overwritten."""
    for table in SCHEMAS:
        path = deployment.table(table)
        if table_exists(path) and open_path(path).metadata().description != MADE_UP:
            raise GenerateError(
                f"{deployment.path}: lake = {deployment.lake}: the table {table} at {path} was not "
                "made by `generate`, which would overwrite it; name another `lake`"
            )


def _write(deployment: Deployment, table: str, batches: Iterator[pa.Table]) -> int:
    """Replace a table by the batches, and return the number of rows."""
    written = 0

    def stream() -> Iterator[pa.RecordBatch]:
        nonlocal written
        for batch in batches:
            written += len(batch)
            # One batch per chunk, because the writer takes several at once and would mix the order of their rows.
            yield from batch.cast(SCHEMAS[table]).combine_chunks().to_batches()

    reader = pa.RecordBatchReader.from_batches(SCHEMAS[table], stream())
    with translate_errors(deployment):
        write_deltalake(deployment.table(table), reader, mode="overwrite", schema_mode="overwrite", description=MADE_UP)
    return written


def _source_batches(company: Company, source: str, cut: int, counts: Counter[str]) -> Iterator[pa.Table]:
    """Yield the rows of a source chunk by chunk, and count the late and the broken ones."""
    for chunk in company.chunks():
        events = chunk.events(source)
        good = event_rows(source, chunk, events)
        broken = broken_rows(source, chunk, good)
        arrived = pc.less(good["arrived_at"], pa.scalar(cut, TIME))
        counts["late"] += int(events.late_E[arrived.to_numpy()].sum())
        arrivals = [good.filter(arrived)]
        for kind, rows in broken.items():
            rows = rows.filter(pc.less(rows["arrived_at"], pa.scalar(cut, TIME)))
            counts[kind] += len(rows)
            arrivals.append(rows)
        yield pa.concat_tables(arrivals)
