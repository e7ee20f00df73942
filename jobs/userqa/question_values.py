"""What a question measures: its value for each user near each cut-off, before it becomes a sentence.

One grouping of a source answers all questions about it; values, unlike answers, are numbers and texts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from pyspark.errors import AnalysisException, IllegalArgumentException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import BooleanType, NumericType

from jobs.config.deployment import Deployment
from jobs.config.sections import EventSource
from jobs.lake.spark_tables import midnight_column
from jobs.profiles import source_tables, templates
from jobs.profiles.event_history import DAY_MICROS, EXACT, whole_days
from jobs.userqa.answer_templates import EMPTY_IS_ZERO
from jobs.userqa.questions import TABULAR, Question, Questions

TIMES = {"weekday": templates.weekday, "daypart": templates.daypart, "month": templates.month, "hour": templates.hour}
"""Columns of the event's time that a question may name."""
INTEREST = "interest"
"""The column of what the event's text is about."""


def measure_questions(
    deployment: Deployment,
    asked: Questions,
    opened: Mapping[str, DataFrame],
    people: DataFrame,
    cut_offs: Sequence[date],
    end: date,
) -> DataFrame:
    """One row per user and cut-off: user_id, as_of and a value per question, under its name."""
    tabular = [F.col("tabular")[q.value].alias(q.name) for q in asked.questions if q.source == TABULAR]
    wide = people.select("user_id", "as_of", *tabular)
    for source in deployment.sources:
        questions = [q for q in asked.questions if q.source == source.name]
        if questions:
            values = _source_values(opened[source.name], source, questions, asked.interests, cut_offs, end)
            wide = wide.join(values, ["user_id", "as_of"], "left")
    zeros = {q.name: F.coalesce(F.col(q.name), F.lit(0)) for q in asked.questions if q.measure in EMPTY_IS_ZERO}
    return wide.withColumns(zeros)


def question_errors(
    spark: SparkSession, deployment: Deployment, asked: Questions, opened: Mapping[str, DataFrame]
) -> list[str]:
    """Where questions and interests do not fit the tables, a line for each mistake."""
    return [
        *(words for question in asked.questions for words in _misfits(question, asked.interests, deployment, opened)),
        *_unsearchable(spark, asked.interests),
    ]


def _misfits(
    question: Question, interests: Mapping[str, str], deployment: Deployment, opened: Mapping[str, DataFrame]
) -> list[str]:
    """Where a question does not fit its source's columns."""
    name = question.name
    if question.source == TABULAR:
        if question.value in deployment.numbers:
            form = question.answer
            if form.bands or form.levels or form.yes_from is not None:
                return []
            return [f"  {name}.answer: {question.value} is a number; add bands, levels or yes_from"]
        if question.value in deployment.categories:
            return []
        return [
            f"  {name}.value = {question.value}: no tabular column; use one of "
            f"{', '.join([*deployment.numbers, *deployment.categories])}"
        ]
    if question.source not in opened:
        known = [source.name for source in deployment.sources]
        return [f"  {name}.source = {question.source}: no source; use one of {', '.join([*known, TABULAR])}"]
    df = _with_times(opened[question.source], F.current_timestamp())
    if interests and not _has(df, INTEREST):
        df = df.withColumn(INTEREST, F.lit(""))
    found = []
    for key, expression in (("where", question.where), ("value", question.value)):
        if expression is None:
            continue
        try:
            seen = df.select(F.expr(expression).alias("e"))
            dtype = seen.schema["e"].dataType
            df.where(F.expr(expression).isNotNull())
        except AnalysisException as error:
            problem = str(error).split("\n")[0][:200]
            found.append(f"  {name}.{key} = {expression}: {problem}; columns are {', '.join(df.columns)}")
            continue
        plan: Any = seen._jdf.queryExecution().analyzed()
        if not plan.deterministic():
            found.append(
                f"  {name}.{key} = {expression}: calls what may answer otherwise the next time (rand, uuid, "
                "java_method, ...); write it with the columns alone"
            )
            continue
        if key == "where" and not isinstance(dtype, BooleanType):
            found.append(f"  {name}.where = {expression}: is {dtype.simpleString()}; write a condition")
        if key == "value" and question.measure in ("sum", "mean") and not isinstance(dtype, NumericType):
            found.append(f"  {name}.value = {expression}: is {dtype.simpleString()}; write a number")
    return found


def _unsearchable(spark: SparkSession, interests: Mapping[str, str]) -> list[str]:
    """Patterns that Java, which searches for them, does not take."""
    java: Any = spark.sparkContext._jvm
    found = []
    for name, pattern in interests.items():
        try:
            java.java.util.regex.Pattern.compile(pattern)
        except IllegalArgumentException as error:
            problem = str(error).splitlines()[0]
            found.append(f"  interests.{name} = {pattern}: no regular expression ({problem})")
    return found


def _source_values(
    df: DataFrame,
    source: EventSource,
    questions: Sequence[Question],
    interests: Mapping[str, str],
    cut_offs: Sequence[date],
    end: date,
) -> DataFrame:
    """One grouping of a source: every question's value per user and cut-off."""
    named = " ".join(part for q in questions for part in (q.where, q.value) if part)
    judged = source_tables.validated_events(df, source)
    columns = [column for column in df.columns if column.lower() in named.lower()]  # SQL's names have no case
    past = max([q.span for q in questions if not q.future], default=0)
    ahead = max([q.span for q in questions if q.future], default=0)
    search = bool(interests and re.search(rf"\b{INTEREST}\b", named.lower())) and not _has(df, INTEREST)
    since = cut_offs[0] - timedelta(days=past) if search else None
    good = source_tables.event_rows(judged, source, end, columns, texts_since=since).where(
        F.col("__rejected").isNull() & ~F.col("__repeated") & (F.col("__time") < midnight_column(end))
    )
    if search:
        good = good.join(_interests(good, interests), "__text", "left")
    rows = good.withColumn("as_of", F.explode(F.array(*[midnight_column(c) for c in cut_offs])))
    away = F.unix_micros("__time") - F.unix_micros("as_of")
    rows = rows.where((away >= -past * DAY_MICROS) & (away < ahead * DAY_MICROS))
    # Whole days from the cut-off, rounded down: -1 is the day before it, 0 the day after its midnight.
    rows = rows.withColumn("__day", F.call_function("div", away - F.pmod(away, F.lit(DAY_MICROS)), F.lit(DAY_MICROS)))
    rows = _with_times(rows, F.col("__time"))
    # Questions share what they ask after: its words are made once.
    ranked = dict.fromkeys(str(q.value) for q in questions if q.measure in ("top", "distinct"))
    said = {value: f"__said_{number}" for number, value in enumerate(ranked)}
    rows = rows.withColumns({name: _words(value) for value, name in said.items()})
    top = [q for q in questions if q.measure == "top"]
    # A grouping needs one aggregate at least, and all questions may be about the commonest values.
    aggregates = [
        F.count(F.lit(1)).alias("__events"),
        *[_value(q, said).alias(q.name) for q in questions if q not in top],
    ]
    values = rows.groupBy(F.col("__user").alias("user_id"), "as_of").agg(*aggregates).drop("__events")
    return values.join(_commonest(rows, top, said), ["user_id", "as_of"], "left") if top else values


def _inside(question: Question) -> Column:
    """Whether an event is one that the question asks about."""
    return _window(question) & F.expr(question.where) if question.where else _window(question)


def _window(question: Question) -> Column:
    day = F.col("__day")
    return (day >= 0) & (day < question.span) if question.future else (day < 0) & (day >= -question.span)


def _value(question: Question, said: Mapping[str, str]) -> Column:
    """The measure as an aggregate over a user's events near a cut-off; `said` has the column of a value's words."""
    inside, time, measure = _inside(question), F.col("__time"), question.measure
    if measure == "count":
        return F.count_if(inside)
    if measure == "share":
        return F.try_divide(F.count_if(inside) * 100.0, F.count_if(_window(question)))
    if measure == "recency":
        return whole_days(F.max(F.when(inside, time)), F.col("as_of"))
    if measure == "days_until":
        return whole_days(F.col("as_of"), F.min(F.when(inside, time)))
    if measure == "distinct":
        return F.size(F.collect_set(F.when(inside, F.col(said[str(question.value)]))))
    number = F.expr(str(question.value)).cast("double")
    # Exact decimals: a sum must not depend on the order of rows.
    exact = F.when(inside & ~F.isnan(number), number.try_cast(EXACT))
    total = F.try_sum(exact).cast("double")
    return total if measure == "sum" else F.try_divide(total, F.count(exact))


def _words(expression: str) -> Column:
    """The event's value as a text, null where there is none."""
    return templates.words(F.expr(expression), 100)


def _commonest(rows: DataFrame, questions: Sequence[Question], said: Mapping[str, str]) -> DataFrame:
    """Each question's commonest texts per user and cut-off, the most frequent first; ties in alphabetical order.

    Counted by groups of rows, for comparing the elements of a list with one another takes their square.
    """
    asked = F.array(
        *[
            F.struct(F.lit(q.name).alias("question"), F.when(_inside(q), F.col(said[str(q.value)])).alias("words"))
            for q in questions
        ]
    )
    said_rows = rows.select(F.col("__user").alias("user_id"), "as_of", F.inline(asked)).where("words IS NOT NULL")
    counted = said_rows.groupBy("user_id", "as_of", "question", "words").agg(F.count(F.lit(1)).alias("n"))
    ranked = F.struct((-F.col("n")).alias("n"), "words")
    return counted.groupBy("user_id", "as_of").agg(
        *[
            F.slice(F.sort_array(F.collect_list(F.when(F.col("question") == q.name, ranked))), 1, q.top)["words"].alias(
                q.name
            )
            for q in questions
        ]
    )


def _with_times(df: DataFrame, time: Column) -> DataFrame:
    """Beside the source's own columns, which come first where names are equal, what its events' times say."""
    return df.withColumns({name: words(time) for name, words in TIMES.items() if not _has(df, name)})


def _has(df: DataFrame, name: str) -> bool:
    return name in {column.lower() for column in df.columns}  # Spark's names have no case


def _interests(events: DataFrame, interests: Mapping[str, str]) -> DataFrame:
    """What each distinct text is about: texts repeat, and hundreds of words are searched for in each."""
    about = F.coalesce(*[F.when(F.col("__text").rlike(f"(?iu){pattern}"), name) for name, pattern in interests.items()])
    # Without a filter after it: Spark would move that, and the search with it, to before the texts are made distinct.
    return events.select("__text").distinct().withColumn(INTEREST, about)
