"""The aggregate functions and template filters that a deployment file may name.

Each entry declares what the file must give beside the name. The entry of the same name in `jobs.profiles.aggregates` or
`jobs.profiles.templates` computes the function or filter in Spark.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

EDGE = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,15})?")
"""An edge of a band, as a template writes it."""
MOST_EDGES = 100
"""Edges of one filter."""
ColumnKind = Literal["user", "time", "id", "text", "number"]
"""The kind of values that a column of a source table must hold."""


@dataclass(frozen=True, kw_only=True)
class AggregateFunction:
    """A number or a category computed over the events of one source in a window before as_of."""

    description: str
    column: ColumnKind | None = None
    """Kind of the values that it reads, of `column` or `value`; None where it reads none."""
    needs_where: bool = False
    needs_divisor: bool = False
    category: bool = False
    """Whether the result is a category of the profile, not a number."""
    banded: bool = False
    """Whether the result is a time band."""

    @property
    def comparable(self) -> bool:
        """Whether the result can be compared with that of other windows or users."""
        return not (self.category or self.banded)


@dataclass(frozen=True, kw_only=True)
class TemplateFilter:
    """A conversion of one column of an event to words of its text."""

    description: str
    column: ColumnKind
    takes_edges: bool = False
    """Whether a template may give it edges, as in `{score:band(0,50,100)}`."""


@dataclass(frozen=True, kw_only=True)
class FilterCall:
    """A filter as a template writes it: its name, and its edges as they are written."""

    name: str
    edges: tuple[str, ...] = ()

    @property
    def column(self) -> ColumnKind:
        """The kind of values that its column must hold."""
        return TEMPLATE_FILTERS[self.name].column

    @classmethod
    def parse(cls, text: str) -> FilterCall:
        """Return the filter of `name` or `name(edge,edge,...)`.

        Raises
        ------
        ValueError
            An unknown filter, edges for a filter that takes none, or edges that are no growing numbers.
        """
        name, opened, rest = text.partition("(")
        if name not in TEMPLATE_FILTERS or (opened and not rest.endswith(")")):
            raise ValueError(f"template filter {text!r} is unknown; use one of {', '.join(TEMPLATE_FILTERS)}")
        if not opened:
            return cls(name=name)
        if not TEMPLATE_FILTERS[name].takes_edges:
            raise ValueError(f"template filter {text!r} has edges, and {name} takes none; write {name}")
        edges = tuple(edge.strip() for edge in rest[:-1].split(","))
        wrong = [edge for edge in edges if not EDGE.fullmatch(edge)]
        if wrong:
            raise ValueError(
                f"template filter {text!r}: {wrong[0]!r} is no number; write edges as in {name}(0,50,99.5)"
            )
        if len(edges) > MOST_EDGES:
            raise ValueError(f"template filter {text!r:.40}... has {len(edges)} edges; use at most {MOST_EDGES}")
        numbers = [Decimal(edge) for edge in edges]
        if numbers != sorted(set(numbers)):
            raise ValueError(f"template filter {text!r}: edges must grow from each to the next")
        return cls(name=name, edges=edges)


AGGREGATE_FUNCTIONS = {
    "count": AggregateFunction(description="number of events"),
    "sum": AggregateFunction(description="sum of the column; 0 without events", column="number"),
    "mean": AggregateFunction(description="mean of the column", column="number"),
    "min": AggregateFunction(description="smallest value of the column", column="number"),
    "max": AggregateFunction(description="largest value of the column", column="number"),
    "std": AggregateFunction(description="sample standard deviation; null with fewer than two values", column="number"),
    "first": AggregateFunction(description="value of the earliest event that has one", column="number"),
    "last": AggregateFunction(description="value of the latest event that has one", column="number"),
    "distinct": AggregateFunction(description="number of different values of the column", column="id"),
    "share": AggregateFunction(description="share of the window's events that fulfil `where`", needs_where=True),
    "ratio": AggregateFunction(
        description="sum of the column over the sum of `divisor`", column="number", needs_divisor=True
    ),
    "days_since_last": AggregateFunction(description="band of the whole days since the last event", banded=True),
    "trend": AggregateFunction(description="least-squares slope of the column against time, per day", column="number"),
    "top": AggregateFunction(description="most frequent value of the column", column="text", category=True),
}
TEMPLATE_FILTERS = {
    "text": TemplateFilter(description="the value, with white space folded", column="text"),
    "amount_band": TemplateFilter(description="a band, as in `20 to 50`; a negative one is a refund", column="number"),
    "band": TemplateFilter(
        description="an interval, as in `-20 to -10`: of own edges, or logarithmic on both sides of 0",
        column="number",
        takes_edges=True,
    ),
    "number": TemplateFilter(description="a number of two significant digits, as in `1200`", column="number"),
    "weekday": TemplateFilter(description="the day of the week, as in `Friday`", column="time"),
    "hour": TemplateFilter(description="the hour of the day, as in `14:00`", column="time"),
    "daypart": TemplateFilter(description="night, morning, afternoon or evening", column="time"),
    "month": TemplateFilter(description="the month, as in `March`", column="time"),
}
