"""What every command shares: its options, and how it reads the deployment file, tells its steps and shows what came.

Nothing heavy is imported before a command runs: `--help` is there at once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
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
    """A line for a person while something takes its time."""
    from jobs.console.output import step

    return step(name)


@contextmanager
def records_shown() -> Iterator[None]:
    """Show the records of `model` and `jobs`, from level INFO on, while a command runs."""
    from jobs.console.output import err

    handler = logging.Handler(logging.INFO)
    handler.emit = lambda record: err.print(record.getMessage(), markup=False)  # type: ignore[method-assign]
    loggers = [logging.getLogger(name) for name in ("jobs", "model")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)


def show(title: str, summary: Any, as_json: bool) -> None:
    """What a job came to, as a table or as JSON."""
    from jobs.console.output import print_summary

    print_summary(title, summary, as_json)
