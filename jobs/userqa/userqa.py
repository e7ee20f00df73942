"""UserQA, the training data: profiles at earlier cut-offs, and questions about each user with their answers.

The job writes two tables: `training_profiles`, every user's profile at each cut-off of `userqa.as_of`, and `userqa`,
the question-answer pairs. An attribute is measured before the cut-off and a future from it on. Every future window ends
at or before the earliest label's as_of; of the tables of labels, only that date is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import date

from pyspark.sql import SparkSession

from jobs.config.deployment import Deployment
from jobs.lake.handoff import UserQAHandoff
from jobs.lake.spark_tables import JobRun, job_run
from jobs.profiles.assemble import check_reject_share, note_static
from jobs.profiles.build import build_profiles
from jobs.profiles.row_account import Totals
from jobs.profiles.source_tables import open_sources
from jobs.userqa.answer_sample import question_aucs, useless_questions
from jobs.userqa.pairs import Spread, answer_spreads, question_pairs
from jobs.userqa.question_values import question_values
from jobs.userqa.question_windows import check_questions, first_label
from jobs.userqa.questions import Questions

PROFILES, PAIRS = "training_profiles", "userqa"


@dataclass(frozen=True, kw_only=True)
class UserQAResult:
    """The result of one run of userqa."""

    as_of: tuple[date, ...]
    profiles: int
    pairs: int
    replaced: int
    """Days of the two tables that were written; the others held the same rows."""
    warning: str | None
    """The questions that are of no use to train on."""
    questions: dict[str, Spread]
    seconds: float


def userqa(spark: SparkSession, deployment: Deployment, *, source_versions: bool = False) -> UserQAResult:
    """Replace `training_profiles` and `userqa` at every cut-off, and remove their rows of other cut-offs.

    The run is recorded in `job_runs` under the last cut-off. With `source_versions`, each source is read at the
    version that the last such run read, not at its newest.

    Raises
    ------
    QuestionError
        The questions do not fit the tables or the labels.
    TableError
        A scenario names a table of labels that does not exist or whose columns or times cannot be read, or no run
        noted the versions to read.
    SourceError
        Source tables or columns are missing or mistyped, or too many rows of a source were rejected.
    """
    questions = Questions.read(deployment.resolve(deployment.userqa.questions))
    cut_offs = sorted(set(deployment.userqa.as_of))
    with job_run(spark, deployment, "userqa", cut_offs[-1]) as run:
        run.handoff = UserQAHandoff(vector_spec=deployment.vector_spec())
        if source_versions:
            run.pin(deployment.source_tables)
        opened = open_sources(deployment, run.read)
        span = check_questions(spark, deployment, questions, opened, first_label(deployment, spark, run.versions))
        with ExitStack() as cached:
            profiles = build_profiles(deployment, opened, cut_offs, run.started_at)
            cached.callback(profiles.release)
            _record_accounts(run, profiles.totals)
            replaced = run.replace_table(profiles.rows, PROFILES, cut_offs)
            values = question_values(deployment, questions, opened, profiles.rows, span).cache()
            cached.callback(values.unpersist)
            # The sentences, the largest plan, are computed once to compare, write and count them.
            pairs = question_pairs(questions, values, deployment.userqa.validation_share).cache()
            cached.callback(pairs.unpersist)
            replaced += run.replace_table(pairs, PAIRS, cut_offs)
            spreads = answer_spreads(questions, pairs)
            count = sum(at.users for at in profiles.totals.values())
            aucs = question_aucs(deployment, profiles.rows, pairs, count)
            spreads = {name: replace(spread, auc=aucs.get(name)) for name, spread in spreads.items()}
        run.rows_out = sum(spread.rows for spread in spreads.values())
        run.details["questions"] = {name: asdict(spread) for name, spread in spreads.items()}
        return UserQAResult(
            as_of=tuple(cut_offs),
            profiles=count,
            pairs=run.rows_out,
            replaced=replaced,
            warning=useless_questions(spreads),
            questions=spreads,
            seconds=run.seconds(),
        )


def _record_accounts(run: JobRun, totals: Mapping[date, Totals]) -> None:
    """Record the account of every row at each cut-off; raise SourceError where too many rows were rejected.

    Each cut-off counts every row again.
    """
    run.rows_in = sum(account.rows_in for at in totals.values() for account in at.accounts.values())
    for cut_off, at in totals.items():
        for name, account in at.accounts.items():
            left_out = account.left_out() | {"rejected": account.rejected}
            run.left_out |= {f"{cut_off} {name}: {reason}": n for reason, n in left_out.items() if n}
    run.details |= {
        "accounts": {
            str(cut_off): {name: asdict(account) for name, account in at.accounts.items()}
            for cut_off, at in totals.items()
        },
        "aggregates": {str(cut_off): at.aggregate_rows for cut_off, at in totals.items()},
    }
    note_static(run)
    for at in totals.values():
        check_reject_share(run, at)
