"""The sentence for a measured value: bands, levels, yes or no, and the commonest values.

A number falls into one of the question's intervals [low, high). Python writes the sentence of each interval once, and
Spark only chooses among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, log10

from pyspark.sql import Column
from pyspark.sql import functions as F

from jobs.userqa.question import Question

LEVELS = {
    1: ("middle",),
    2: ("low", "high"),
    3: ("low", "middle", "high"),
    4: ("low", "fairly low", "fairly high", "high"),
    5: ("very low", "low", "middle", "high", "very high"),
    6: ("very low", "low", "fairly low", "fairly high", "high", "very high"),
    7: ("very low", "low", "fairly low", "middle", "fairly high", "high", "very high"),
}


@dataclass(frozen=True, kw_only=True)
class Interval:
    """The numbers low <= value < high; None is an open end."""

    low: float | None
    high: float | None

    def words(self, whole: bool, least: int) -> dict[str, str]:
        """Return the words for `{band}`, `{times}` and `{days}`; `least` is the smallest possible whole value."""
        if not whole:
            band = _between(_plain(self.low), _plain(self.high))
            return {"band": band, "times": f"{band} times", "days": f"{band} days"}
        low = least if self.low is None else max(least, ceil(self.low))
        high = None if self.high is None else ceil(self.high) - 1
        if high is None:
            return {"band": f"{low} or more", "times": f"{low} or more times", "days": f"{low} days or more"}
        band = str(low) if high <= low else f"{low} to {high}"
        times = {"0": "never", "1": "once", "2": "twice"}.get(band, f"{band} times")
        days = {"0": "less than a day", "1": "1 day"}.get(band, f"{band} days")
        return {"band": band, "times": times, "days": days}


def intervals(edges: Sequence[float]) -> list[Interval]:
    """Return the intervals between growing edges, with open ends."""
    ends: list[float | None] = [None, *edges, None]
    return [Interval(low=low, high=high) for low, high in pairwise(ends)]


def level_edges(quantiles: Sequence[float] | None, whole: bool) -> list[float]:
    """Return quantiles as edges for a text: rounded to two significant digits, growing, and each once."""
    rounded = [float(ceil(q)) if whole and q < 100 else _two_digits(q) for q in quantiles or ()]
    return sorted(set(rounded))


def value_for_intervals(question: Question, value: Column) -> Column:
    """Return the value that falls into intervals and quantiles; null where `none` is the answer."""
    if question.answer.none is None or question.answer.yes_from is not None:
        return value
    return F.when(value > 0, value) if question.kind.none_at_zero else value


def answer_text(question: Question, value: Column, edges: Sequence[float]) -> Column:
    """Return the sentence that answers the question for a user; null where the user has no such pair.

    Parameters
    ----------
    value
        The measured value: a number; for a ranked measure an array of texts; for a tabular category a text.
    edges
        `bands`, or the edges of the levels.
    """
    form, measure = question.answer, question.kind
    none = F.lit(form.none)
    if form.yes_from is not None:
        return F.when(value >= form.yes_from, form.text).when(value.isNotNull(), none)
    if measure.ranked:
        return F.when(F.size(value) > 0, _with_top(form.text, F.array_join(value, ", "))).otherwise(none)
    if not form.bands and form.levels is None:
        return F.when(value.isNotNull(), _with_top(form.text, value)).otherwise(none)
    number = value_for_intervals(question, value)
    least = 1 if form.none is not None and measure.zero_without_events else 0
    sentence = F.when(number.isNull(), F.when(value <= 0, none) if measure.none_at_zero else none)
    parts = intervals(edges)
    for interval, level in zip(parts, LEVELS.get(len(parts), ("",) * len(parts)), strict=True):
        text = form.text.format(**interval.words(measure.whole, least), level=level, top="")
        high = interval.high
        sentence = sentence.otherwise(text) if high is None else sentence.when(number < high, text)
    return sentence


def _with_top(text: str, value: Column) -> Column:
    before, _, after = text.partition("{top}")
    return F.concat(F.lit(before), value, F.lit(after))


def _between(low: str | None, high: str | None) -> str:
    if low is None:
        return "any amount" if high is None else f"under {high}"
    return f"{low} or more" if high is None else f"{low} to {high}"


def _plain(value: float | None) -> str | None:
    if value is None:
        return None
    return str(int(value)) if value == int(value) else f"{value:.6g}"


def _two_digits(value: float) -> float:
    if value == 0:
        return 0.0
    digits = 1 - floor(log10(abs(value)))
    return float(round(value, digits))
