"""Commands on data: a made-up company, a check of the tables, questions and answers for training."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.commands.options import (
    DEFAULT_CONFIG,
    Config,
    Json,
    SourceVersions,
    day_option,
    print_page,
    read,
    show,
    spark_session,
    step,
)

if TYPE_CHECKING:
    from jobs.config.deployment import Deployment


def generate(
    config: Config = DEFAULT_CONFIG,
    as_of: Annotated[
        datetime,
        day_option("--as-of", "The day: rows that arrive before its midnight in UTC.", show_default="2026-01-01"),
    ] = datetime(2026, 1, 1),
    users: Annotated[int, typer.Option(min=100, help="The number of users.")] = 2000,
    seed: Annotated[int, typer.Option(help="The random seed; another one makes another company.")] = 0,
    json: Json = False,
) -> None:
    """Write the source tables of a made-up company, as they are on a day.

    [dim]instructue generate --users 300 --as-of 2026-01-01[/]
    """
    from jobs.synthetic.generate import generate as job

    deployment = read(config)
    with step(f"generate {as_of:%Y-%m-%d}"):
        summary = job(deployment, as_of.date(), users=users, seed=seed)
    show(f"generate {as_of:%Y-%m-%d}", summary, json)


def check(
    config: Config = DEFAULT_CONFIG,
    as_of: Annotated[
        datetime | None,
        day_option(
            "--as-of",
            "The day: events before its midnight in UTC are read.",
            show_default="the day after the newest event before today",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Report the contents of the tables, the account of their rows, the questions and a day's cost; write nothing.

    [dim]instructue check --config conf/yours.yaml[/]
    """
    from jobs.config.log_store import require_safe_log_store

    deployment = read(config)
    require_safe_log_store(deployment)
    _read_questions(deployment)
    with spark_session(_without_metastore(deployment)) as spark:
        from jobs.console.spark_progress import watch_spark
        from jobs.operations.check import check as job

        with step("check") as progress, watch_spark(spark, progress):
            summary = job(spark, deployment, as_of.date() if as_of else None)
    if json:
        show("check", summary, json)
        return
    from jobs.cli.pages.check import check_page

    print_page(check_page(summary))


def userqa(config: Config = DEFAULT_CONFIG, source_versions: SourceVersions = False, json: Json = False) -> None:
    """Write training_profiles and userqa: profiles at the cut-offs, and the answers to the questions about each user.

    `train` reads both tables. The deployment file names the questions file and the cut-offs.

    [dim]instructue userqa --json[/]
    """
    deployment = read(config)
    _read_questions(deployment)
    with spark_session(deployment) as spark:
        from jobs.console.spark_progress import watch_spark
        from jobs.userqa.userqa import userqa as job

        with step("userqa") as progress, watch_spark(spark, progress):
            summary = job(spark, deployment, source_versions=source_versions)
    show("userqa", summary, json)


def _read_questions(deployment: Deployment) -> None:
    """Raise QuestionError for a wrong questions file, before Spark starts; the job reads it again."""
    from jobs.userqa.questions import Questions

    Questions.read(deployment.resolve(deployment.userqa.questions))


def _without_metastore(deployment: Deployment) -> Deployment:
    """Return the deployment without its metastore, which a session would bring up to date."""
    return deployment.model_copy(update={"spark": deployment.spark.model_copy(update={"metastore": None})})
