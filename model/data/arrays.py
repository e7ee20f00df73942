"""Types of the arrays of the project, by their numbers, and arrays as Arrow lists."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


def equal_lists(values: pa.Array, count: int) -> pa.ListArray:
    """Return `count` lists of equal length, made of values that are one after the other."""
    length = len(values) // count if count else 0
    return pa.ListArray.from_arrays(np.arange(count + 1, dtype=np.int32) * length, values)
