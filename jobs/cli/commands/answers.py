"""Commands that answer: vectors of users, answers in words, rows of SQL."""

from __future__ import annotations

import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs.cli.commands.options import (
    DEFAULT_CONFIG,
    Config,
    Json,
    day_option,
    print_json,
    print_page,
    read,
    show,
    spark_session,
    step,
)


def lookup(
    users: Annotated[list[str], typer.Argument(help="User ids.", show_default=False)],
    config: Config = DEFAULT_CONFIG,
    scenario: Annotated[
        list[str] | None,
        typer.Option("--scenario", "-s", help="Only this scenario; may be repeated.", show_default="all"),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per user, with whole vectors.")] = False,
) -> None:
    """Look up the vectors of users in the online store, as a service does.

    [dim]instructue lookup u0000012 u0000034 --scenario food --json[/]
    """
    deployment = read(config)
    from jobs.serving.lookup import Lookup

    with step("open the online store"):
        look_up = Lookup(deployment)
    begin = time.perf_counter()
    results = look_up(users, scenario or None)
    milliseconds = (time.perf_counter() - begin) * 1000
    if json:
        print_json(results)
        return
    from jobs.cli.pages.lookup import lookup_page

    print_page(lookup_page(results, milliseconds))


def ask(
    instruction: Annotated[str, typer.Argument(help="The instruction or question about a user.", show_default=False)],
    users: Annotated[list[str] | None, typer.Option("--user", "-u", help="A user id; may be repeated.")] = None,
    every_user: Annotated[
        bool, typer.Option("--all", help="Ask about every user, and write the answers to --table.")
    ] = False,
    table: Annotated[
        str | None,
        typer.Option(
            help="With --all: the Delta table to write, a name in the lake, a path or a URI. "
            "Rows of the same instruction and day are replaced."
        ),
    ] = None,
    as_of: Annotated[
        datetime | None,
        day_option("--as-of", "With --all: the day of the profiles.", show_default="the last day of user_profiles"),
    ] = None,
    config: Config = DEFAULT_CONFIG,
    release: Annotated[
        Path | None, typer.Option(help="The name or folder of a release.", show_default="the current release")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per user, with whole vectors.")] = False,
) -> None:
    """Ask the model about users, from their latest profiles: an answer in words and the embedding of the instruction.

    The release needs a decoder. `instructue export --decoder` makes such a release.
    `instructue export --instructions --decoder` adds one to the current release.

    [dim]instructue ask "Will this user order food next month?" --user u0000012[/]
    """
    if every_user == bool(users) or every_user != (table is not None) or (as_of and not every_user):
        raise typer.BadParameter(
            "give --user U, once for each, or --all with --table NAME (and --as-of)", param_hint="--user or --all"
        )
    deployment = read(config)
    if every_user:
        with step("ask") as progress:
            from jobs.serving.ask import ask_all

            day = as_of.date() if as_of else None
            summary = ask_all(deployment, instruction, str(table), as_of=day, release=release, progress=progress)
        show("ask", summary, json)
        return
    with step("ask"):
        from jobs.serving.ask import ask as job

        results = job(deployment, instruction, users or [], release=release)
    if json:
        print_json(results)
        return
    from jobs.cli.pages.ask import ask_page

    print_page(ask_page(instruction, results))


def rank(
    instruction: Annotated[str, typer.Argument(help="The question or instruction about a user.", show_default=False)],
    top: Annotated[int, typer.Option(min=1, help="The number of users to print.")] = 100,
    config: Config = DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """Rank all users by one sentence, from their stored universal vectors: no labels, and no profile is read.

    The score is the cosine of the vector and the sentence's own embedding. The current release needs a focus:
    `focus: universal` under model.network of the deployment file, set before training. The page also has the nearest
    question of the training, and a warning where none is near enough for the sentence to be understood.

    [dim]instructue rank "Will this user order food delivery often?" --top 20[/]
    """
    deployment = read(config)
    with spark_session(deployment) as spark, step("rank"):
        from jobs.serving.rank import rank as job

        result = job(spark, deployment, instruction, top=top)
    if json:
        print_json([result])
        return
    from jobs.cli.pages.rank import rank_page

    print_page(rank_page(result))


def sql(
    query: Annotated[str, typer.Argument(help="One SQL statement; `-` reads it from standard input.")],
    config: Config = DEFAULT_CONFIG,
    limit: Annotated[int, typer.Option(min=1, help="The number of rows to show; --json prints every row.")] = 20,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per row.")] = False,
) -> None:
    """Run SQL on the lake: its tables by name, and the views and functions that docs/tables.md lists.

    [dim]instructue sql "SELECT * FROM most_similar('u0000012', 'food', 5)"[/]
    """
    deployment = read(config)
    statement = sys.stdin.read() if query == "-" else query
    with spark_session(deployment) as spark:
        from jobs.lake.sql.query import fetch_arrow, iterate_objects, iterate_rows, run_sql

        with step("sql"):
            answer = run_sql(spark, deployment, statement)
            rows: Any = iterate_objects(answer) if json else fetch_arrow(answer.limit(limit + 1))
    if json:
        print_json(rows)
        return
    from jobs.console.tables import table
    from jobs.console.terminal import out

    out.print(table("", rows.column_names, [*iterate_rows(rows.slice(0, limit))]))
    if len(rows) > limit:
        out.print(f"the first {limit} rows; --limit shows more, --json prints all", style="dim")
