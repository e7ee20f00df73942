"""Days and time bands as Spark columns; a band is floor(log2(1 + days)), as in `model.data.time_bands`."""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F

DAY_MICROS = 86_400_000_000
"""Microseconds of a day."""


def log2_band(days: Column) -> Column:
    """Return floor(log2(1 + days)) exactly, for whole days of at least 0."""
    return (F.length(F.bin(days + 1)) - 1).cast("int")


def whole_days(earlier: Column, later: Column) -> Column:
    """Return the full days of 24 hours between two timestamps, rounded down."""
    return F.call_function("div", F.unix_micros(later) - F.unix_micros(earlier), F.lit(DAY_MICROS))
