"""The sentence for a measured value: bands, levels, yes or no, and the commonest values.

A number falls into one of the question's intervals [low, high). The sentence of each interval is written once.

Shapes: R profiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, log10
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from jobs.userqa.measures import Numbers
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


def numeric_answers(question: Question, number_R: Numbers, edges: Sequence[float]) -> pa.Array:
    """Return the sentences that answer a question by its numbers; null where there is no such pair.

    Parameters
    ----------
    number_R
        The measured values, NaN where one is missing.
    edges
        `bands`, or the quantiles of `jobs.userqa.pairs`: the edges of the levels, or the value above which the answer
        is yes.
    """
    form, measure = question.answer, question.kind
    missing_R = np.isnan(number_R)
    if form.yes_from is not None:
        return _choose([form.none, form.text], np.where(missing_R, -1, number_R >= form.yes_from))
    if form.yes_share is not None:
        return _choose([form.none, form.text], np.where(missing_R, -1, number_R > edges[0]))
    least = 1 if form.none is not None and measure.zero_without_events else 0
    parts = intervals(edges)
    levels = LEVELS.get(len(parts), ("",) * len(parts))
    sentences = [
        form.text.format(**interval.words(measure.whole, least), level=level, top="")
        for interval, level in zip(parts, levels, strict=True)
    ]
    number_of_R = np.searchsorted(edges, number_R, side="right")
    if form.none is None:
        return _choose(sentences, np.where(missing_R, -1, number_of_R))
    # A measure of which 0 is `none` has no answer where it is missing.
    none, absent = (number_R <= 0, missing_R) if measure.none_at_zero else (missing_R, np.zeros_like(missing_R))
    return _choose([*sentences, form.none], np.where(absent, -1, np.where(none, len(sentences), number_of_R)))


def worded_answers(question: Question, words: pa.Array) -> pa.Array:
    """Return the sentences that answer a question by its texts; null where there is no such pair."""
    form = question.answer
    before, _, after = form.text.partition("{top}")
    # Spark sends texts of another type where spark.sql.execution.arrow.useLargeVarTypes is set.
    sentences = pc.binary_join_element_wise(before, words.cast(pa.string()), after, "")
    return sentences if form.none is None else pc.fill_null(sentences, form.none)


def _choose(texts: Sequence[str | None], number_R: npt.NDArray[np.integer[Any]]) -> pa.Array:
    """Return the text with each number, null for -1."""
    return pa.array(texts, pa.string()).take(pa.array(number_R, pa.int32(), mask=number_R < 0))


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
