"""From a measured value to a sentence: bands, levels, yes or no, and the commonest values.

Numbers of a question fall into intervals [low, high); each interval's sentence is written once, in Python,
and Spark only chooses among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, log10

from pyspark.sql import Column
from pyspark.sql import functions as F

from jobs.userqa.questions import WHOLE, Question

LEVELS = {
    1: ("middle",),
    2: ("low", "high"),
    3: ("low", "middle", "high"),
    4: ("low", "fairly low", "fairly high", "high"),
    5: ("very low", "low", "middle", "high", "very high"),
    6: ("very low", "low", "fairly low", "fairly high", "high", "very high"),
    7: ("very low", "low", "fairly low", "middle", "fairly high", "high", "very high"),
}
EMPTY_IS_ZERO = ("count", "sum", "distinct")
"""Measures that are 0 over no event; the others have no value then."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """low <= value < high; None is open."""

    low: float | None
    high: float | None

    def words(self, whole: bool, least: int) -> dict[str, str]:
        """What `{band}`, `{times}` and `{days}` say; `least` is the smallest whole value that can be here."""
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
    """The intervals between growing edges, open at both ends."""
    ends: list[float | None] = [None, *edges, None]
    return [Interval(low=low, high=high) for low, high in pairwise(ends)]


def level_edges(quantiles: Sequence[float] | None, whole: bool) -> list[float]:
    """Quantiles as edges a person would write: two significant digits, growing; equal ones fall together."""
    rounded = [float(ceil(q)) if whole and q < 100 else _two_digits(q) for q in quantiles or ()]
    return sorted(set(rounded))


def asked_of(question: Question, value: Column) -> Column:
    """The value that intervals and quantiles are about: null where `none` answers, or nobody is asked."""
    if question.answer.none is None or question.answer.yes_from is not None:
        return value
    return F.when(value > 0, value) if question.measure in (*EMPTY_IS_ZERO, "share") else value


def answer_text(question: Question, value: Column, edges: Sequence[float]) -> Column:
    """The sentence that answers the question for a user, null where he is not asked.

    Parameters
    ----------
    value
        What was measured; for `top` an array of texts, for a tabular category a text.
    edges
        `bands`, or the edges of the levels.
    """
    form = question.answer
    none = F.lit(form.none)
    if form.yes_from is not None:
        return F.when(value >= form.yes_from, form.text).when(value.isNotNull(), none)
    if question.measure == "top":
        return F.when(F.size(value) > 0, _with_top(form.text, F.array_join(value, ", "))).otherwise(none)
    if not form.bands and form.levels is None:
        return F.when(value.isNotNull(), _with_top(form.text, value)).otherwise(none)
    asked = asked_of(question, value)
    whole = question.measure in WHOLE
    least = 1 if form.none is not None and question.measure in EMPTY_IS_ZERO else 0
    sentence = F.when(asked.isNull(), none if question.measure != "share" else F.when(value == 0, none))
    cut = intervals(edges)
    for interval, level in zip(cut, LEVELS.get(len(cut), ("",) * len(cut)), strict=True):
        text = form.text.format(**interval.words(whole, least), level=level, top="")
        high = interval.high
        sentence = sentence.otherwise(text) if high is None else sentence.when(asked < high, text)
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
