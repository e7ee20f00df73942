"""The measures of a question: what `value` names, how the number becomes an answer, and how it is computed.

Shapes: U users of a chunk, N events.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from jobs.profiles.time_bands import DAY_MICROS

Numbers = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
LEAST_TIME = -(2**62)
"""In microseconds, before every event; its distance to any cut-off is an int64."""


@dataclass(frozen=True, kw_only=True)
class Events:
    """The events of one question at one cut-off, of the users of a chunk."""

    user_N: Integers
    """The user of each event that is in the window and fulfils the question's `where`, from 0 to `users` - 1."""
    user_in_window_N: Integers
    """The same of each event in the window."""
    users: int
    as_of: int
    """The cut-off, in microseconds."""
    time_N: Integers
    """In microseconds."""
    value_N: pa.Array | None = None
    """The `value`s as exact decimals, so that sums do not depend on the order of rows; None for another kind."""
    text_N: Integers | None = None
    """Positions of the `value`s in `texts`, -1 for none; None for another kind of value."""
    texts: Sequence[str] = ()
    """The distinct texts, in alphabetical order."""
    top: int = 1
    """The question's `top`."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One measure of a user's events near a cut-off, or of a tabular column."""

    description: str
    value: Literal["number", "text", "column"] | None = None
    """The kind of `value`: an expression over events, or a tabular column; None where there is no `value`."""
    needs_where: bool = False
    future: bool | None = None
    """True: only future windows; False: only past ones; None: both."""
    answer: Literal["number", "text", "either"] = "number"
    """Whether the answer needs one of `FORMS` (number), takes none of them (text), or either."""
    whole: bool = False
    """Whether it is a whole number."""
    zero_without_events: bool = False
    """Whether it is 0 for a user without events; other measures are then missing."""
    none_at_zero: bool = False
    """Whether the answer `none` is for a value of 0 instead of a missing one."""
    number: Callable[[Events], Numbers] | None = None
    """Compute the measure of each of the U users; NaN where it is missing."""
    words: Callable[[Events], list[str | None]] | None = None
    """Compute the text of each of the U users; None where it is missing."""

    @property
    def tabular(self) -> bool:
        """Whether it reads a tabular column instead of events."""
        return self.value == "column"


def _count(events: Events) -> Numbers:
    return np.bincount(events.user_N, minlength=events.users).astype(np.float64)


def _share(events: Events) -> Numbers:
    in_window = np.bincount(events.user_in_window_N, minlength=events.users)
    with np.errstate(invalid="ignore"):
        return _count(events) * 100.0 / in_window


def _totals(events: Events) -> tuple[Numbers, Numbers]:
    """Return the sum of each user's values, NaN without one, and their number."""
    sums, counts = np.full(events.users, np.nan), np.zeros(events.users)
    values = pa.table({"user": events.user_N, "value": events.value_N})
    totals = values.group_by("user").aggregate([("value", "sum"), ("value", "count")]).to_pydict()
    for user, total, count in zip(totals["user"], totals["value_sum"], totals["value_count"], strict=True):
        if count:
            sums[user], counts[user] = float(total), count
    return sums, counts


def _mean(events: Events) -> Numbers:
    sums, counts = _totals(events)
    return np.divide(sums, counts, out=np.full(events.users, np.nan), where=counts > 0)


def _days_since(events: Events) -> Numbers:
    last = np.full(events.users, LEAST_TIME)
    np.maximum.at(last, events.user_N, events.time_N)
    return np.where(_count(events) > 0, (events.as_of - last) // DAY_MICROS, np.nan)


def _days_until(events: Events) -> Numbers:
    first = np.full(events.users, -LEAST_TIME)
    np.minimum.at(first, events.user_N, events.time_N)
    return np.where(_count(events) > 0, (first - events.as_of) // DAY_MICROS, np.nan)


def _text_counts(events: Events) -> tuple[Integers, Integers, Integers]:
    """Return each user with a text, the text and the number of events with it, by user and then in alphabetical order.

    Shapes: P pairs of a user and a text.
    """
    assert events.text_N is not None
    given = events.text_N >= 0
    pair_N = events.user_N[given] * len(events.texts) + events.text_N[given]
    pair_P, count_P = np.unique(pair_N, return_counts=True)
    return *np.divmod(pair_P, max(1, len(events.texts))), count_P


def _distinct(events: Events) -> Numbers:
    user_P, _, _ = _text_counts(events)
    return np.bincount(user_P, minlength=events.users).astype(np.float64)


def _commonest(events: Events) -> list[str | None]:
    """Return each user's commonest texts, by frequency and then in alphabetical order."""
    user_P, text_P, count_P = _text_counts(events)
    order = np.lexsort((text_P, -count_P, user_P))
    ranked: list[list[str]] = [[] for _ in range(events.users)]
    for user, text in zip(user_P[order].tolist(), text_P[order].tolist(), strict=True):
        if len(ranked[user]) < events.top:
            ranked[user].append(events.texts[text])
    return [", ".join(texts) or None for texts in ranked]


MEASURES = {
    "count": Measure(description="events", whole=True, zero_without_events=True, none_at_zero=True, number=_count),
    "share": Measure(
        description="percent of the sources' events that fulfil `where`",
        needs_where=True,
        none_at_zero=True,
        number=_share,
    ),
    "sum": Measure(
        description="of `value`",
        value="number",
        zero_without_events=True,
        none_at_zero=True,
        number=lambda events: _totals(events)[0],
    ),
    "mean": Measure(description="of `value`", value="number", number=_mean),
    "distinct": Measure(
        description="number of different `value`s",
        value="text",
        whole=True,
        zero_without_events=True,
        none_at_zero=True,
        number=_distinct,
    ),
    "top": Measure(description="the commonest `value`s", value="text", answer="text", words=_commonest),
    "recency": Measure(description="whole days since the last event", future=False, whole=True, number=_days_since),
    "days_until": Measure(
        description="whole days until the next event (future)", future=True, whole=True, number=_days_until
    ),
    "value": Measure(description="of a tabular column", value="column", answer="either"),
}
