"""Commands on data: a made-up company, a look at the tables, questions and answers for training."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.commands.options import DEFAULT_CONFIG, Config, Json, SourceVersions, day, read, show, spark_session, step

if TYPE_CHECKING:
    from jobs.config.deployment import Deployment

FirstDay = Annotated[
    datetime,
    typer.Option(
        "--as-of",
        formats=["%Y-%m-%d"],
        metavar="YYYY-MM-DD",
        callback=day,
        show_default="2026-01-01",
        help="Rows that arrived before its midnight.",
    ),
]


def generate(
    config: Config = DEFAULT_CONFIG,
    as_of: FirstDay = datetime(2026, 1, 1),
    users: Annotated[int, typer.Option(min=100, help="How many users the company has.")] = 2000,
    seed: Annotated[int, typer.Option(help="Another seed makes another company.")] = 0,
    changed_share: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of users whose profile changes on the day after the first."),
    ] = 0.05,
    json: Json = False,
) -> None:
    """Make the source tables of a made-up company, as they had arrived before a day.

    [dim]instructue generate --users 300 --as-of 2026-01-01[/]
    """
    from jobs.synthetic.generate import generate as job

    deployment = read(config)
    with step(f"generate {as_of:%Y-%m-%d}"):
        summary = job(deployment, as_of.date(), users=users, seed=seed, changed_share=changed_share)
    show(f"generate {as_of:%Y-%m-%d}", summary, json)


def check(
    config: Config = DEFAULT_CONFIG,
    as_of: Annotated[
        datetime | None,
        typer.Option(
            "--as-of",
            formats=["%Y-%m-%d"],
            metavar="YYYY-MM-DD",
            callback=day,
            help="The day; by default the one after the newest event before today, UTC.",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object with everything.")] = False,
) -> None:
    """Say what the tables hold, where their rows go and what each day will cost; nothing is changed.

    [dim]instructue check --config conf/yours.yaml[/]
    """
    from jobs.config.log_store import require_safe_log_store

    deployment = read(config)
    require_safe_log_store(deployment)
    with spark_session(_without_metastore(deployment)) as spark:
        from jobs.console.spark_progress import watch_spark
        from jobs.operations.check import check as job

        with step("check") as progress, watch_spark(spark, progress):
            summary = job(spark, deployment, as_of.date() if as_of else None)
    if json:
        show("check", summary, json)
        return
    from jobs.cli.pages.check import check_page
    from jobs.console.terminal import out

    out.print(check_page(summary))


def userqa(config: Config = DEFAULT_CONFIG, source_versions: SourceVersions = False, json: Json = False) -> None:
    """Ask the questions of the questions file about every user: training_profiles and userqa, what training reads.

    [dim]instructue userqa --json[/]
    """
    deployment = read(config)
    with spark_session(deployment) as spark:
        from jobs.console.spark_progress import watch_spark
        from jobs.userqa.userqa import userqa as job

        with step("userqa") as progress, watch_spark(spark, progress):
            summary = job(spark, deployment, source_versions=source_versions)
    show("userqa", summary, json)


def _without_metastore(deployment: Deployment) -> Deployment:
    """For a command that changes nothing: a session brings the metastore up to date."""
    return deployment.model_copy(update={"spark": deployment.spark.model_copy(update={"metastore": None})})
