"""Commands on the model: train, evaluate, export, tune, promote."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs.cli.commands.options import DEFAULT_CONFIG, Config, Json, read, show, step


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
    deployment = read(config)
    if os.environ.get("RANK", "0") != "0":  # one of several processes: the first alone speaks
        from jobs.training.train import train as job

        job(deployment, steps=steps, seed=seed)
        return
    with step("train") as progress:
        from jobs.training.train import train as job

        summary = job(deployment, steps=steps, seed=seed, progress=progress)
    show("train", summary, json)


Promote = Annotated[bool, typer.Option("--promote", help="Promote the release at once, without an evaluation.")]
SEEDS, CHOICE = "Over seeds", "Narrowing it"


def evaluate(
    config: Config = DEFAULT_CONFIG,
    release: Annotated[
        Path | None,
        typer.Option(help="A release's name or folder; by default the newest candidate, or else the current release."),
    ] = None,
    rivals: Annotated[bool, typer.Option(help="Fit the rivals on hand-made features too; most of the time.")] = True,
    halves: Annotated[
        int | None,
        typer.Option(
            min=1, show_default="5", help="How often users are halved, to fit on one half and score on the other."
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            min=1,
            rich_help_panel=SEEDS,
            show_default="3 where something below is asked for",
            help="A training of its own for each seed. Alone: universal, manual and tuned vectors (Table 2).",
        ),
    ] = None,
    ablations: Annotated[
        bool,
        typer.Option("--ablations", rich_help_panel=SEEDS, help="What is lost without a part of the model (Table 3)."),
    ] = False,
    figure: Annotated[
        bool,
        typer.Option("--figure", rich_help_panel=SEEDS, help="Vectors on a plane, as PNG and HTML (figure 5); seed 0."),
    ] = False,
    precision: Annotated[
        bool,
        typer.Option("--precision", rich_help_panel=SEEDS, help="Exact, vague and wrong instructions (section 3.3.3)."),
    ] = False,
    noise: Annotated[
        bool, typer.Option("--noise", rich_help_panel=SEEDS, help="Quality against a share of other users' events.")
    ] = False,
    unseen: Annotated[
        bool, typer.Option("--unseen", rich_help_panel=SEEDS, help="Train without the questions nearest each scenario.")
    ] = False,
    scenarios: Annotated[
        list[str] | None,
        typer.Option("--scenarios", rich_help_panel=CHOICE, help="Only this scenario; may be repeated."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=0, rich_help_panel=CHOICE, help="Instead of the file's model.training.steps.")
    ] = None,
    shots: Annotated[
        list[str] | None,
        typer.Option(
            "--shots",
            rich_help_panel=CHOICE,
            show_default="all",
            help="Table 2: tune on so many labelled users, such as 64, or all; may be repeated.",
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", rich_help_panel=CHOICE, help="Table 3: only this variant; may be repeated."),
    ] = None,
    json: Json = False,
) -> None:
    """Probe what vectors know of each scenario's labels: a release's beside rivals, or many trainings' over seeds.

    With none of the options over seeds: the newest candidate, or else the current release. With one or more of them:
    networks of their own, kept under checkpoints, while jobs go on with the release. A run that was killed goes on
    where it stopped; tables are written to the releases folder's evaluations/. docs/evaluation.md explains every
    number.

    [dim]instructue evaluate --halves 40[/]

    [dim]instructue evaluate --seeds 3 --shots 16 --shots all[/]

    [dim]instructue evaluate --ablations --only full --only text-only --scenarios food --steps 50[/]
    """
    asked = {"ablations": ablations, "figure": figure, "precision": precision, "noise": noise, "unseen": unseen}
    kinds = [name for name, wanted in asked.items() if wanted] or (["table"] if seeds else [])
    narrowed = {"--scenarios": scenarios, "--steps": steps, "--shots": shots, "--only": only}
    tunings = _shots(shots or ["all"])
    _refuse_unread(kinds, narrowed, {"--release": release, "--no-rivals": not rivals, "--halves": halves})
    if kinds == ["figure"] and seeds:
        raise typer.BadParameter("the figure is of seed 0: leave it out", param_hint="--seeds")
    deployment = read(config)
    if kinds:
        from jobs.console.terminal import out
        from jobs.evaluation.studies.registry import study

        for kind in kinds:
            with step(f"evaluate: {kind}") as progress:
                found, folder = study(
                    deployment,
                    kind,
                    seeds=seeds or 3,
                    steps=steps,
                    scenarios=scenarios or (),
                    shots=tunings,
                    only=only or (),
                    progress=progress,
                )
            if json:
                show("evaluate", found, json)
            else:
                out.print(found.shown(folder))
        return
    with step("evaluate") as progress:
        from jobs.evaluation.evaluate import evaluate as job
        from model.training.probe import SPLITS

        summary = job(deployment, release=release, rivals=rivals, halves=halves or SPLITS, progress=progress)
    if json:
        show("evaluate", summary, json)
        return
    from jobs.cli.pages.evaluate import evaluation_page
    from jobs.console.terminal import out

    out.print(evaluation_page(summary))


def export(
    config: Config = DEFAULT_CONFIG,
    checkpoint: Annotated[Path | None, typer.Option(help="A checkpoint's folder; by default the newest.")] = None,
    instructions: Annotated[
        bool,
        typer.Option(
            "--instructions",
            help="Add the file's new scenarios to the current release: same graphs, same model version.",
        ),
    ] = False,
    decoder: Annotated[bool, typer.Option("--decoder", help="Put in what `ask` answers with: the checkpoint.")] = False,
    promote: Promote = False,
    json: Json = False,
) -> None:
    """Make a candidate: a release of ONNX graphs that passes its gates.

    Next: `instructue evaluate` judges the candidate, `instructue promote` makes it the release that jobs use.

    [dim]instructue export --instructions[/]
    """
    deployment = read(config)
    with step("export"):
        from jobs.training.export import export as job

        summary = job(
            deployment, from_checkpoint=checkpoint, instructions_only=instructions, decoder=decoder, promote=promote
        )
    show("export", summary, json)


def tune(
    scenario: Annotated[str, typer.Option("--scenario", "-s", help="A scenario of the file that names labels.")],
    shots: Annotated[
        int | None,
        typer.Option(
            min=1,
            show_default="all",
            help="Labelled users to learn from, each class its share; at most the half that a probe fits on.",
        ),
    ] = None,
    config: Config = DEFAULT_CONFIG,
    seed: Annotated[int, typer.Option(help="Decides which users.")] = 0,
    checkpoint: Annotated[Path | None, typer.Option(help="A checkpoint's folder; by default the release's.")] = None,
    promote: Promote = False,
    json: Json = False,
) -> None:
    """Tune a scenario's instruction on some labels: a candidate that has the current release's graphs.

    Next: `instructue evaluate` judges the candidate, `instructue promote` makes it the release that jobs use, and
    `embed` renews that scenario alone. Promote one before tuning another: both start from the current release.

    Learning starts from the file's words; the step is chosen on users held out, and may be none. `export
    --instructions` keeps what was tuned, a whole `export` goes back to the file's words.

    [dim]instructue tune --scenario food --shots 256[/]
    """
    deployment = read(config)
    with step(f"tune {scenario}") as progress:
        from jobs.training.tune import tune as job

        summary = job(
            deployment, scenario, shots=shots, seed=seed, from_checkpoint=checkpoint, promote=promote, progress=progress
        )
    show(f"tune {scenario}", summary, json)


def promote(
    release: Annotated[
        Path | None,
        typer.Argument(help="A release's name or folder; by default the newest candidate.", show_default=False),
    ] = None,
    config: Config = DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """Make a release the current one, which jobs use from then on.

    Next: `instructue embed` and `instructue publish` for the newest day. A former release is promoted by its name.

    [dim]instructue promote[/]
    """
    deployment = read(config)
    with step("promote"):
        from jobs.training.registry import promote as job

        summary = job(deployment, release)
    show("promote", summary, json)


def _shots(given: list[str]) -> list[int | None]:
    """How many labelled users to tune on, None for all."""
    for text in given:
        if text != "all" and not (text.isdecimal() and int(text) > 0):
            raise typer.BadParameter(f"{text!r} is neither a number of users nor all", param_hint="--shots")
    return [None if text == "all" else int(text) for text in dict.fromkeys(given)]


def _refuse_unread(kinds: list[str], narrowed: dict[str, Any], of_release: dict[str, Any]) -> None:
    """Refuse an option that what is evaluated would not read: nobody should wait hours for what he did not ask."""
    unread = {
        name: "a release is evaluated as it is: add --seeds or another option over seeds"
        for name, value in narrowed.items()
        if value not in (None, []) and not kinds
    }
    unread |= {
        name: "only the evaluation of a release reads it: leave the options over seeds out"
        for name, value in of_release.items()
        if value and kinds
    }
    unread |= {
        name: f"only {of} reads it"
        for name, kind, of in (
            ("--shots", "table", "the table (--seeds alone)"),
            ("--only", "ablations", "--ablations"),
        )
        if narrowed[name] and kinds and kind not in kinds
    }
    for name, why in unread.items():
        raise typer.BadParameter(why, param_hint=name)
