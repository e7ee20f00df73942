"""The broken rows that are added to a source: copies of good rows, each broken in one way."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from jobs.synthetic.company import DAY, Chunk
from jobs.synthetic.event_texts import SOURCES
from jobs.synthetic.tables import IDS, TIMES, event_ids

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
"""Rows added per kind of breakage, as a share of a source's rows."""
ONLY_IN = {
    "unreadable time": ("searches",),
    "repeated": tuple(IDS),
    "amount not a number": ("bills",),
    "amount negative": ("bills",),
    "amount huge": ("bills",),
}
"""Sources of the kinds that not every source can have."""
UNREADABLE = ("yesterday", "31/12/2025 25:61", "", "2025-13-40T00:00:00Z", "N/A")
FAR_FUTURE = 4_070_908_800_000_000
"""2099-01-01, microseconds."""


def broken_rows(source: str, chunk: Chunk, good: pa.Table) -> dict[str, pa.Table]:
    """Return the rows to add to a source's good rows, per kind of breakage."""
    rng = chunk.random(f"broken {source}")
    kinds = {kind: share for kind, share in BROKEN.items() if source in ONLY_IN.get(kind, SOURCES)}
    taken = len(good)
    broken = {}
    for kind, share in kinds.items():
        copied = rng.integers(len(good), size=max(1, round(share * len(good))))
        rows = good.take(pa.array(copied))
        if source in IDS and kind != "repeated":
            rows = _replace(rows, IDS[source], event_ids(source, chunk, taken + np.arange(len(rows))))
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
