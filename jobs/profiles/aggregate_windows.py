"""The windows of aggregates over a user's events, and the user's values in them.

An aggregate has one window, the last days before as_of, or with `change` also the equal window before it. Both are
computed in the grouping that collects a user's events.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import Column
from pyspark.sql import functions as F

from jobs.config.aggregate import Aggregate
from jobs.profiles.aggregate_inputs import divisor_column, fulfils, value_column
from jobs.profiles.aggregates import AGGREGATES, Event, Grouped
from jobs.profiles.time_bands import DAY_MICROS


@dataclass(frozen=True, kw_only=True)
class Window:
    """A window of an aggregate: the last days before as_of, or the equal window before them."""

    aggregate: Aggregate
    earlier: bool

    def holds(self, age: Column) -> Column:
        """Return whether an event of this age in microseconds is in the window."""
        micros = self.aggregate.window_days * DAY_MICROS
        return (age > micros) & (age <= 2 * micros) if self.earlier else age <= micros

    @property
    def count(self) -> str:
        """Name of the column with the number of events in the window; aggregates of equal windows share it."""
        return f"{window_count_column(self.aggregate)}{'_earlier' if self.earlier else ''}"

    @property
    def chosen(self) -> str:
        """Name of the column with the number of events in the window that fulfil `where`."""
        return f"{self.value}_chosen" if self.aggregate.where else self.count

    @property
    def value(self) -> str:
        """Name of the column with the grouped value."""
        return f"__a_{self.aggregate.name}{'_earlier' if self.earlier else ''}"

    def events(self, of_source: Mapping[str, Column], age: Column) -> Column:
        """Return whether a row is an event in the window."""
        return of_source[self.aggregate.source] & F.col("__kept") & self.holds(age)

    def chosen_events(self, of_source: Mapping[str, Column], age: Column) -> Column:
        """Return whether a row is an event in the window that fulfils `where`."""
        inside, condition = self.events(of_source, age), fulfils(self.aggregate)
        return inside if condition is None else inside & condition


def windows(aggregate: Aggregate) -> list[Window]:
    """Return the window of an aggregate, and with `change` the one before it."""
    return [
        Window(aggregate=aggregate, earlier=earlier) for earlier in ((False, True) if aggregate.change else (False,))
    ]


def window_count_column(aggregate: Aggregate) -> str:
    """Return the column with the number of a user's events in an aggregate's window."""
    return f"__w_{aggregate.source}_{aggregate.window_days}"


def event_values(aggregates: Sequence[Aggregate], of_source: Mapping[str, Column], age: Column) -> dict[str, Column]:
    """Return what is collected of each row for each window, by the name of its column.

    Parameters
    ----------
    of_source
        By source, whether a row is of it.
    age
        Microseconds from a row's time to `__as_of`.
    """
    values = {}
    for window in _all_windows(aggregates):
        aggregate = window.aggregate
        if collect := AGGREGATES[aggregate.function].collect:
            event = Event(
                time=F.col("__time"),
                as_of=F.col("__as_of"),
                value=value_column(aggregate),
                divisor=divisor_column(aggregate),
            )
            values[window.value] = F.when(window.chosen_events(of_source, age), collect(event))
    return values


def grouped_values(aggregates: Sequence[Aggregate], of_source: Mapping[str, Column], age: Column) -> dict[str, Column]:
    """Return the aggregates over a user's rows for each window, which `user_value` reads, by their names."""
    grouped = {}
    for window in _all_windows(aggregates):
        grouped[window.count] = F.count_if(window.events(of_source, age))
        grouped[window.chosen] = F.count_if(window.chosen_events(of_source, age))
        if group := AGGREGATES[window.aggregate.function].group:
            grouped[window.value] = group(window.value)
    return grouped


def user_value(aggregate: Aggregate) -> Column:
    """Return a user's number or category, from the columns of `grouped_values`; null with nothing to compute.

    A number may be NaN or infinite.
    """
    finish = AGGREGATES[aggregate.function].finish
    values = [
        finish(
            Grouped(
                events=F.col(window.chosen),
                in_window=F.col(window.count),
                value=F.col(window.value) if AGGREGATES[aggregate.function].group else F.lit(None),
                as_of=F.col("__as_of"),
            )
        )
        for window in windows(aggregate)
    ]
    if aggregate.declared.category:
        return values[0]
    recent, *earlier = [value.cast("double") for value in values]
    return recent - earlier[0] if earlier else recent


def _all_windows(aggregates: Sequence[Aggregate]) -> list[Window]:
    return [window for aggregate in aggregates for window in windows(aggregate)]
