"""Commands of every day: from source tables to vectors online, and maintenance."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.cli.commands.options import (
    DEFAULT_CONFIG,
    Config,
    Json,
    SourceVersions,
    day_option,
    read,
    show,
    spark_session,
    step,
)

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.config.deployment import Deployment
    from model.progress import Progress

AsOf = Annotated[datetime, day_option("--as-of", "The day: events before its midnight in UTC are read.")]
Through = Annotated[
    datetime | None,
    day_option(
        "--through", "The last day: run every day from --as-of to this one, oldest first.", show_default="--as-of"
    ),
]


def assemble(
    as_of: AsOf,
    config: Config = DEFAULT_CONFIG,
    through: Through = None,
    source_versions: SourceVersions = False,
    json: Json = False,
) -> None:
    """Update user_profiles: write a row for each user whose profile has changed since the day before.

    [dim]instructue assemble --as-of 2026-01-01 --through 2026-01-07[/]
    """

    def job(spark: SparkSession, deployment: Deployment, day: date, progress: Progress) -> Any:
        from jobs.console.spark_progress import watch_spark
        from jobs.profiles.assemble import assemble

        with watch_spark(spark, progress):
            return assemble(spark, deployment, day, source_versions=source_versions)

    _run_days("assemble", job, config, as_of, through, json)


def embed(
    as_of: AsOf,
    config: Config = DEFAULT_CONFIG,
    through: Through = None,
    release: Annotated[
        Path | None, typer.Option(help="The name or folder of a release.", show_default="the current release")
    ] = None,
    json: Json = False,
) -> None:
    """Update user_embeddings: embed each user whose profile, instruction or model has changed, in every scenario.

    [dim]instructue embed --as-of 2026-01-02[/]
    """

    def job(spark: SparkSession, deployment: Deployment, day: date, progress: Progress) -> Any:
        from jobs.console.spark_progress import watch_spark
        from jobs.serving.embed import embed

        with watch_spark(spark, progress):
            return embed(spark, deployment, day, release)

    _run_days("embed", job, config, as_of, through, json)


def publish(as_of: AsOf, config: Config = DEFAULT_CONFIG, through: Through = None, json: Json = False) -> None:
    """Write the day's user_vectors, and bring the online store to the latest row of every user.

    [dim]instructue publish --as-of 2026-01-02[/]
    """

    def job(spark: SparkSession, deployment: Deployment, day: date, progress: Progress) -> Any:
        from jobs.serving.publish import publish

        return publish(spark, deployment, day, progress)

    _run_days("publish", job, config, as_of, through, json)


def maintain(config: Config = DEFAULT_CONFIG, json: Json = False) -> None:
    """Keep the project's tables small: remove superseded rows and old versions, merge small files.

    The section `retention` of the deployment file says how long each is kept.

    [dim]instructue maintain --config conf/demo.yaml[/]
    """
    from jobs.operations.maintain import maintain as job

    deployment = read(config)
    with step("maintain"):
        summary = job(lambda: spark_session(deployment), deployment)
    show("maintain", summary, json)


def _run_days(
    name: str,
    job: Callable[[SparkSession, Deployment, date, Progress], Any],
    config: Path,
    as_of: datetime,
    through: datetime | None,
    json: bool,
) -> None:
    """Run a job for each day, oldest first, in one session."""
    last = through or as_of
    if last < as_of:
        raise typer.BadParameter(f"{last:%Y-%m-%d} is before --as-of {as_of:%Y-%m-%d}", param_hint="--through")
    deployment = read(config)
    with spark_session(deployment) as spark:
        for number in range((last - as_of).days + 1):
            day = as_of.date() + timedelta(days=number)
            with step(f"{name} {day}") as progress:
                summary = job(spark, deployment, day, progress)
            show(f"{name} {day}", summary, json)
