"""What every command shares: its options, and how it reads the deployment file, tells its steps and shows what came.

Nothing heavy is imported before a command runs: `--help` is there at once.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.config.deployment import Deployment


def day(given: datetime | None) -> datetime | None:
    """A day that the tables can hold, or a refusal."""
    from jobs.config.sections import FIRST_DAY, LAST_DAY

    if given is not None and not FIRST_DAY <= given.date() <= LAST_DAY:
        raise typer.BadParameter(f"{given:%Y-%m-%d} is no day from {FIRST_DAY} to {LAST_DAY}")
    return given


Config = Annotated[Path, typer.Option("--config", "-c", envvar="INSTRUCTUE_CONFIG", help="The deployment file.")]
SourceVersions = Annotated[
    bool,
    typer.Option("--source-versions", help="Read each source as it was when this was run last, to repeat that run."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object a line, for a program to read.")]
DEFAULT_CONFIG = Path("conf/demo.yaml")


def read(config: Path) -> Deployment:
    """The deployment file, checked."""
    from jobs.config.deployment import Deployment

    return Deployment.read(config)


def spark_session(deployment: Deployment) -> AbstractContextManager[SparkSession]:
    """A session for one command."""
    from jobs.lake.session import open_session

    return open_session(deployment, step("starting Spark"))


def step(name: str) -> Any:
    """Show that a step is running."""
    from jobs.console.progress import step

    return step(name)


def show(title: str, summary: Any, as_json: bool) -> None:
    """What a job came to, as a table or as JSON."""
    from jobs.console.output import print_summary

    print_summary(title, summary, as_json)
