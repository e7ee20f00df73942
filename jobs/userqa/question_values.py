"""The value of each question for each user and cut-off, before it becomes a sentence.

One grouping of a source gives the values of all questions about it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

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
from jobs.userqa.measures import Events
from jobs.userqa.question import TABULAR, Question
from jobs.userqa.questions import Questions

INTEREST = "interest"
"""The column with the topic of the event's text."""
VALUE_CHARACTERS = 100
"""The longest text of a value."""


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
    """Return the values of all questions about a source, per user and cut-off, by one grouping."""
    rows = _rows_near_cut_offs(df, source, questions, interests, span)
    # Questions share values, so the texts of each value are computed once.
    texts = dict.fromkeys(str(q.value) for q in questions if q.kind.value == "text")
    text_columns = {value: f"__text_{number}" for number, value in enumerate(texts)}
    rows = rows.withColumns({name: _value_text(value) for value, name in text_columns.items()})
    ranked = [q for q in questions if q.kind.ranked]
    # A grouping needs at least one aggregate, and all questions may be ranked.
    aggregates = [F.count(F.lit(1)).alias("__events")]
    for question in questions:
        if question.kind.compute is not None:
            aggregates.append(question.kind.compute(_events(question, text_columns)).alias(question.name))
    values = rows.groupBy(F.col("__user").alias("user_id"), "as_of").agg(*aggregates).drop("__events")
    return values.join(_commonest(rows, ranked, text_columns), ["user_id", "as_of"], "left") if ranked else values


def _rows_near_cut_offs(
    df: DataFrame, source: EventSource, questions: Sequence[Question], interests: Mapping[str, str], span: Span
) -> DataFrame:
    """Return the good rows within the longest windows of each cut-off, with `as_of`, `__day` and the times' columns."""
    expressions = " ".join(part for q in questions for part in (q.where, q.value) if part)
    columns = [column for column in df.columns if column.lower() in expressions.lower()]  # SQL ignores case
    past = max([q.span for q in questions if not q.future], default=0)
    ahead = max([q.span for q in questions if q.future], default=0)
    search = bool(interests and re.search(rf"\b{INTEREST}\b", expressions.lower())) and not has_column(df, INTEREST)
    since = span.cut_offs[0] - timedelta(days=past) if search else None
    good = event_rows(validate_events(df, source), source, span.end, columns, texts_since=since).where(
        F.col("__rejected").isNull() & ~F.col("__repeated") & (F.col("__time") < midnight_column(span.end))
    )
    if search:
        good = good.join(_interests(good, interests), "__text", "left")
    rows = good.withColumn("as_of", F.explode(F.array(*[midnight_column(c) for c in span.cut_offs])))
    micros = F.unix_micros("__time") - F.unix_micros("as_of")
    rows = rows.where((micros >= -past * DAY_MICROS) & (micros < ahead * DAY_MICROS))
    # Whole days from the cut-off, rounded down: -1 is the day before it, 0 the day after its midnight.
    day = F.call_function("div", micros - F.pmod(micros, F.lit(DAY_MICROS)), F.lit(DAY_MICROS))
    return with_time_columns(rows.withColumn("__day", day), to_local(F.col("__time"), source.timezone))


def _events(question: Question, text_columns: Mapping[str, str]) -> Events:
    value = F.lit(None)
    if question.kind.value == "text":
        value = F.col(text_columns[str(question.value)])
    if question.kind.value == "number":
        value = F.expr(str(question.value)).cast("double")
    return Events(
        inside=_inside(question),
        in_window=_in_window(question),
        time=F.col("__time"),
        as_of=F.col("as_of"),
        value=value,
    )


def _inside(question: Question) -> Column:
    """Return whether an event is in the question's window and fulfils its `where`."""
    return _in_window(question) & F.expr(question.where) if question.where else _in_window(question)


def _in_window(question: Question) -> Column:
    day = F.col("__day")
    return (day >= 0) & (day < question.span) if question.future else (day < 0) & (day >= -question.span)


def _value_text(expression: str) -> Column:
    """Return an event's value as a text, null where it has no visible character."""
    return templates.words(F.expr(expression), VALUE_CHARACTERS)


def _commonest(rows: DataFrame, questions: Sequence[Question], text_columns: Mapping[str, str]) -> DataFrame:
    """Return each question's commonest texts per user and cut-off, by frequency and then by alphabet.

    The texts are counted by groups of rows, because comparing the elements of an array takes quadratic time.
    """
    texts = F.array(
        *[
            F.struct(
                F.lit(q.name).alias("question"), F.when(_inside(q), F.col(text_columns[str(q.value)])).alias("words")
            )
            for q in questions
        ]
    )
    text_rows = rows.select(F.col("__user").alias("user_id"), "as_of", F.inline(texts)).where("words IS NOT NULL")
    counted = text_rows.groupBy("user_id", "as_of", "question", "words").agg(F.count(F.lit(1)).alias("n"))
    ranked = F.struct((-F.col("n")).alias("n"), "words")

    def commonest(question: Question) -> Column:
        own = F.collect_list(F.when(F.col("question") == question.name, ranked))
        return F.slice(F.sort_array(own), 1, question.top)["words"].alias(question.name)

    return counted.groupBy("user_id", "as_of").agg(*map(commonest, questions))


def _interests(events: DataFrame, interests: Mapping[str, str]) -> DataFrame:
    """Return the topic of each distinct text: texts repeat, and each is searched for hundreds of words."""
    topic = F.coalesce(*[F.when(F.col("__text").rlike(f"(?iu){pattern}"), name) for name, pattern in interests.items()])
    # No filter may follow: Spark would move it, and the search with it, before the texts are made distinct.
    return events.select("__text").distinct().withColumn(INTEREST, topic)
