"""Days and time bands as Spark columns; `model.data.time_bands` defines the bands."""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F

DAY_MICROS = 86_400_000_000
"""Microseconds of a day."""


def time_band(days: Column) -> Column:
    """Return the time band of whole days of at least 0, floor(log2(1 + days)); null for null.

    Valid times are from 1970 to 2099, so no band is above `LAST_BAND`.
    """
    # The number of binary digits is exact, where the logarithm of a double may not be.
    return (F.length(F.bin(days + 1)) - 1).cast("int")


def whole_days(earlier: Column, later: Column) -> Column:
    """Return the full days of 24 hours between two timestamps, rounded down."""
    return F.call_function("div", F.unix_micros(later) - F.unix_micros(earlier), F.lit(DAY_MICROS))
