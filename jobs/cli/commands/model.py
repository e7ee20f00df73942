"""Commands on the model: train, export, tune, promote."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from jobs.cli.commands.options import DEFAULT_CONFIG, Config, Json, read, show, step

Promote = Annotated[
    bool, typer.Option("--promote", help="Promote the candidate at once, without an evaluation: jobs use it next.")
]


def train(
    config: Config = DEFAULT_CONFIG,
    steps: Annotated[
        int | None,
        typer.Option(
            min=0, show_default="model.training.steps of the deployment file", help="The number of training steps."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="The random seed of the weights and the batches.")] = 0,
    json: Json = False,
) -> None:
    """Train a network on training_profiles and userqa, or continue a training that was killed.

    On several GPUs: torchrun --standalone --nproc-per-node 8 -m jobs train

    [dim]instructue train --steps 200[/]
    """
    deployment = read(config)
    if os.environ.get("RANK", "0") != "0":  # of several processes, the first shows progress and the result
        from jobs.training.train import train as job

        job(deployment, steps=steps, seed=seed)
        return
    with step("train") as progress:
        from jobs.training.train import train as job

        summary = job(deployment, steps=steps, seed=seed, progress=progress)
    show("train", summary, json)


def export(
    config: Config = DEFAULT_CONFIG,
    checkpoint: Annotated[
        Path | None, typer.Option(show_default="the newest checkpoint", help="The folder of a checkpoint.")
    ] = None,
    instructions: Annotated[
        bool,
        typer.Option(
            "--instructions",
            help="Add new scenarios of the deployment file to the current release; graphs and model version stay.",
        ),
    ] = False,
    decoder: Annotated[
        bool, typer.Option("--decoder", help="Include the checkpoint, with which `ask` answers in words.")
    ] = False,
    promote: Promote = False,
    json: Json = False,
) -> None:
    """Export a checkpoint as a candidate: a release of ONNX graphs that passes its gates.

    Next: `instructue evaluate` probes the candidate, `instructue promote` makes it the current release.

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
    scenario: Annotated[
        str, typer.Option("--scenario", "-s", help="A scenario of the deployment file that has labels.")
    ],
    shots: Annotated[
        int | None,
        typer.Option(
            min=1,
            show_default="all users of the fit half",
            help="The number of labelled users to tune on, in the proportion of the classes.",
        ),
    ] = None,
    config: Config = DEFAULT_CONFIG,
    seed: Annotated[int, typer.Option(help="The random seed that selects the users.")] = 0,
    checkpoint: Annotated[
        Path | None,
        typer.Option(show_default="the checkpoint of the current release", help="The folder of a checkpoint."),
    ] = None,
    promote: Promote = False,
    json: Json = False,
) -> None:
    """Tune a scenario's instruction on labels: the candidate has the graphs of the current release.

    Next: `instructue evaluate` probes the candidate, `instructue promote` makes it the current release.
    Then `embed` renews the vectors of this scenario only.
    Promote one candidate before you tune another scenario: both start from the current release.

    Tuning starts from the instruction of the deployment file and selects the step on held-out users, which may be 0.
    `export --instructions` keeps tuned instructions, `export` of a checkpoint returns to those of the file.

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
        Path | None, typer.Argument(show_default="the newest candidate", help="The name or folder of a release.")
    ] = None,
    config: Config = DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """Make a release the current one, which jobs use from then on.

    Next: `instructue embed` and `instructue publish` for the newest day.
    To return to an earlier release, promote it by its name.

    [dim]instructue promote[/]
    """
    deployment = read(config)
    with step("promote"):
        from jobs.training.registry import promote as job

        summary = job(deployment, release)
    show("promote", summary, json)
