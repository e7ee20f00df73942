"""Columns of profiles as arrays, for baselines and studies that read events themselves."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.data.arrays import Ints

DAY = 86_400_000_000
"""Microseconds."""


def whole_column(table: pa.Table, name: str) -> pa.Array:
    """Return a column in one piece."""
    column = table[name]
    return pa.concat_arrays(column.chunks) if column.num_chunks else column.combine_chunks()


def event_counts(events: pa.Array) -> Ints:
    """Return the number of events of each user, int64 [U]; 0 for null."""
    counts = pc.fill_null(pc.list_value_length(events), 0).to_numpy(zero_copy_only=False)
    return np.asarray(counts, dtype=np.int64)


def microseconds(times: pa.Array) -> Ints:
    """Return timestamps as microseconds since 1970, UTC."""
    column = times.cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.int64)
