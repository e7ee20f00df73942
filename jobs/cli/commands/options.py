"""Helpers of all commands: options, the deployment file, sessions, steps and results.

Heavy packages are imported inside functions, so that `--help` answers at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.config.deployment import Deployment
    from model.progress import Progress


def _day(value: datetime | None) -> datetime | None:
    """Return a day that the tables can hold; any other is a usage error."""
    from jobs.config.fields import FIRST_DAY, LAST_DAY

    if value is not None and not FIRST_DAY <= value.date() <= LAST_DAY:
        raise typer.BadParameter(f"{value:%Y-%m-%d} is no day from {FIRST_DAY} to {LAST_DAY}")
    return value


def day_option(name: str, help: str, **more: Any) -> Any:
    """Return an option whose value is a day, written as 2026-01-31."""
    return typer.Option(name, formats=["%Y-%m-%d"], metavar="YYYY-MM-DD", callback=_day, help=help, **more)


Config = Annotated[
    Path,
    typer.Option("--config", "-c", envvar="INSTRUCTUE_CONFIG", help="The deployment file: lake, sources, scenarios."),
]
SourceVersions = Annotated[
    bool,
    typer.Option(
        "--source-versions",
        help="Read the Delta versions of the source tables that the last run of the same day read, which repeats it.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object a line.")]
DEFAULT_CONFIG = Path("conf/demo.yaml")


def read(config: Path) -> Deployment:
    """Read and validate the deployment file."""
    from jobs.config.deployment import Deployment

    return Deployment.read(config)


def spark_session(deployment: Deployment) -> AbstractContextManager[SparkSession]:
    """Open a session for one command."""
    from jobs.lake.session import open_session

    return open_session(deployment, step("start Spark"))


def step(name: str) -> AbstractContextManager[Progress]:
    """Show that a step is running."""
    from jobs.console.progress import step

    return step(name)


def show(title: str, summary: Any, as_json: bool) -> None:
    """Print the result of a job, as a table or as JSON."""
    from jobs.console.output import print_summary

    print_summary(title, summary, as_json)


def print_json(rows: Iterable[Any]) -> None:
    """Print one JSON object a line."""
    from jobs.console.output import to_json_line

    for row in rows:
        print(to_json_line(row))


def print_page(page: Any) -> None:
    """Print a page on stdout."""
    from jobs.console.terminal import out

    out.print(page)
