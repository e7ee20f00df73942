"""The measures of a question: what `value` names, how the number becomes an answer, and how Spark computes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pyspark.sql import Column
from pyspark.sql import functions as F

from jobs.profiles.aggregates import EXACT
from jobs.profiles.time_bands import whole_days


@dataclass(frozen=True, kw_only=True)
class Events:
    """The columns that a measure may read of the events near a cut-off."""

    inside: Column
    """Whether an event is in the question's window and fulfils the question's `where`."""
    in_window: Column
    """Whether an event is in the question's window."""
    time: Column
    as_of: Column
    value: Column
    """The question's `value` as a double; null for another kind of value."""

    @property
    def exact(self) -> Column:
        """The value of an event inside as an exact decimal, so that sums do not depend on the order of rows."""
        return F.when(self.inside & ~F.isnan(self.value), self.value.try_cast(EXACT))


@dataclass(frozen=True, kw_only=True)
class Texts:
    """The columns that a measure may read of the different texts of a user's events near a cut-off."""

    words: Column
    """One of the texts."""
    events: Column
    """The number of events inside that have it."""
    top: int
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
    """Whether the answer needs bands, levels or yes_from (number), takes none of them (text), or either."""
    whole: bool = False
    """Whether it is a whole number."""
    zero_without_events: bool = False
    """Whether it is 0 over no event, where other measures are null."""
    none_at_zero: bool = False
    """Whether the answer `none` is for a value of 0 instead of null."""
    of_events: Callable[[Events], Column] | None = None
    """The measure as an aggregate over a user's events: a number that is 0 or null without events inside."""
    of_texts: Callable[[Texts], Column] | None = None
    """The measure as an aggregate over a user's different texts."""

    @property
    def tabular(self) -> bool:
        """Whether it reads a tabular column instead of events."""
        return self.value == "column"

    @property
    def ranked(self) -> bool:
        """Whether it is a list of the commonest texts."""
        return self.answer == "text"


def _commonest(texts: Texts) -> Column:
    """Return the commonest texts, by frequency and then by alphabet; null or empty without one."""
    ranked = F.when(texts.events > 0, F.struct((-texts.events).alias("n"), texts.words.alias("words")))
    if texts.top == 1:
        first = F.min(ranked)["words"]
        return F.when(first.isNotNull(), F.array(first))
    return F.slice(F.sort_array(F.collect_list(ranked)), 1, texts.top)["words"]


def _sum(events: Events) -> Column:
    return F.try_sum(events.exact).cast("double")


MEASURES = {
    "count": Measure(
        description="events",
        whole=True,
        zero_without_events=True,
        none_at_zero=True,
        of_events=lambda events: F.count_if(events.inside),
    ),
    "share": Measure(
        description="percent of the source's events that fulfil `where`",
        needs_where=True,
        none_at_zero=True,
        of_events=lambda events: F.try_divide(F.count_if(events.inside) * 100.0, F.count_if(events.in_window)),
    ),
    "sum": Measure(
        description="of `value`", value="number", zero_without_events=True, none_at_zero=True, of_events=_sum
    ),
    "mean": Measure(
        description="of `value`",
        value="number",
        of_events=lambda events: F.try_divide(_sum(events), F.count(events.exact)),
    ),
    "distinct": Measure(
        description="number of different `value`s",
        value="text",
        whole=True,
        zero_without_events=True,
        none_at_zero=True,
        of_texts=lambda texts: F.count_if(texts.events > 0),
    ),
    "top": Measure(description="the commonest `value`s", value="text", answer="text", of_texts=_commonest),
    "recency": Measure(
        description="whole days since the last event",
        future=False,
        whole=True,
        of_events=lambda events: whole_days(F.max(F.when(events.inside, events.time)), events.as_of),
    ),
    "days_until": Measure(
        description="whole days until the next event (future)",
        future=True,
        whole=True,
        of_events=lambda events: whole_days(events.as_of, F.min(F.when(events.inside, events.time))),
    ),
    "value": Measure(description="of a tabular column", value="column", answer="either"),
}
