"""The aggregate functions in Spark: what is collected of each event, how it is grouped, and the user's value.

`jobs.config.functions.AGGREGATE_FUNCTIONS` declares the same functions for the deployment file. A value must not depend
on the order of rows, because `profile_hash` covers it: sums are exact decimals, never sums of doubles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pyspark.sql import Column
from pyspark.sql import functions as F

from jobs.config.sections import Aggregate
from jobs.profiles.time_bands import DAY_MICROS, time_band, whole_days

EXACT = "decimal(28,8)"
"""Type of the values of an exact sum; larger values are null."""
MILLIS = 1_000
"""Microseconds of a millisecond."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """The columns of one event before as_of that a function may read."""

    time: Column
    as_of: Column
    value: Column
    """The declared column: a double for a column of numbers, the column itself for one of ids, else null."""

    @property
    def number(self) -> Column:
        """The declared column's value as an exact decimal."""
        return self.value.try_cast(EXACT)


@dataclass(frozen=True, kw_only=True)
class Grouped:
    """A user's columns after grouping."""

    events: Column
    """Number of events in the window."""
    value: Column
    """The result of `AggregateFunction.group`."""
    as_of: Column


@dataclass(frozen=True, kw_only=True)
class AggregateFunction:
    """One function in three steps; the first two are None where the number of events is enough."""

    collect: Callable[[Event], Column] | None = None
    """The value of an event in the window; null values are ignored."""
    group: Callable[[str], Column] | None = None
    """The aggregate over a user's collected values, which are in the named column."""
    finish: Callable[[Grouped], Column]
    """The user's number; null where it has no meaning."""
    banded: bool = False
    """Whether the number is a time band."""


def _sum_and_count(name: str) -> Column:
    return F.struct(F.try_sum(name).alias("sum"), F.count(name).alias("count"))


def _sum(user: Grouped) -> Column:
    return F.when(user.events == 0, 0.0).when(user.value["count"] > 0, user.value["sum"].cast("double"))


def _mean(user: Grouped) -> Column:
    return F.when(user.value["count"] > 0, user.value["sum"].cast("double") / user.value["count"])


def _point(event: Event) -> Column:
    """Return (t, y) and their products: t in whole milliseconds from as_of (negative), y the column's value."""
    micros = F.unix_micros(event.time) - F.unix_micros(event.as_of)
    t = F.call_function("div", micros, F.lit(MILLIS)).cast("decimal(15,0)")
    y = event.number
    point = F.struct(t.alias("t"), y.alias("y"), (t * t).alias("tt"), F.try_multiply(t, y).alias("ty"))
    return F.when(y.isNotNull(), point)


def _sums_of_points(name: str) -> Column:
    sums = [F.try_sum(f"{name}.{part}").alias(part) for part in ("t", "y", "tt", "ty")]
    return F.struct(F.count(name).try_cast("decimal(8,0)").alias("n"), *sums)


def _slope(user: Grouped) -> Column:
    """Return (n sum(ty) - sum(t) sum(y)) / (n sum(tt) - sum(t)^2) per day; null with fewer than two distinct times."""
    n, t, y, tt, ty = (user.value[part] for part in ("n", "t", "y", "tt", "ty"))
    # Exact, so that zero means equal times. Both products fit: t has 12 digits and n at most 7.
    t_exact = t.try_cast("decimal(19,0)")
    spread = n * tt.try_cast("decimal(30,0)") - t_exact * t_exact
    shared = n.cast("double") * ty.cast("double") - t.cast("double") * y.cast("double")
    return F.when(spread > 0, shared / spread.cast("double") * (DAY_MICROS // MILLIS))


AGGREGATES = {
    "count": AggregateFunction(finish=lambda user: user.events),
    "sum": AggregateFunction(collect=lambda event: event.number, group=_sum_and_count, finish=_sum),
    "mean": AggregateFunction(collect=lambda event: event.number, group=_sum_and_count, finish=_mean),
    "distinct": AggregateFunction(
        collect=lambda event: event.value,
        group=lambda name: F.size(F.collect_set(name)),
        finish=lambda user: user.value,
    ),
    "days_since_last": AggregateFunction(
        collect=lambda event: event.time,
        group=F.max,
        # In bands, because the number of days changes every day for every user.
        finish=lambda user: time_band(whole_days(user.value, user.as_of)),
        banded=True,
    ),
    "trend": AggregateFunction(collect=_point, group=_sums_of_points, finish=_slope),
}


def aggregate_function(aggregate: Aggregate) -> AggregateFunction:
    """Return the Spark part of an aggregate's function."""
    return AGGREGATES[aggregate.function]
