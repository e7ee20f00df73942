"""The command line: each job as a command, the same call from the shell and from Airflow.

instructue assemble --config conf/demo.yaml --as-of 2026-01-02
"""

from __future__ import annotations

from typing import NoReturn

import typer

from jobs.cli.commands import answers, daily, data, model
from jobs.cli.exit_codes import run

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="User embeddings that follow an instruction: from Delta tables to an online lookup.",
)

for panel, commands in (
    ("Data", (data.generate, data.check, data.userqa)),
    ("The model", (model.train, model.export, model.tune, model.evaluate, model.promote)),
    ("Every day", (daily.assemble, daily.embed, daily.publish, daily.maintain)),
    ("Answers", (answers.lookup, answers.ask, answers.sql)),
):
    for command in commands:
        app.command(rich_help_panel=panel)(command)


def main() -> NoReturn:
    """The command `instructue`."""
    run(app)


if __name__ == "__main__":
    main()
