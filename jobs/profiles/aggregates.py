"""The aggregate functions in Spark: what is collected of each event, how it is grouped, and the user's value.

`jobs.config.functions.AGGREGATE_FUNCTIONS` declares the same functions for the deployment file. A value must not depend
on the order of rows, because `profile_hash` covers it: sums are exact decimals, never sums of doubles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pyspark.sql import Column
from pyspark.sql import functions as F

from jobs.profiles.time_bands import DAY_MICROS, time_band, whole_days

EXACT = "decimal(28,8)"
"""Type of the values of an exact sum; larger values are null."""
CANCELLED = 1e-6
"""Share of two nearly equal products below which their difference in doubles has too few digits."""
MILLIS = 1_000
"""Microseconds of a millisecond."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """The columns of one event before as_of that a function may read."""

    time: Column
    as_of: Column
    value: Column
    """The declared value: of the kind number a double, of the kind text a text, else as in the table, or null."""
    divisor: Column
    """The declared divisor as a double, or null."""

    @property
    def number(self) -> Column:
        """The declared value as an exact decimal."""
        return self.value.try_cast(EXACT)


@dataclass(frozen=True, kw_only=True)
class Grouped:
    """A user's columns after grouping."""

    events: Column
    """Number of events in the window that fulfil the aggregate's `where`."""
    in_window: Column
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
    """The user's number or category; null where it has no meaning."""


def _sum_and_count(name: str) -> Column:
    return F.struct(F.try_sum(name).alias("sum"), F.count(name).alias("count"))


def _sum(user: Grouped) -> Column:
    return F.when(user.events == 0, 0.0).when(user.value["count"] > 0, user.value["sum"].cast("double"))


def _mean(user: Grouped) -> Column:
    return F.when(user.value["count"] > 0, user.value["sum"].cast("double") / user.value["count"])


def _ratio(user: Grouped) -> Column:
    return F.try_divide(user.value["value"].cast("double"), user.value["divisor"].cast("double"))


def _deviation(user: Grouped) -> Column:
    """Return the sample standard deviation of the sorted values, updated value by value (Welford).

    Sums of squares would lose the deviation of large, close values; the order is that of the values.
    """
    start = F.struct(F.lit(0.0).alias("n"), F.lit(0.0).alias("mean"), F.lit(0.0).alias("squares"))

    def add(past: Column, value: Column) -> Column:
        n, off = past["n"] + 1, value - past["mean"]
        mean = past["mean"] + off / n
        squares = past["squares"] + off * (value - mean)
        return F.struct(n.alias("n"), mean.alias("mean"), squares.alias("squares"))

    def finish(past: Column) -> Column:
        return F.sqrt(F.when(past["n"] > 1, past["squares"] / (past["n"] - 1)))

    return F.aggregate(user.value, start, add, finish)


def _timed(event: Event) -> Column:
    """Return (time, value) where there is a value; of equal times the value decides."""
    return F.when(event.value.isNotNull(), F.struct(event.time.alias("time"), event.value.alias("value")))


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
    product, means = n.cast("double") * ty.cast("double"), t.cast("double") * y.cast("double")
    shared = product - means
    # The difference of doubles loses the slope of large, close values; that of decimals keeps six decimals.
    exact = F.try_subtract(F.try_multiply(n, ty), F.try_multiply(t, y)).cast("double")
    cancelled = F.abs(shared) < F.abs(product) * CANCELLED
    shared = F.when(cancelled, F.coalesce(exact, shared)).otherwise(shared)
    return F.when(spread > 0, shared / spread.cast("double") * (DAY_MICROS // MILLIS))


AGGREGATES = {
    "count": AggregateFunction(finish=lambda user: user.events),
    "sum": AggregateFunction(collect=lambda event: event.number, group=_sum_and_count, finish=_sum),
    "mean": AggregateFunction(collect=lambda event: event.number, group=_sum_and_count, finish=_mean),
    "min": AggregateFunction(collect=lambda event: event.value, group=F.min, finish=lambda user: user.value),
    "max": AggregateFunction(collect=lambda event: event.value, group=F.max, finish=lambda user: user.value),
    "std": AggregateFunction(
        collect=lambda event: event.value, group=lambda name: F.array_sort(F.collect_list(name)), finish=_deviation
    ),
    "first": AggregateFunction(collect=_timed, group=F.min, finish=lambda user: user.value["value"]),
    "last": AggregateFunction(collect=_timed, group=F.max, finish=lambda user: user.value["value"]),
    "distinct": AggregateFunction(
        collect=lambda event: event.value,
        group=lambda name: F.size(F.collect_set(name)),
        finish=lambda user: user.value,
    ),
    "share": AggregateFunction(finish=lambda user: F.try_divide(user.events, user.in_window)),
    "ratio": AggregateFunction(
        collect=lambda event: F.struct(event.number.alias("value"), event.divisor.try_cast(EXACT).alias("divisor")),
        group=lambda name: F.struct(
            F.try_sum(f"{name}.value").alias("value"), F.try_sum(f"{name}.divisor").alias("divisor")
        ),
        finish=_ratio,
    ),
    "days_since_last": AggregateFunction(
        collect=lambda event: event.time,
        group=F.max,
        # In bands, because the number of days changes every day for every user.
        finish=lambda user: time_band(whole_days(user.value, user.as_of)),
    ),
    "trend": AggregateFunction(collect=_point, group=_sums_of_points, finish=_slope),
    "top": AggregateFunction(
        collect=lambda event: event.value,
        # Of the texts with the greatest frequency, the first by alphabet.
        group=lambda name: F.mode(name, True),
        finish=lambda user: user.value,
    ),
}
