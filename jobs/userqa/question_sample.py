"""The questions of a file asked of a sample of the users, because some errors appear only when a query runs.

A text that is no number, a division by zero, a regular expression of an SQL string or a path in JSON is valid to
Spark until it reads a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.config.deployment import Deployment
from jobs.console.text import list_errors
from jobs.lake.error_text import error_reason
from jobs.profiles.build import build_profiles
from jobs.profiles.validation import validate_sources
from jobs.userqa.pairs import Spread, answer_spreads, question_pairs
from jobs.userqa.question import Question
from jobs.userqa.question_events import Span
from jobs.userqa.question_values import question_values
from jobs.userqa.questions import QuestionError, Questions

FAILURES = (PySparkException, Py4JJavaError)
"""Errors of a query; Spark does not turn those of a broadcast into its own."""
SAMPLE_USERS = 500
"""About so many users are asked; a smaller company's are all asked."""


@dataclass(frozen=True, kw_only=True)
class QuestionSample:
    """The answers of a sample of the users at the cut-offs."""

    profiles: int
    """Profiles of the sampled users, over all cut-offs."""
    part: int
    """One user of so many was asked."""
    questions: dict[str, Spread]
    """Of each question, and of the descriptions under `general`."""

    @property
    def spreads(self) -> dict[str, Spread]:
        """The spread of each question."""
        return {name: spread for name, spread in self.questions.items() if name != "general"}


def sample_questions(
    deployment: Deployment,
    questions: Questions,
    opened: Mapping[str, DataFrame],
    span: Span,
    users: int,
    clock: datetime | None = None,
) -> QuestionSample:
    """Ask every question of about `SAMPLE_USERS` of the company's `users`, by a hash of the user.

    Raises
    ------
    QuestionError
        Queries fail when they run: a line for each question of which one does.
    """
    part = max(1, users // SAMPLE_USERS)
    sampled = _of_sampled_users(deployment, opened, part)
    with ExitStack() as cached:
        profiles = build_profiles(deployment, sampled, span.cut_offs, clock)
        cached.callback(profiles.release)
        try:
            values = question_values(deployment, questions, sampled, profiles.rows, span).cache()
            cached.callback(values.unpersist)
            pairs = question_pairs(questions, values, deployment.userqa.validation_share)
            spreads = answer_spreads(questions, pairs)
        except FAILURES:
            if errors := _failing_questions(deployment, questions, sampled, profiles.rows, span):
                raise QuestionError(list_errors(deployment.resolve(deployment.userqa.questions), errors)) from None
            raise
    count = sum(at.users for at in profiles.totals.values())
    return QuestionSample(profiles=count, part=part, questions=spreads)


def _of_sampled_users(deployment: Deployment, opened: Mapping[str, DataFrame], part: int) -> dict[str, DataFrame]:
    """Return the source tables' rows of one user of `part`, of the same users in each table."""
    chosen = F.pmod(F.xxhash64("__user"), F.lit(part)) == 0
    validated = validate_sources(deployment, opened)
    return {
        name: rows.where(chosen).drop(*[column for column in rows.columns if column not in opened[name].columns])
        for name, rows in validated.items()
    }


def _failing_questions(
    deployment: Deployment, questions: Questions, sampled: Mapping[str, DataFrame], users: DataFrame, span: Span
) -> list[str]:
    """Return a line for each question whose values cannot be computed, found by asking each one alone."""
    errors = []
    for question in questions.questions:
        if question.tabular:
            continue
        alone = questions.model_copy(update={"questions": (question,), "general": ()})
        try:
            question_values(deployment, alone, sampled, users, span).write.format("noop").mode("overwrite").save()
        except FAILURES as error:
            errors.append(
                f"  {question.name}.{_expressions(question)}: fails on a row: {_first_line(error)}; "
                "write it so that such a row gives null (try_cast, try_divide, ...)"
            )
    return errors


def _expressions(question: Question) -> str:
    given = {"where": question.where, "value": question.value}
    return ", ".join(f"{key} = {expression}" for key, expression in given.items() if expression)


def _first_line(error: BaseException) -> str:
    return (error_reason(error).splitlines() or [type(error).__name__])[0][:300]
