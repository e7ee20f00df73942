"""Aggregates worked out event by event in plain Python, with exact fractions: the second opinion on Spark's."""

from __future__ import annotations

import math
import re
import statistics
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, localcontext
from fractions import Fraction
from itertools import product
from typing import Any

from jobs.config.aggregate import Aggregate

Row = Mapping[str, Any]
Timed = tuple[datetime, Row]
EXPRESSIONS: dict[str, Callable[[Row], Any]] = {}
"""What an SQL expression of a test's deployment file means; the test adds its own."""
RATIOS = sorted(
    float(Decimal(step).scaleb(power))
    for power, step in product((-2, -1, 0, 1), ("1", "1.25", "1.6", "2", "2.5", "3.15", "4", "5", "6.3", "8"))
)


def aggregate(declared: Aggregate, events: Sequence[Timed], as_of: datetime) -> float | str | None:
    """The value of one aggregate, without `per`; `events` are the good, unrepeated ones before as_of."""
    days = timedelta(days=declared.window_days)
    recent = over(declared, [event for event in events if event[0] >= as_of - days], as_of)
    if not declared.change:
        return recent
    earlier = over(declared, [event for event in events if as_of - 2 * days <= event[0] < as_of - days], as_of)
    return None if recent is None or earlier is None else recent - earlier


def over(declared: Aggregate, inside: Sequence[Timed], as_of: datetime) -> Any:
    chosen = [event for event in inside if declared.where is None or EXPRESSIONS[declared.where](event[1]) is True]
    if declared.function == "count":
        return float(len(chosen))
    if declared.function == "share":
        return len(chosen) / len(inside) if inside else None
    if declared.function == "days_since_last":
        return float(band(as_of - max(time for time, _ in chosen))) if chosen else None
    values = [(time, read(declared, row)) for time, row in chosen]
    values = [(time, value) for time, value in values if value is not None]
    if declared.function == "ratio":
        divisors = [number(EXPRESSIONS[declared.divisor](row)) for _, row in chosen]
        total, divisor = exact_sum([v for _, v in values]), exact_sum([d for d in divisors if d is not None])
        return None if total is None or not divisor else float(total) / float(divisor)
    return FUNCTIONS[declared.function](values, chosen, as_of)


def read(declared: Aggregate, row: Row) -> Any:
    value = row[declared.column] if declared.column else EXPRESSIONS[declared.value](row)
    if declared.column_kind == "number":
        return number(value)
    if declared.column_kind == "text":
        return words(value)
    return None if isinstance(value, float) and math.isnan(value) else value


def number(value: Any) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def words(value: Any) -> str | None:
    if value is None:
        return None
    blank = ("Cc", "Zs", "Zl", "Zp")
    spaced = "".join(" " if c.isspace() or unicodedata.category(c) in blank else c for c in str(value))
    return re.sub(" +", " ", spaced).strip()[:100] or None


def band(age: timedelta) -> int:
    return (1 + age // timedelta(days=1)).bit_length() - 1


def exact(value: float) -> Decimal | None:
    """A number as Spark's decimal(28,8); None beyond its range."""
    with localcontext(prec=400):
        rounded = Decimal(repr(value)).quantize(Decimal("1e-8"), ROUND_HALF_UP)
    return rounded if abs(rounded) < Decimal("1e20") else None


def exact_sum(values: Sequence[float]) -> Decimal | None:
    exacts = [value for value in map(exact, values) if value is not None]
    with localcontext(prec=400):
        return sum(exacts, Decimal(0)) if exacts else None


def mean(values: Sequence[float]) -> float | None:
    total = exact_sum(values)
    return None if total is None else float(total) / sum(exact(value) is not None for value in values)


def deviation(values: Sequence[float]) -> float | None:
    if len(values) < 2:
        return None
    variance = statistics.variance([Fraction(value) for value in values])
    return math.sqrt(variance) if variance < Fraction(2) ** 1024 else None


def trend(points: Sequence[tuple[timedelta, float]]) -> float | None:
    """The slope of the least-squares line in rational numbers, per day; times count to the millisecond."""
    points = [(time, value) for time, value in points if exact(value) is not None]
    exact_points = [
        (Fraction(-(-time // timedelta(milliseconds=1)), 86_400_000), Fraction(repr(value))) for time, value in points
    ]
    if len({time for time, _ in exact_points}) < 2:
        return None
    mean_time, mean_value = (sum(column) / len(exact_points) for column in zip(*exact_points, strict=True))
    shared = sum((time - mean_time) * (value - mean_value) for time, value in exact_points)
    return float(shared / sum((time - mean_time) ** 2 for time, _ in exact_points))


def most_frequent(texts: Sequence[str]) -> str | None:
    counted = sorted(Counter(texts).items(), key=lambda item: (-item[1], item[0].encode()))
    return counted[0][0] if counted else None


def total(values: Sequence[float], chosen: Sequence[Timed]) -> float | None:
    if not chosen:
        return 0.0
    exactly = exact_sum(values)
    return None if exactly is None else float(exactly)


def only(values: Sequence[tuple[datetime, Any]]) -> list[Any]:
    return [value for _, value in values]


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "sum": lambda values, chosen, as_of: total(only(values), chosen),
    "mean": lambda values, chosen, as_of: mean(only(values)),
    "min": lambda values, chosen, as_of: min(only(values), default=None),
    "max": lambda values, chosen, as_of: max(only(values), default=None),
    "std": lambda values, chosen, as_of: deviation(only(values)),
    "first": lambda values, chosen, as_of: min(values)[1] if values else None,
    "last": lambda values, chosen, as_of: max(values)[1] if values else None,
    "distinct": lambda values, chosen, as_of: float(len(set(only(values)))),
    "trend": lambda values, chosen, as_of: trend([(time - as_of, value) for time, value in values]),
    "top": lambda values, chosen, as_of: most_frequent(only(values)),
}


def relative_bands(declared: Sequence[Aggregate], tabular: Mapping[str, dict[str, Any]]) -> None:
    """Replace the values of aggregates with `per` by their bands; `tabular` has every user with a profile."""
    for one in declared:
        if one.per is None:
            continue
        groups: dict[str, list[float]] = {}
        for row in tabular.values():
            if row[one.per] is not None and row[one.name] is not None:
                groups.setdefault(row[one.per], []).append(row[one.name])
        means = {group: mean(values) for group, values in groups.items()}
        for row in tabular.values():
            row[one.name] = relative_band(row[one.name], means.get(row[one.per]))


def relative_band(value: float | None, of: float | None) -> float | None:
    if value is None or of is None or of <= 0:
        return None
    reached = [ratio for ratio in RATIOS if ratio <= abs(value) / of]
    return math.copysign(reached[-1] if reached else 0.0, value) + 0.0
