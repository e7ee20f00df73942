"""Errors of a questions file that only Spark and Java can find: expressions, types and regular expressions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pyspark.errors import IllegalArgumentException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.config.deployment import Deployment
from jobs.profiles.expressions import ExpressionKind, expression_problem, has_column
from jobs.userqa.question import ANY, FORMS, TABULAR, Question
from jobs.userqa.question_events import INTEREST
from jobs.userqa.questions import Questions


def question_errors(
    spark: SparkSession, deployment: Deployment, questions: Questions, opened: Mapping[str, DataFrame]
) -> list[str]:
    """Return a line for each place where a question or an interest does not fit the tables."""
    errors = []
    tables = opened
    if questions.interests:
        tables = {
            name: df if has_column(df, INTEREST) else df.withColumn(INTEREST, F.lit("")) for name, df in opened.items()
        }
    # Questions share expressions, and Spark takes a tenth of a second for one.
    problems: dict[tuple[str, str, ExpressionKind], str | None] = {}
    for question in questions.questions:
        if question.tabular:
            errors += _tabular_errors(question, deployment)
            continue
        known = [*(source.name for source in deployment.sources), ANY]
        if unknown := [name for name in question.source if name not in known]:
            names = ", ".join([*known, TABULAR])
            errors += [f"  {question.name}.source = {name}: no source; use one of {names}" for name in unknown]
            continue
        for source in deployment.sources:
            if question.reads(source.name):
                errors += _expression_errors(question, source.name, tables[source.name], problems)
    return [*errors, *_pattern_errors(spark, questions.interests)]


def _tabular_errors(question: Question, deployment: Deployment) -> list[str]:
    if question.value in deployment.numbers:
        if question.answer.numeric:
            return []
        return [f"  {question.name}.answer: {question.value} is a number; add one of {', '.join(FORMS)}"]
    if question.value in deployment.categories:
        if not question.answer.numeric:
            return []
        return [f"  {question.name}.answer: {question.value} is a category; remove {', '.join(FORMS)}"]
    columns = ", ".join([*deployment.numbers, *deployment.categories])
    return [f"  {question.name}.value = {question.value}: no tabular column; use one of {columns}"]


def _expression_errors(
    question: Question, source: str, df: DataFrame, problems: dict[tuple[str, str, ExpressionKind], str | None]
) -> Iterator[str]:
    """Yield the errors of a question's SQL expressions over the columns of a source; `problems` has those known."""
    value: ExpressionKind = "number" if question.kind.value == "number" else "text"
    expressions: list[tuple[str, str | None, ExpressionKind]] = [
        ("where", question.where, "condition"),
        ("value", question.value, value),
    ]
    for key, expression, kind in expressions:
        if expression is None:
            continue
        checked = (source, expression, kind)
        if checked not in problems:
            problems[checked] = expression_problem(df, expression, kind)
        if problem := problems[checked]:
            where = f" (source {source})" if len(question.source) > 1 or ANY in question.source else ""
            yield f"  {question.name}.{key} = {expression}: {problem}{where}"


def _pattern_errors(spark: SparkSession, interests: Mapping[str, str]) -> Iterator[str]:
    """Yield the errors of patterns that Java, which searches for them, does not accept."""
    java: Any = spark.sparkContext._jvm
    for name, pattern in interests.items():
        try:
            java.java.util.regex.Pattern.compile(pattern)
        except IllegalArgumentException as error:
            problem = str(error).splitlines()[0]
            yield f"  interests.{name} = {pattern}: no regular expression ({problem})"
