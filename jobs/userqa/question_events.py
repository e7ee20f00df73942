"""The events that the questions read: the rows of all sources near the cut-offs, in one table.

Each expression of a questions file is computed once for a row, by Spark. What a row holds of it has a position, which
`Expressions` gives: `conditions`, `numbers` and `words` are arrays, because questions and sources share the columns.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import reduce
from operator import or_

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.config.sections import EventSource
from jobs.lake.spark_tables import midnight_column
from jobs.lake.times import to_local
from jobs.profiles import templates
from jobs.profiles.aggregates import EXACT
from jobs.profiles.expressions import has_column, with_time_columns
from jobs.profiles.validation import event_rows, validate_events
from jobs.userqa.expressions import Condition, Expressions, Number, Window, window
from jobs.userqa.question import Question

INTEREST = "interest"
"""The column with the topic of the event's text."""
VALUE_CHARACTERS = 100
"""The longest text of a value."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """The cut-offs, and the day before which events are read."""

    cut_offs: Sequence[date]
    end: date


def question_events(
    df: DataFrame, source: EventSource, questions: Sequence[Question], interests: Mapping[str, str], span: Span
) -> DataFrame:
    """Return the good rows of a source within the longest windows of each cut-off.

    Returns
    -------
    DataFrame
        user_id, time in microseconds, and the values of the `Expressions` of the questions: conditions
        array<boolean>, numbers array<decimal>, words array<string>.
    """
    written = " ".join(part for q in questions for part in (q.where, q.value) if part)
    columns = [column for column in df.columns if column.lower() in written.lower()]  # SQL ignores case
    search = bool(interests and re.search(rf"\b{INTEREST}\b", written.lower())) and not has_column(df, INTEREST)
    past = max([q.span for q in questions if not q.future], default=0)
    since = span.cut_offs[0] - timedelta(days=past) if search else None
    good = event_rows(validate_events(df, source), source, span.end, columns, texts_since=since).where(
        F.col("__rejected").isNull() & ~F.col("__repeated") & (F.col("__time") < midnight_column(span.end))
    )
    good = good.where(reduce(or_, [_in_windows(near, span) for near in {window(q): None for q in questions}]))
    if search:
        good = good.join(_interests(good, interests), "__text", "left")
    good = with_time_columns(good, to_local(F.col("__time"), source.timezone))
    own = Expressions.of(questions)
    return good.select(
        F.col("__user").alias("user_id"),
        F.unix_micros("__time").alias("time"),
        _array([_fulfils(condition, span) for condition in own.conditions], "boolean").alias("conditions"),
        _array([_exact(number, span) for number in own.numbers], EXACT).alias("numbers"),
        _array([_text(value) for value in own.words], "string").alias("words"),
    )


def _in_windows(near: Window, span: Span) -> Column:
    """Return whether an event is in the window of any cut-off."""
    cut_offs = [F.unix_micros(midnight_column(cut_off)) for cut_off in span.cut_offs]
    return reduce(or_, [near.contains(F.unix_micros("__time") - cut_off) for cut_off in cut_offs])


def _fulfils(condition: Condition, span: Span) -> Column:
    """Return whether a row of the window fulfils a condition; it is not computed for other rows, where it may fail."""
    inside = _in_windows(condition.window, span)
    return inside if condition.where is None else F.coalesce(inside & F.expr(condition.where), F.lit(False))


def _exact(number: Number, span: Span) -> Column:
    """Return a value as an exact decimal, null where the row does not fulfil the condition or it is no number."""
    value = F.expr(number.value).cast("double")
    return F.when(_fulfils(number.condition, span) & ~F.isnan(value), value.try_cast(EXACT))


def _text(expression: str) -> Column:
    """Return an event's value as a text, null where it has no visible character."""
    return templates.words(F.expr(expression), VALUE_CHARACTERS)


def _array(values: Sequence[Column], dtype: str) -> Column:
    return F.array(*values).cast(f"array<{dtype}>")


def _interests(events: DataFrame, interests: Mapping[str, str]) -> DataFrame:
    """Return the topic of each distinct text: texts repeat, and each is searched for hundreds of words."""
    topic = F.coalesce(*[F.when(F.col("__text").rlike(f"(?iu){pattern}"), name) for name, pattern in interests.items()])
    # No filter may follow: Spark would move it, and the search with it, before the texts are made distinct.
    return events.select("__text").distinct().withColumn(INTEREST, topic)
