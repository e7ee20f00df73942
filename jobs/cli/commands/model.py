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
SEEDS, CHOICE, MODELS = "Over seeds", "Narrowing it", "Models of the baselines"


def evaluate(
    config: Config = DEFAULT_CONFIG,
    release: Annotated[
        list[Path] | None,
        typer.Option(
            "--release",
            show_default="the newest candidate, or else the current release",
            help="The name or folder of a release; with --baselines one for each seed, may be repeated.",
        ),
    ] = None,
    hand_made: Annotated[
        bool, typer.Option(help="Fit the baselines on hand-made features too, which takes most of the time.")
    ] = True,
    splits: Annotated[
        int | None,
        typer.Option(min=1, show_default="5", help="Splits of the users into a half to fit on and a half to score."),
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
    baselines: Annotated[
        bool,
        typer.Option(
            "--baselines", rich_help_panel=SEEDS, help="The release beside other ways to make vectors of the profiles."
        ),
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
        typer.Option(
            "--only",
            rich_help_panel=CHOICE,
            help="Table 3: only this variant; baselines: only names with this word; may be repeated.",
        ),
    ] = None,
    language_model: Annotated[
        str | None,
        typer.Option(rich_help_panel=MODELS, help="Add a pretrained causal language model: a folder or a hub id."),
    ] = None,
    text_embedder: Annotated[
        str | None, typer.Option(rich_help_panel=MODELS, help="The folder of a text embedder, in place of MiniLM.")
    ] = None,
    lifestream: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=MODELS,
            show_default="build/lifestream/bin/python",
            help="The interpreter of an environment with pytorch-lifestream.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Probe how well vectors predict each scenario's labels: those of a release, or of many trainings over seeds.

    Without an option over seeds: the newest candidate, or else the current release, beside baselines on hand-made
    features. With one or more of them: networks trained for the study, kept under checkpoints; the current release
    does not change. A killed run continues at the next result. Tables are written to evaluations/ of the releases
    folder; docs/evaluation.md explains them.

    [dim]instructue evaluate --splits 40[/]

    [dim]instructue evaluate --seeds 3 --shots 16 --shots all[/]

    [dim]instructue evaluate --ablations --only full --only text-only --scenarios food --steps 50[/]
    """
    flags = {"ablations": ablations, "figure": figure, "precision": precision, "noise": noise, "unseen": unseen}
    flags["baselines"] = baselines
    kinds = [name for name, chosen in flags.items() if chosen] or (["table"] if seeds else [])
    models = {"--language-model": language_model, "--text-embedder": text_embedder, "--lifestream": lifestream}
    narrowed = {"--scenarios": scenarios, "--steps": steps, "--shots": shots, "--only": only} | models
    tunings = _shots(shots or ["all"])
    of_release = {"--no-hand-made": not hand_made, "--splits": splits}
    _refuse_unread(kinds, narrowed, of_release if baselines else of_release | {"--release": release})
    if not kinds and len(release or ()) > 1:
        raise typer.BadParameter("only --baselines compares several releases: name one", param_hint="--release")
    if kinds == ["figure"] and seeds:
        raise typer.BadParameter("the figure is of seed 0: leave it out", param_hint="--seeds")
    deployment = read(config)
    if kinds:
        from jobs.console.terminal import out
        from jobs.evaluation.baselines.inputs import LIFESTREAM_PYTHON, BaselineOptions
        from jobs.evaluation.studies.registry import StudyOptions, run_study

        options = StudyOptions(
            shots=tunings,
            only=only or (),
            releases=release or (),
            baselines=BaselineOptions(
                language_model=language_model, text_embedder=text_embedder, lifestream=lifestream or LIFESTREAM_PYTHON
            ),
        )
        for kind in kinds:
            with step(f"evaluate: {kind}") as progress:
                found, folder = run_study(
                    deployment,
                    kind,
                    seeds=seeds or 3,
                    steps=steps,
                    scenarios=scenarios or (),
                    options=options,
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

        summary = job(
            deployment,
            release=release[0] if release else None,
            baselines=hand_made,
            splits=splits or SPLITS,
            progress=progress,
        )
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
    """Refuse an option that the chosen evaluations do not read, before they take hours."""
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
            ("--language-model", "baselines", "--baselines"),
            ("--text-embedder", "baselines", "--baselines"),
            ("--lifestream", "baselines", "--baselines"),
        )
        if narrowed[name] and kinds and kind not in kinds
    }
    if narrowed["--only"] and kinds and not {"ablations", "baselines"} & {*kinds}:
        unread["--only"] = "only --ablations and --baselines read it"
    for name, why in unread.items():
        raise typer.BadParameter(why, param_hint=name)
