"""Generate: the source tables and labels of a made-up company, as they had arrived before a day.

The same seed gives the same company; another `as_of` only cuts its history at another arrival time. So
`generate` for one day and then for the next adds the next day's rows, late ones among them, and changes
nothing else. Each table is replaced whole, in one Delta commit.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import write_deltalake

from jobs.config.deployment import Deployment
from jobs.lake.catalog import TABLES
from jobs.lake.delta import arrow_schema, open_path, table_exists
from jobs.lake.errors import translate_errors
from jobs.synthetic.attributes import ATTRIBUTES, attribute_rows
from jobs.synthetic.company import DAY, LABELS, Chunk, Company, Events
from jobs.synthetic.event_texts import COLUMNS, SOURCES, texts
from model.errors import InstructUEError

if TYPE_CHECKING:
    from jobs.synthetic.label_ceiling import Signal

FIRST_DAY = date(2026, 1, 1)
TIME = pa.timestamp("us", tz="UTC")
SCHEMAS = {
    "bills": pa.schema(
        [
            ("bill_id", pa.string()),
            ("user_id", pa.string()),
            ("paid_at", TIME),
            ("merchant", pa.string()),
            ("category", pa.string()),
            ("item", pa.string()),
            ("amount", pa.float64()),
            ("channel", pa.string()),
            ("arrived_at", TIME),
        ]
    ),
    "mini_program_logs": pa.schema(
        [
            ("log_id", pa.string()),
            ("user_id", pa.string()),
            ("opened_at", TIME),
            ("program", pa.string()),
            ("action", pa.string()),
            ("arrived_at", TIME),
        ]
    ),
    "page_paths": pa.schema(
        [("user_id", pa.string()), ("viewed_at", TIME), ("path", pa.string()), ("arrived_at", TIME)]
    ),
    "searches": pa.schema(
        [
            ("search_id", pa.string()),
            ("user_id", pa.string()),
            ("searched_at", pa.string()),
            ("query", pa.string()),
            ("arrived_at", TIME),
        ]
    ),
    "attributes": ATTRIBUTES,
    "labels": arrow_schema(TABLES["labels"]),
}
TIMES = {"bills": "paid_at", "mini_program_logs": "opened_at", "page_paths": "viewed_at", "searches": "searched_at"}
"""The time column of each source; that of searches is a string, with other UTC offsets and garbage."""
IDS = {"bills": "bill_id", "mini_program_logs": "log_id", "searches": "search_id"}

BROKEN = {
    "no user": 0.0006,
    "empty user": 0.0004,
    "no time": 0.001,
    "far future": 0.0008,
    "repeated": 0.001,
    "unreadable time": 0.0015,
    "amount not a number": 0.0005,
    "amount negative": 0.0006,
    "amount huge": 0.0003,
}
"""Rows added per kind of breakage, as a share of a source's rows, where the source can have it."""
ONLY_IN = {
    "unreadable time": ("searches",),
    "repeated": tuple(IDS),
    "amount not a number": ("bills",),
    "amount negative": ("bills",),
    "amount huge": ("bills",),
}
UNREADABLE = ("yesterday", "31/12/2025 25:61", "", "2025-13-40T00:00:00Z", "N/A")
OTHER_OFFSET = 0.1
"""Share of searches whose time is written with China's offset."""
FAR_FUTURE = 4_070_908_800_000_000
"""2099-01-01, microseconds."""

MADE_UP = "Made up by `instructue generate`"
"""A table's description: what bears it may be overwritten."""


class GenerateError(InstructUEError):
    """A company that cannot be made."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was made."""

    as_of: date
    users: int
    rows: dict[str, int]
    """Rows per table."""
    late: dict[str, int]
    """Rows per source that arrived a day or more after they happened."""
    broken: dict[str, int]
    """`source: kind` -> rows."""
    signal: Signal | None
    """What the labels can be known by; None after the first day, when nothing of it changes."""
    seconds: float

    def lines(self) -> list[tuple[str, str]]:
        """Name and value of everything, for printing."""
        told = [
            ("users", f"{self.users:,}"),
            *((f"rows {name}", f"{n:,}") for name, n in self.rows.items()),
            *((f"late {name}", f"{n:,}") for name, n in self.late.items()),
            *((f"broken {name}", f"{n:,}") for name, n in self.broken.items()),
        ]
        return [*told, *(self.signal.lines() if self.signal else []), ("seconds", f"{self.seconds:.1f}")]


def generate(
    deployment: Deployment,
    as_of: date,
    users: int = 2000,
    seed: int = 0,
    changed_share: float | None = 0.05,
    first_day: date = FIRST_DAY,
) -> Report:
    """Bring the source tables to what had arrived before `as_of`, and write the labels of `first_day`.

    Parameters
    ----------
    as_of
        Rows with arrived_at before this day's midnight (UTC) are written; attribute rows with valid_from before.
    changed_share
        Share of users whose profile changes between `first_day` and the day after; None: as it comes.
    first_day
        The labels' as_of; the simulated time ends 60 days later.

    Raises
    ------
    GenerateError
        Fewer than 100 users, a share outside 0 to 1, or a table of that name which `generate` did not make.
    """
    begin = time.monotonic()
    if users < 100:
        raise GenerateError(f"users = {users}: make at least 100, or the labels have too few of each kind")
    if changed_share is not None and not 0 <= changed_share <= 1:
        raise GenerateError(f"changed_share = {changed_share}: use a share from 0 to 1, or None")
    _refuse_others(deployment)
    company = Company(
        users=users, seed=seed, first_day=first_day, changed_share=changed_share, quiet_ages=quiet_ages(deployment)
    )
    cut = (as_of - date(1970, 1, 1)).days * DAY
    counts: dict[str, Counter[str]] = {source: Counter() for source in SOURCES}
    rows = {
        source: _write(deployment, source, _source_batches(company, source, cut, counts[source])) for source in SOURCES
    }
    rows["attributes"] = _write(deployment, "attributes", (attribute_rows(c, cut) for c in company.chunks()))
    rows["labels"] = _write(deployment, "labels", (_label_rows(chunk) for chunk in company.chunks()))
    return Report(
        as_of=as_of,
        users=users,
        rows=rows,
        late={source: counts[source].pop("late") for source in SOURCES},
        broken={f"{source}: {kind}": n for source in SOURCES for kind, n in counts[source].items()},
        signal=_signal(company) if as_of <= first_day else None,
        seconds=time.monotonic() - begin,
    )


def _signal(company: Company) -> Signal:
    # scikit-learn takes seconds to import, and later days do without.
    from jobs.synthetic.label_ceiling import measure

    return measure(next(company.chunks()))


def quiet_ages(deployment: Deployment) -> tuple[int, ...]:
    """Ages in whole days at which an event changes a profile by the mere passing of a day.

    The bands floor(log2(1 + days)) step after 2^k - 2 days, and an event leaves a window of W days after W - 1.
    """
    windows = [source.window_days for source in deployment.sources]
    windows += [aggregate.window_days for aggregate in deployment.aggregates]
    return tuple(sorted({2**k - 2 for k in range(1, 12)} | {days - 1 for days in windows}))


def _refuse_others(deployment: Deployment) -> None:
    """A company's own tables are never overwritten."""
    for table in SCHEMAS:
        path = deployment.table(table)
        if table_exists(path) and open_path(path).metadata().description != MADE_UP:
            raise GenerateError(
                f"{deployment.path}: lake = {deployment.lake}: the table {table} at {path} was not "
                "made by `generate`, which would overwrite it; name another `lake`"
            )


def _write(deployment: Deployment, table: str, batches: Iterator[pa.Table]) -> int:
    """Replace a table by the batches; how many rows they had."""
    written = 0

    def stream() -> Iterator[pa.RecordBatch]:
        nonlocal written
        for batch in batches:
            written += len(batch)
            # One batch a chunk: the writer takes several at once and would mix the order of their rows.
            yield from batch.cast(SCHEMAS[table]).combine_chunks().to_batches()

    reader = pa.RecordBatchReader.from_batches(SCHEMAS[table], stream())
    with translate_errors(deployment):
        write_deltalake(deployment.table(table), reader, mode="overwrite", schema_mode="overwrite", description=MADE_UP)
    return written


def _source_batches(company: Company, source: str, cut: int, counts: Counter[str]) -> Iterator[pa.Table]:
    """One chunk's rows of a source at a time, counting the late and the broken ones."""
    for chunk in company.chunks():
        events = chunk.events(source)
        whole = event_rows(source, chunk, events)
        broken = broken_rows(source, chunk, events, whole)
        arrived = pc.less(whole["arrived_at"], pa.scalar(cut, TIME))
        counts["late"] += int(events.late_E[arrived.to_numpy()].sum())
        arrivals = [whole.filter(arrived)]
        for kind, rows in broken.items():
            rows = rows.filter(pc.less(rows["arrived_at"], pa.scalar(cut, TIME)))
            counts[kind] += len(rows)
            arrivals.append(rows)
        yield pa.concat_tables(arrivals)


def user_ids(user_N: np.ndarray) -> pa.Array:
    """`u0000012` for 12."""
    return pc.binary_join_element_wise("u", pc.utf8_lpad(pa.array(user_N).cast(pa.string()), 7, "0"), "")


def _ids(source: str, chunk: Chunk, position_N: np.ndarray) -> pa.Array:
    """Ids that stay the same whatever day is asked for; a user never has 10,000 events."""
    number = pa.array(chunk.start * 10_000 + position_N).cast(pa.string())
    return pc.binary_join_element_wise(source[0], pc.utf8_lpad(number, 11, "0"), "")


def event_rows(source: str, chunk: Chunk, events: Events) -> pa.Table:
    """A chunk's unbroken rows of a source, in the table's schema, one per event."""
    catalogue = texts(source)
    columns: dict[str, pa.Array] = {
        "user_id": user_ids(events.user_E),
        "arrived_at": pa.array(events.arrived_E, TIME),
        TIMES[source]: _times(source, chunk, events.time_E),
    }
    if source in IDS:
        columns[IDS[source]] = _ids(source, chunk, np.arange(len(events)))
    if source == "bills":
        columns["amount"] = pa.array(events.amount_E)
    for name in COLUMNS[source]:
        columns[name] = pa.array(catalogue.columns[name], pa.string()).take(pa.array(events.text_E))
    return pa.table({name: columns[name] for name in SCHEMAS[source].names}, schema=SCHEMAS[source])


def _times(source: str, chunk: Chunk, time_E: np.ndarray) -> pa.Array:
    if source != "searches":
        return pa.array(time_E, TIME)
    other = chunk.random("offsets").random(len(time_E)) < OTHER_OFFSET
    written = np.datetime_as_string((time_E + other * (8 * DAY // 24)).astype("datetime64[us]"), unit="s")
    return pc.binary_join_element_wise(pa.array(written), pa.array(np.where(other, "+08:00", "Z")), "")


def broken_rows(source: str, chunk: Chunk, events: Events, whole: pa.Table) -> dict[str, pa.Table]:
    """Rows added to a source's whole ones, per kind: copies of some of them, each broken in one way."""
    rng = chunk.random(f"broken {source}")
    kinds = {kind: share for kind, share in BROKEN.items() if source in ONLY_IN.get(kind, SOURCES)}
    taken = len(whole)
    broken = {}
    for kind, share in kinds.items():
        copied = rng.integers(len(whole), size=max(1, round(share * len(whole))))
        rows = whole.take(pa.array(copied))
        if source in IDS and kind != "repeated":
            rows = _replace(rows, IDS[source], _ids(source, chunk, taken + np.arange(len(rows))))
            taken += len(rows)
        broken[kind] = _break(source, kind, rows, rng)
    return broken


def _break(source: str, kind: str, rows: pa.Table, rng: np.random.Generator) -> pa.Table:
    time_column, n = TIMES[source], len(rows)
    if kind == "repeated":
        return rows
    if kind == "no user":
        return _replace(rows, "user_id", pa.nulls(n, pa.string()))
    if kind == "empty user":
        return _replace(rows, "user_id", pa.array(rng.choice(["", "  "], n)))
    if kind == "no time":
        return _replace(rows, time_column, pa.nulls(n, rows.schema.field(time_column).type))
    if kind == "unreadable time":
        return _replace(rows, time_column, pa.array(rng.choice(UNREADABLE, n)))
    if kind == "far future":
        future = FAR_FUTURE + rng.integers(0, 300 * DAY, n)
        text = np.strings.add(np.datetime_as_string(future.astype("datetime64[us]"), unit="s"), "Z")
        return _replace(
            rows,
            time_column,
            pa.array(text if source == "searches" else future).cast(rows.schema.field(time_column).type),
        )
    amount = rows["amount"].to_numpy()
    wrong = {"amount not a number": np.full(n, np.nan), "amount negative": -amount, "amount huge": amount * 1e12}
    return _replace(rows, "amount", pa.array(wrong[kind]))


def _replace(rows: pa.Table, name: str, column: pa.Array) -> pa.Table:
    return rows.set_column(rows.schema.get_field_index(name), rows.schema.field(name), column)


def _label_rows(chunk: Chunk) -> pa.Table:
    labels = chunk.labels()
    users = user_ids(chunk.start + np.arange(chunk.users))
    return pa.concat_tables(
        pa.table(
            {
                "user_id": users,
                "as_of": pa.array(np.full(chunk.users, chunk.company.midnight), TIME),
                "scenario": pa.array([name] * chunk.users),
                "label": pa.array(labels[name].astype(np.int32)),
            },
            schema=SCHEMAS["labels"],
        )
        for name in LABELS
    )
