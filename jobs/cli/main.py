"""The command line: a command for each job, called in the same way from a shell and from Airflow.

For example: `instructue assemble --config conf/demo.yaml --as-of 2026-01-02`.
"""

from __future__ import annotations

import os
from enum import StrEnum
from typing import Annotated, NoReturn

import typer

from jobs.cli.commands import answers, daily, data, evaluation, model
from jobs.cli.exit_codes import run


class LogLevel(StrEnum):
    """Levels of `logging`, by name."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="User embeddings that follow an instruction: from Delta tables to an online lookup.",
)


@app.callback()
def configure_logging(
    log_level: Annotated[
        LogLevel,
        typer.Option(
            envvar="INSTRUCTUE_LOG_LEVEL", case_sensitive=False, help="The lowest level of the log on stderr."
        ),
    ] = LogLevel.INFO,
    log_json: Annotated[
        bool,
        typer.Option(
            "--log-json", envvar="INSTRUCTUE_LOG_JSON", help="Write the log on stderr as one JSON object a line."
        ),
    ] = False,
) -> None:
    """Set up the logging of the command; with torchrun, only the first process logs below WARNING."""
    from jobs.console import logs

    first = os.environ.get("RANK", "0") == "0"
    level = log_level if first or log_level == LogLevel.ERROR else LogLevel.WARNING
    logs.configure(level, as_json=log_json)


for panel, commands in (
    ("Data", (data.generate, data.check, data.userqa)),
    ("The model", (model.train, model.export, model.tune, evaluation.evaluate, model.promote)),
    ("Every day", (daily.assemble, daily.embed, daily.publish, daily.maintain)),
    ("Answers", (answers.lookup, answers.ask, answers.rank, answers.sql)),
):
    for command in commands:
        app.command(rich_help_panel=panel)(command)


def main() -> NoReturn:
    """Run the command `instructue`."""
    run(app)


if __name__ == "__main__":
    main()
