"""The value of each question for each user and cut-off, before it becomes a sentence.

Two groupings of a source give the values of all questions about it. The first is per user, cut-off and text: Spark adds
up its numbers before it shuffles, so no event is shuffled. The second, over its few rows, ranks and counts the texts.
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

from jobs.config.deployment import Deployment
from jobs.config.sections import EventSource
from jobs.lake.spark_tables import midnight_column
from jobs.lake.times import to_local
from jobs.profiles import templates
from jobs.profiles.expressions import has_column, with_time_columns
from jobs.profiles.time_bands import DAY_MICROS
from jobs.profiles.validation import event_rows, validate_events
from jobs.userqa.measures import Events, Texts
from jobs.userqa.question import TABULAR, Question
from jobs.userqa.questions import Questions

INTEREST = "interest"
"""The column with the topic of the event's text."""
VALUE_CHARACTERS = 100
"""The longest text of a value."""
NO_TEXT = -1
"""The number of the rows of the first grouping that are about events, not about their texts."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """The cut-offs, and the day before which events are read."""

    cut_offs: Sequence[date]
    end: date


def question_values(
    deployment: Deployment, questions: Questions, opened: Mapping[str, DataFrame], users: DataFrame, span: Span
) -> DataFrame:
    """Return one row per user and cut-off: user_id, as_of and a value per question, under its name.

    `users` are rows of `training_profiles`.
    """
    tabular = [F.col("tabular")[q.value].alias(q.name) for q in questions.questions if q.source == TABULAR]
    result = users.select("user_id", "as_of", *tabular)
    for source in deployment.sources:
        own = [q for q in questions.questions if q.source == source.name]
        if own:
            values = _source_values(opened[source.name], source, own, questions.interests, span)
            result = result.join(values, ["user_id", "as_of"], "left")
    zeros = {q.name: F.coalesce(F.col(q.name), F.lit(0)) for q in questions.questions if q.kind.zero_without_events}
    return result.withColumns(zeros)


def _source_values(
    df: DataFrame, source: EventSource, questions: Sequence[Question], interests: Mapping[str, str], span: Span
) -> DataFrame:
    """Return the values of all questions about a source, per user and cut-off."""
    # Questions share values, so the texts of each value are computed once.
    numbers = {value: n for n, value in enumerate(dict.fromkeys(str(q.value) for q in questions if q.kind.of_texts))}
    rows = _rows_near_cut_offs(df, source, questions, interests, span, numbers)
    groups = [F.struct(F.lit(n).alias("__number"), F.col(_text_column(n)).alias("__words")) for n in numbers.values()]
    if any(q.kind.of_events for q in questions):
        groups.append(F.struct(F.lit(NO_TEXT).alias("__number"), F.lit(None).cast("string").alias("__words")))
    rows = rows.select("*", F.inline(F.array(*groups)))
    rows = rows.where((F.col("__number") == NO_TEXT) | F.col("__words").isNotNull())
    first, second = [], []
    for question in questions:
        number, value = numbers.get(str(question.value), NO_TEXT), F.col(question.name)
        events = _events(question, F.col("__number") == number)
        if question.kind.of_events:
            first.append(question.kind.of_events(events).alias(question.name))
            # The other rows hold 0 or null.
            second.append(F.max(F.when(F.col("__number") == NO_TEXT, value)).alias(question.name))
        elif question.kind.of_texts:
            first.append(F.count_if(events.inside).alias(question.name))
            texts = Texts(words=F.col("__words"), events=value, top=question.top)
            second.append(question.kind.of_texts(texts).alias(question.name))
    counted = rows.groupBy(F.col("__user").alias("user_id"), "as_of", "__number", "__words").agg(*first)
    return counted.groupBy("user_id", "as_of").agg(*second)


def _rows_near_cut_offs(
    df: DataFrame,
    source: EventSource,
    questions: Sequence[Question],
    interests: Mapping[str, str],
    span: Span,
    texts: Mapping[str, int],
) -> DataFrame:
    """Return the good rows within the longest windows of each cut-off, with `as_of` and `__day`.

    They have the columns that the questions name, and each expression of `texts` as a text under its `_text_column`.
    """
    expressions = " ".join(part for q in questions for part in (q.where, q.value) if part)
    columns = [column for column in df.columns if column.lower() in expressions.lower()]  # SQL ignores case
    past = max([q.span for q in questions if not q.future], default=0)
    ahead = max([q.span for q in questions if q.future], default=0)
    search = bool(interests and re.search(rf"\b{INTEREST}\b", expressions.lower())) and not has_column(df, INTEREST)
    since = span.cut_offs[0] - timedelta(days=past) if search else None
    good = event_rows(validate_events(df, source), source, span.end, columns, texts_since=since).where(
        F.col("__rejected").isNull() & ~F.col("__repeated") & (F.col("__time") < midnight_column(span.end))
    )
    good = good.where(reduce(or_, [_in_windows(midnight_column(c), past, ahead) for c in span.cut_offs]))
    if search:
        good = good.join(_interests(good, interests), "__text", "left")
    good = with_time_columns(good, to_local(F.col("__time"), source.timezone))
    good = good.withColumns({_text_column(n): _value_text(value) for value, n in texts.items()})
    rows = good.withColumn("as_of", F.explode(F.array(*[midnight_column(c) for c in span.cut_offs])))
    rows = rows.where(_in_windows(F.col("as_of"), past, ahead))
    # Whole days from the cut-off, rounded down: -1 is the day before it, 0 the day after its midnight.
    micros = F.unix_micros("__time") - F.unix_micros("as_of")
    day = F.call_function("div", micros - F.pmod(micros, F.lit(DAY_MICROS)), F.lit(DAY_MICROS))
    return rows.withColumn("__day", day)


def _in_windows(cut_off: Column, past: int, ahead: int) -> Column:
    """Return whether an event is within `past` days before a cut-off or `ahead` days from it on."""
    micros = F.unix_micros("__time") - F.unix_micros(cut_off)
    return (micros >= -past * DAY_MICROS) & (micros < ahead * DAY_MICROS)


def _events(question: Question, own: Column) -> Events:
    """Return what a measure reads of the rows that are its `own`."""
    in_window = own & _in_window(question)
    return Events(
        # The condition comes last: Spark computes it for the events of the window alone.
        inside=in_window & F.expr(question.where) if question.where else in_window,
        in_window=in_window,
        time=F.col("__time"),
        as_of=F.col("as_of"),
        value=F.expr(str(question.value)).cast("double") if question.kind.value == "number" else F.lit(None),
    )


def _in_window(question: Question) -> Column:
    day = F.col("__day")
    return (day >= 0) & (day < question.span) if question.future else (day < 0) & (day >= -question.span)


def _text_column(number: int) -> str:
    return f"__text_{number}"


def _value_text(expression: str) -> Column:
    """Return an event's value as a text, null where it has no visible character."""
    return templates.words(F.expr(expression), VALUE_CHARACTERS)


def _interests(events: DataFrame, interests: Mapping[str, str]) -> DataFrame:
    """Return the topic of each distinct text: texts repeat, and each is searched for hundreds of words."""
    topic = F.coalesce(*[F.when(F.col("__text").rlike(f"(?iu){pattern}"), name) for name, pattern in interests.items()])
    # No filter may follow: Spark would move it, and the search with it, before the texts are made distinct.
    return events.select("__text").distinct().withColumn(INTEREST, topic)
