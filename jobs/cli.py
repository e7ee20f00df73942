"""The command line: each job as a command, the same call from the shell and from Airflow.

    instructue assemble --config conf/demo.yaml --as-of 2026-01-02
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from jobs.exits import run

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.deployment import Deployment
    from jobs.report import Told

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich",
                  context_settings={"help_option_names": ["-h", "--help"]},
                  help="User embeddings that follow an instruction: from Delta tables to an online lookup.")

DATA, MODEL, DAILY, ANSWERS = "Data", "The model", "Every day", "Answers"


def _day(given: datetime | None) -> datetime | None:
    from jobs.blocks import FIRST_DAY, LAST_DAY

    if given is not None and not FIRST_DAY <= given.date() <= LAST_DAY:
        raise typer.BadParameter(f"{given:%Y-%m-%d} is no day from {FIRST_DAY} to {LAST_DAY}")
    return given


Config = Annotated[Path, typer.Option("--config", "-c", envvar="INSTRUCTUE_CONFIG", help="The deployment file.")]
AsOf = Annotated[datetime, typer.Option("--as-of", formats=["%Y-%m-%d"], metavar="YYYY-MM-DD", callback=_day,
                                        help="The day: events before its midnight, UTC.")]
FirstDay = Annotated[datetime, typer.Option("--as-of", formats=["%Y-%m-%d"], metavar="YYYY-MM-DD", callback=_day,
                                            show_default="2026-01-01", help="Rows that arrived before its midnight.")]
Through = Annotated[datetime | None, typer.Option("--through", formats=["%Y-%m-%d"], metavar="YYYY-MM-DD",
                                                  callback=_day,
                                                  help="Run each day from --as-of to this one, oldest first.")]
SourceVersions = Annotated[bool, typer.Option("--source-versions", help="Read each source as it was when this was run "
                                              "last, to repeat that run.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object a line, for a program to read.")]
DEFAULT_CONFIG = Path("conf/demo.yaml")


@app.command(rich_help_panel=DATA)
def generate(
    config: Config = DEFAULT_CONFIG,
    as_of: FirstDay = datetime(2026, 1, 1),
    users: Annotated[int, typer.Option(min=100, help="How many users the company has.")] = 2000,
    seed: Annotated[int, typer.Option(help="Another seed makes another company.")] = 0,
    changed_share: Annotated[float | None, typer.Option(
        min=0, max=1, help="Share of users whose profile changes on the day after the first.")] = 0.05,
    json: Json = False,
) -> None:
    """Make the source tables of a made-up company, as they had arrived before a day.

    [dim]instructue generate --users 300 --as-of 2026-01-01[/]
    """
    from jobs.generate import generate as job

    deployment = _read(config)
    with _step(f"generate {as_of:%Y-%m-%d}"):
        summary = job(deployment, as_of.date(), users=users, seed=seed, changed_share=changed_share)
    _show(f"generate {as_of:%Y-%m-%d}", summary, json)


@app.command(rich_help_panel=DATA)
def check(
    config: Config = DEFAULT_CONFIG,
    as_of: Annotated[datetime | None, typer.Option(
        "--as-of", formats=["%Y-%m-%d"], metavar="YYYY-MM-DD", callback=_day,
        help="The day; by default the one after the newest event before today, UTC.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object with everything.")] = False,
) -> None:
    """Say what the tables hold, where their rows go and what each day will cost; nothing is changed.

    [dim]instructue check --config conf/yours.yaml[/]
    """
    from jobs.logstore import require

    deployment = _read(config)
    require(deployment)
    with spark_session(_without_metastore(deployment)) as spark:
        from jobs.check import check as job
        from jobs.stages import watch

        with _step("check") as told, watch(spark, told):
            summary = job(spark, deployment, as_of.date() if as_of else None)
    if json:
        _show("check", summary, json)
        return
    from jobs.findings import findings
    from jobs.report import out

    out.print(findings(summary))


@app.command(rich_help_panel=DATA)
def userqa(config: Config = DEFAULT_CONFIG, source_versions: SourceVersions = False, json: Json = False) -> None:
    """Ask the questions of the questions file about every user: training_profiles and userqa, what training reads.

    [dim]instructue userqa --json[/]
    """
    deployment = _read(config)
    with spark_session(deployment) as spark:
        from jobs.stages import watch
        from jobs.userqa import userqa as job

        with _step("userqa") as told, watch(spark, told):
            summary = job(spark, deployment, source_versions=source_versions)
    _show("userqa", summary, json)


@app.command(rich_help_panel=MODEL)
def train(
    config: Config = DEFAULT_CONFIG,
    steps: Annotated[int | None, typer.Option(min=0, help="Instead of the file's model.training.steps.")] = None,
    seed: Annotated[int, typer.Option(help="Decides the weights and the batches.")] = 0,
    json: Json = False,
) -> None:
    """Train a network as the deployment file says, or go on where a killed run stopped.

    On several GPUs: torchrun --standalone --nproc-per-node 8 -m jobs train

    [dim]instructue train --steps 200[/]
    """
    deployment = _read(config)
    if os.environ.get("RANK", "0") != "0":  # one of several processes: the first alone speaks
        from jobs.train import train as job

        job(deployment, steps=steps, seed=seed)
        return
    with _step("train") as told:
        from jobs.report import err
        from jobs.train import train as job

        summary = job(deployment, steps=steps, seed=seed, log=lambda line: err.print(line, markup=False), told=told)
    _show("train", summary, json)


SEEDS, CHOICE = "Over seeds", "Narrowing it"


@app.command(rich_help_panel=MODEL)
def evaluate(
    config: Config = DEFAULT_CONFIG,
    release: Annotated[Path | None, typer.Option(help="A release's folder; by default the one in use.")] = None,
    rivals: Annotated[bool, typer.Option(help="Fit the rivals on hand-made features too; most of the time.")] = True,
    seeds: Annotated[int | None, typer.Option(
        min=1, rich_help_panel=SEEDS, show_default="3 where something below is asked for",
        help="A training of its own for each seed. Alone: universal, manual and tuned vectors (Table 2).")] = None,
    ablations: Annotated[bool, typer.Option("--ablations", rich_help_panel=SEEDS,
                                            help="What is lost without a part of the model (Table 3).")] = False,
    figure: Annotated[bool, typer.Option("--figure", rich_help_panel=SEEDS,
                                         help="Vectors on a plane, as PNG and HTML (figure 5); seed 0.")] = False,
    precision: Annotated[bool, typer.Option("--precision", rich_help_panel=SEEDS,
                                            help="Exact, vague and wrong instructions (section 3.3.3).")] = False,
    noise: Annotated[bool, typer.Option("--noise", rich_help_panel=SEEDS,
                                        help="Quality against a share of other users' events.")] = False,
    unseen: Annotated[bool, typer.Option("--unseen", rich_help_panel=SEEDS,
                                         help="Train without the questions nearest each scenario.")] = False,
    scenarios: Annotated[list[str] | None, typer.Option(
        "--scenarios", rich_help_panel=CHOICE, help="Only this scenario; may be repeated.")] = None,
    steps: Annotated[int | None, typer.Option(
        min=0, rich_help_panel=CHOICE, help="Instead of the file's model.training.steps.")] = None,
    shots: Annotated[list[str] | None, typer.Option(
        "--shots", rich_help_panel=CHOICE, show_default="all",
        help="Table 2: tune on so many labelled users, such as 64, or all; may be repeated.")] = None,
    only: Annotated[list[str] | None, typer.Option(
        "--only", rich_help_panel=CHOICE, help="Table 3: only this variant; may be repeated.")] = None,
    json: Json = False,
) -> None:
    """Probe what vectors know of each scenario's labels: a release's beside rivals, or many trainings' over seeds.

    With none of the options over seeds: the release in use, as every day. With one or more of them: networks of their
    own, kept under checkpoints, while jobs go on with the release. A run that was killed goes on where it stopped;
    tables are written to the releases folder's evaluations/. docs/evaluation.md explains every number.

    [dim]instructue evaluate --no-rivals[/]

    [dim]instructue evaluate --seeds 3 --shots 16 --shots all[/]

    [dim]instructue evaluate --ablations --only full --only text-only --scenarios food --steps 50[/]
    """
    asked = {"ablations": ablations, "figure": figure, "precision": precision, "noise": noise, "unseen": unseen}
    kinds = [name for name, wanted in asked.items() if wanted] or (["table"] if seeds else [])
    narrowed = {"--scenarios": scenarios, "--steps": steps, "--shots": shots, "--only": only}
    tunings = _shots(shots or ["all"])
    _refuse_unread(kinds, narrowed, {"--release": release, "--no-rivals": not rivals})
    if kinds == ["figure"] and seeds:
        raise typer.BadParameter("the figure is of seed 0: leave it out", param_hint="--seeds")
    deployment = _read(config)
    if kinds:
        from jobs.report import err, out
        from jobs.studies.kinds import study

        for kind in kinds:
            with _step(f"evaluate: {kind}") as told:
                found, folder = study(deployment, kind, seeds=seeds or 3, steps=steps, scenarios=scenarios or (),
                                      shots=tunings, only=only or (), told=told,
                                      log=lambda line: err.print(line, markup=False))
            if json:
                _show("evaluate", found, json)
            else:
                out.print(found.shown(folder))
        return
    with _step("evaluate") as told:
        from jobs.evaluate import evaluate as job

        summary = job(deployment, release=release, rivals=rivals, told=told)
    if json:
        _show("evaluate", summary, json)
        return
    from jobs.report import out, probe

    out.print(probe(summary))


@app.command(rich_help_panel=MODEL)
def export(
    config: Config = DEFAULT_CONFIG,
    checkpoint: Annotated[Path | None, typer.Option(help="A checkpoint's folder; by default the newest.")] = None,
    instructions: Annotated[bool, typer.Option("--instructions", help="Add the file's new scenarios to the current "
                                               "release: same graphs, same model version.")] = False,
    decoder: Annotated[bool, typer.Option("--decoder", help="Put in what `ask` answers with: the checkpoint.")] = False,
    json: Json = False,
) -> None:
    """Make a release of ONNX graphs that passes its gates, and point the jobs at it.

    [dim]instructue export --instructions[/]
    """
    deployment = _read(config)
    with _step("export"):
        from jobs.export import export as job

        summary = job(deployment, from_checkpoint=checkpoint, instructions_only=instructions,
                      decoder=decoder)
    _show("export", summary, json)


@app.command(rich_help_panel=MODEL)
def tune(
    scenario: Annotated[str, typer.Option("--scenario", "-s", help="A scenario of the file that names labels.")],
    shots: Annotated[int | None, typer.Option(min=1, show_default="all", help="Labelled users to learn from, each "
                                              "class its share; at most the half that a probe fits on.")] = None,
    config: Config = DEFAULT_CONFIG,
    seed: Annotated[int, typer.Option(help="Decides which users.")] = 0,
    checkpoint: Annotated[Path | None, typer.Option(help="A checkpoint's folder; by default the release's.")] = None,
    json: Json = False,
) -> None:
    """Tune a scenario's instruction on some labels: a new release, same graphs, and `embed` renews that scenario alone.

    Learning starts from the file's words; the step is chosen on users held out, and may be none. `export
    --instructions` keeps what was tuned, a whole `export` goes back to the file's words.

    [dim]instructue tune --scenario food --shots 256[/]
    """
    deployment = _read(config)
    with _step(f"tune {scenario}") as told:
        from jobs.tune import tune as job

        summary = job(deployment, scenario, shots=shots, seed=seed, from_checkpoint=checkpoint, told=told)
    _show(f"tune {scenario}", summary, json)


@app.command(rich_help_panel=DAILY)
def assemble(as_of: AsOf, config: Config = DEFAULT_CONFIG, through: Through = None,
             source_versions: SourceVersions = False, json: Json = False) -> None:
    """Bring user_profiles up to a day: a row for each user whose profile has changed.

    [dim]instructue assemble --as-of 2026-01-01 --through 2026-01-07[/]
    """
    def job(spark: SparkSession, deployment: Deployment, day: date, told: Told) -> Any:
        from jobs.assemble import assemble
        from jobs.stages import watch

        with watch(spark, told):
            return assemble(spark, deployment, day, source_versions=source_versions)

    _daily("assemble", job, config, as_of, through, json)


@app.command(rich_help_panel=DAILY)
def embed(
    as_of: AsOf,
    config: Config = DEFAULT_CONFIG,
    through: Through = None,
    release: Annotated[Path | None, typer.Option(help="A release's folder; by default the one accepted last.")] = None,
    json: Json = False,
) -> None:
    """Embed the users whose profile, instruction or model has changed, in every scenario.

    [dim]instructue embed --as-of 2026-01-02[/]
    """
    def job(spark: SparkSession, deployment: Deployment, day: date, told: Told) -> Any:
        from jobs.embed import embed
        from jobs.stages import watch

        with watch(spark, told):
            return embed(spark, deployment, day, release)

    _daily("embed", job, config, as_of, through, json)


@app.command(rich_help_panel=DAILY)
def publish(as_of: AsOf, config: Config = DEFAULT_CONFIG, through: Through = None, json: Json = False) -> None:
    """Write the day's user_vectors and bring the online store to the table's latest rows.

    [dim]instructue publish --as-of 2026-01-02[/]
    """
    def job(spark: SparkSession, deployment: Deployment, day: date, told: Told) -> Any:
        from jobs.publish import publish

        return publish(spark, deployment, day, told)

    _daily("publish", job, config, as_of, through, json)


@app.command(rich_help_panel=DAILY)
def maintain(config: Config = DEFAULT_CONFIG, json: Json = False) -> None:
    """Keep the project's own tables small, as the file's `retention` says: superseded rows, small files, old versions.

    [dim]instructue maintain --config conf/demo.yaml[/]
    """
    from jobs.maintain import maintain as job

    deployment = _read(config)
    with _step("maintain"):
        summary = job(lambda: spark_session(deployment), deployment)
    _show("maintain", summary, json)


@app.command(rich_help_panel=ANSWERS)
def lookup(
    users: Annotated[list[str], typer.Argument(help="User ids.", show_default=False)],
    config: Config = DEFAULT_CONFIG,
    scenario: Annotated[list[str] | None, typer.Option("--scenario", "-s", help="Only this; may be repeated.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object per user, with the whole vectors.")] = False,
) -> None:
    """Look users' vectors up in the online store, as a service does.

    [dim]instructue lookup u0000012 u0000034 --scenario food --json[/]
    """
    deployment = _read(config)
    from jobs.lookup import Lookup

    with _step("opening the online store"):
        look_up = Lookup(deployment)
    begin = time.perf_counter()
    answers = look_up(users, scenario or None)
    milliseconds = (time.perf_counter() - begin) * 1000

    from jobs.report import out, vectors

    if json:
        _print_json(answers)
    else:
        out.print(vectors(answers, milliseconds))


@app.command(rich_help_panel=ANSWERS)
def ask(
    instruction: Annotated[str, typer.Argument(help="What to tell of a user, in words.", show_default=False)],
    users: Annotated[list[str] | None, typer.Option("--user", "-u", help="A user id; may be repeated.")] = None,
    everybody: Annotated[bool, typer.Option("--all", help="Every user, into a Delta table instead.")] = False,
    table: Annotated[str | None, typer.Option(help="The table for --all: a name in the lake, or a path or URI. The "
                                                   "same instruction and day replace their rows.")] = None,
    as_of: Annotated[datetime | None, typer.Option(
        "--as-of", formats=["%Y-%m-%d"], metavar="YYYY-MM-DD", callback=_day,
        help="The day for --all; by default the last that was assembled.")] = None,
    config: Config = DEFAULT_CONFIG,
    release: Annotated[Path | None, typer.Option(help="A release's folder; by default the one in use.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object per user, with the whole embedding.")] = False,
) -> None:
    """Ask the model about users in words, of their latest profiles: its answer, and the embedding that goes with it.

    The release must have a decoder: `instructue export --decoder`, or `--instructions --decoder` for the one in use.

    [dim]instructue ask "Will this user order food next month?" --user u0000012[/]
    """
    if everybody == bool(users) or everybody != (table is not None) or (as_of and not everybody):
        raise typer.BadParameter("give --user U, once for each, or --all with --table NAME (and --as-of)",
                                 param_hint="--user or --all")
    deployment = _read(config)
    if everybody:
        with _step("asking") as told:
            from jobs.ask import ask_all

            summary = ask_all(deployment, instruction, str(table), as_of=as_of.date() if as_of else None,
                              release=release, told=told)
        _show("ask", summary, json)
        return
    with _step("asking"):
        from jobs.ask import ask as job

        found = job(deployment, instruction, users or [], release=release)
    if json:
        _print_json(found)
        return
    from jobs.report import answers as drawn
    from jobs.report import out

    out.print(drawn(instruction, found))


@app.command(rich_help_panel=ANSWERS)
def sql(
    query: Annotated[str, typer.Argument(help="One SQL statement; `-` reads it from standard input.")],
    config: Config = DEFAULT_CONFIG,
    limit: Annotated[int, typer.Option(min=1, help="How many rows of the answer to show as a table.")] = 20,
    json: Annotated[bool, typer.Option("--json", help="Every row, one JSON object a line.")] = False,
) -> None:
    """Ask the lake in SQL: its tables by name, and the views and functions of sql/.

    [dim]instructue sql "SELECT * FROM most_similar('u0000012', 'food', 5)"[/]
    """
    from jobs.report import out, table

    deployment = _read(config)
    statement = sys.stdin.read() if query == "-" else query
    with spark_session(deployment) as spark:
        from jobs.sql import fetch, objects, rows
        from jobs.sql import sql as ask

        with _step("asking"):
            answer = ask(spark, deployment, statement)
            found: Any = objects(answer) if json else fetch(answer.limit(limit + 1))
    if json:
        _print_json(found)
        return
    out.print(table("", found.column_names, [*rows(found.slice(0, limit))]))
    if len(found) > limit:
        out.print(f"the first {limit} rows; --limit shows more, --json all", style="dim")


@contextmanager
def spark_session(deployment: Deployment) -> Iterator[SparkSession]:
    """A session for one command, stopped after it; only `sql` names tables and views in it, by itself."""
    with _step("starting Spark"):
        from jobs.spark import session

        spark = session(deployment, named=False)
    try:
        yield spark
    finally:
        spark.stop()


def _daily(name: str, job: Callable[[SparkSession, Deployment, date, Told], Any], config: Path, as_of: datetime,
           through: datetime | None, json: bool) -> None:
    last = through or as_of
    if last < as_of:
        raise typer.BadParameter(f"{last:%Y-%m-%d} is before --as-of {as_of:%Y-%m-%d}", param_hint="--through")
    deployment = _read(config)
    with spark_session(deployment) as spark:
        for day in (as_of.date() + timedelta(days=step) for step in range((last - as_of).days + 1)):
            with _step(f"{name} {day}") as told:
                summary = job(spark, deployment, day, told)
            _show(f"{name} {day}", summary, json)


def _without_metastore(deployment: Deployment) -> Deployment:
    """For a command that changes nothing: a session brings the metastore up to date."""
    return deployment.model_copy(update={"spark": deployment.spark.model_copy(update={"metastore": None})})


def _shots(given: list[str]) -> list[int | None]:
    """How many labelled users to tune on, None for all."""
    for text in given:
        if text != "all" and not (text.isdecimal() and int(text) > 0):
            raise typer.BadParameter(f"{text!r} is neither a number of users nor all", param_hint="--shots")
    return [None if text == "all" else int(text) for text in dict.fromkeys(given)]


def _refuse_unread(kinds: list[str], narrowed: dict[str, Any], of_release: dict[str, Any]) -> None:
    """Refuse an option that what is evaluated would not read: nobody should wait hours for what he did not ask."""
    unread = {name: "a release is evaluated as it is: add --seeds or another option over seeds"
              for name, value in narrowed.items() if value not in (None, []) and not kinds}
    unread |= {name: "only the evaluation of a release reads it: leave the options over seeds out"
               for name, value in of_release.items() if value and kinds}
    unread |= {name: f"only {of} reads it" for name, kind, of in (
        ("--shots", "table", "the table (--seeds alone)"), ("--only", "ablations", "--ablations"))
        if narrowed[name] and kinds and kind not in kinds}
    for name, why in unread.items():
        raise typer.BadParameter(why, param_hint=name)


def _read(config: Path) -> Deployment:
    from jobs.deployment import Deployment

    return Deployment.read(config)


def _step(name: str) -> Any:
    from jobs.report import step

    return step(name)


def _show(title: str, summary: Any, as_json: bool) -> None:
    from jobs.report import show

    show(title, summary, as_json)


def _print_json(rows: Iterable[Any]) -> None:
    from jobs.report import as_object

    for row in rows:
        print(as_object(row))


def main() -> NoReturn:
    """The command `instructue`."""
    run(app)


if __name__ == "__main__":
    main()
