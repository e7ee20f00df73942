"""Commands that answer: vectors of users, words about them, rows of SQL."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs.cli.commands.options import DEFAULT_CONFIG, Config, day, read, show, spark_session, step


def lookup(
    users: Annotated[list[str], typer.Argument(help="User ids.", show_default=False)],
    config: Config = DEFAULT_CONFIG,
    scenario: Annotated[list[str] | None, typer.Option("--scenario", "-s", help="Only this; may be repeated.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object per user, with the whole vectors.")] = False,
) -> None:
    """Look users' vectors up in the online store, as a service does.

    [dim]instructue lookup u0000012 u0000034 --scenario food --json[/]
    """
    deployment = read(config)
    from jobs.serving.lookup import Lookup

    with step("opening the online store"):
        look_up = Lookup(deployment)
    begin = time.perf_counter()
    results = look_up(users, scenario or None)
    milliseconds = (time.perf_counter() - begin) * 1000

    if json:
        _print_json(results)
        return
    from jobs.cli.pages.lookup import lookup_page
    from jobs.console.terminal import out

    out.print(lookup_page(results, milliseconds))


def ask(
    instruction: Annotated[str, typer.Argument(help="What to tell of a user, in words.", show_default=False)],
    users: Annotated[list[str] | None, typer.Option("--user", "-u", help="A user id; may be repeated.")] = None,
    everybody: Annotated[bool, typer.Option("--all", help="Every user, into a Delta table instead.")] = False,
    table: Annotated[
        str | None,
        typer.Option(
            help="The table for --all: a name in the lake, or a path or URI. The "
            "same instruction and day replace their rows."
        ),
    ] = None,
    as_of: Annotated[
        datetime | None,
        typer.Option(
            "--as-of",
            formats=["%Y-%m-%d"],
            metavar="YYYY-MM-DD",
            callback=day,
            help="The day for --all; by default the last that was assembled.",
        ),
    ] = None,
    config: Config = DEFAULT_CONFIG,
    release: Annotated[
        Path | None, typer.Option(help="A release's name or folder; by default the current one.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object per user, with the whole embedding.")] = False,
) -> None:
    """Ask the model about users in words, of their latest profiles: its answer, and the embedding that goes with it.

    The release must have a decoder: `instructue export --decoder`, or `--instructions --decoder` for the one in use.

    [dim]instructue ask "Will this user order food next month?" --user u0000012[/]
    """
    if everybody == bool(users) or everybody != (table is not None) or (as_of and not everybody):
        raise typer.BadParameter(
            "give --user U, once for each, or --all with --table NAME (and --as-of)", param_hint="--user or --all"
        )
    deployment = read(config)
    if everybody:
        with step("asking") as progress:
            from jobs.serving.ask import ask_all

            summary = ask_all(
                deployment,
                instruction,
                str(table),
                as_of=as_of.date() if as_of else None,
                release=release,
                progress=progress,
            )
        show("ask", summary, json)
        return
    with step("asking"):
        from jobs.serving.ask import ask as job

        results = job(deployment, instruction, users or [], release=release)
    if json:
        _print_json(results)
        return
    from jobs.cli.pages.ask import ask_page
    from jobs.console.terminal import out

    out.print(ask_page(instruction, results))


def sql(
    query: Annotated[str, typer.Argument(help="One SQL statement; `-` reads it from standard input.")],
    config: Config = DEFAULT_CONFIG,
    limit: Annotated[int, typer.Option(min=1, help="How many rows of the answer to show as a table.")] = 20,
    json: Annotated[bool, typer.Option("--json", help="Every row, one JSON object a line.")] = False,
) -> None:
    """Ask the lake in SQL: its tables by name, and the views and functions of sql/.

    [dim]instructue sql "SELECT * FROM most_similar('u0000012', 'food', 5)"[/]
    """
    from jobs.console.tables import table
    from jobs.console.terminal import out

    deployment = read(config)
    statement = sys.stdin.read() if query == "-" else query
    with spark_session(deployment) as spark:
        from jobs.lake.sql.views import fetch_arrow, iterate_objects, iterate_rows
        from jobs.lake.sql.views import run_sql as ask

        with step("asking"):
            answer = ask(spark, deployment, statement)
            found: Any = iterate_objects(answer) if json else fetch_arrow(answer.limit(limit + 1))
    if json:
        _print_json(found)
        return
    out.print(table("", found.column_names, [*iterate_rows(found.slice(0, limit))]))
    if len(found) > limit:
        out.print(f"the first {limit} rows; --limit shows more, --json all", style="dim")


def _print_json(rows: Iterable[Any]) -> None:
    """One JSON object a line."""
    from jobs.console.output import to_json_line

    for row in rows:
        print(to_json_line(row))
