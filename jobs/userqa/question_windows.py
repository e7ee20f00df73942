"""The check of a questions file against the tables: expressions, columns, and the windows of future questions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from typing import cast

from pyspark.sql import DataFrame, SparkSession

from jobs.config.company_table import Labels
from jobs.config.deployment import Deployment
from jobs.console.text import list_errors
from jobs.lake.delta import MissingTableError
from jobs.lake.errors import TableError
from jobs.training.label_tables import LabelError
from jobs.training.labels import first_as_of
from jobs.userqa.question_errors import question_errors
from jobs.userqa.question_events import Span
from jobs.userqa.questions import QuestionError, Questions


def check_questions(
    spark: SparkSession,
    deployment: Deployment,
    questions: Questions,
    opened: Mapping[str, DataFrame],
    first_label: date | None,
) -> Span:
    """Return the cut-offs and the day before which a question reads events.

    Raises
    ------
    QuestionError
        The questions do not fit the tables, or a window ends after `first_label`; all errors at once.
    """
    cut_offs = sorted(set(deployment.userqa.as_of))
    windows = [*_future_windows(questions, cut_offs)]
    errors = question_errors(spark, deployment, questions, opened)
    if first_label:
        errors += [
            f"  {name}.days = {days}: asked as of {cut_off}, its window ends on {end}, after the earliest label's "
            f"as_of {first_label}; shorten it, or name an earlier `last_as_of`"
            for name, days, cut_off, end in windows
            # A cut-off after the label is an error of its own.
            if cut_off <= first_label < end
        ]
        if cut_offs[-1] > first_label:
            errors.append(
                f"  userqa.as_of = {cut_offs[-1]}: after the earliest label's as_of {first_label}; name earlier "
                "cut-offs"
            )
    if errors:
        raise QuestionError(list_errors(deployment.resolve(deployment.userqa.questions), errors))
    return Span(cut_offs=cut_offs, end=max([*cut_offs, *(end for *_, end in windows)]))


def _future_windows(questions: Questions, cut_offs: list[date]) -> Iterator[tuple[str, int, date, date]]:
    """Yield the name, the days, the cut-off and the end of each window of a future question."""
    for question in questions.questions:
        for cut_off in cut_offs:
            if question.future and (question.last_as_of is None or cut_off <= question.last_as_of):
                yield question.name, question.span, cut_off, cut_off + timedelta(days=question.span)


def first_label(deployment: Deployment, spark: SparkSession, versions: dict[str, int]) -> date | None:
    """Return the earliest as_of of the scenarios' tables of labels, None without labels, and note their `versions`.

    Raises
    ------
    TableError
        A table does not exist, or its columns or times cannot be read; the message names all such tables.
    """
    firsts, errors = [], []
    tables = {repr(scenario.labels): scenario for scenario in reversed(deployment.scenarios) if scenario.labels}
    for scenario in tables.values():
        section = cast(Labels, scenario.labels)
        name = section.table
        try:
            first, version = first_as_of(deployment, section, spark)
        except MissingTableError:
            errors.append(
                f"  scenarios.{scenario.name}.labels = {name}: there is no Delta table at {deployment.table(name)}; "
                "write it first, because no question may read events after a label's as_of, "
                "or remove the key until there are labels"
            )
            continue
        except LabelError as error:
            errors += [f"  scenarios.{scenario.name}.labels = {name}: {line}" for line in str(error).splitlines()]
            continue
        versions |= {name: version} if version is not None else {}
        firsts += [first.date()] if first else []
    if errors:
        raise TableError(list_errors(deployment.path, errors))
    return min(firsts, default=None)
