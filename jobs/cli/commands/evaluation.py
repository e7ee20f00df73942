"""The command `evaluate`: probe a release, or make the paper's studies over seeds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs.cli.commands.options import DEFAULT_CONFIG, Config, Json, print_page, read, show, step

STUDIES, LIMITS, MODELS = "Studies over seeds", "Options of the studies", "Models of the baselines"
DEFAULT_SEEDS = 3

Releases = Annotated[
    list[Path] | None,
    typer.Option(
        "--release",
        show_default="the newest candidate, or else the current release",
        help="The name or folder of a release; with --baselines one for each seed, may be repeated.",
    ),
]
HandMade = Annotated[
    bool, typer.Option(help="Fit the baselines on hand-made features too, which takes most of the time.")
]
Splits = Annotated[
    int | None,
    typer.Option(min=1, show_default="5", help="The number of splits of the users into a fit half and a score half."),
]
Seeds = Annotated[
    int | None,
    typer.Option(
        min=1,
        rich_help_panel=STUDIES,
        show_default=f"{DEFAULT_SEEDS} for a study",
        help="The number of trainings of each network. Alone: universal, manual and tuned vectors (Table 2).",
    ),
]
Ablations = Annotated[
    bool,
    typer.Option("--ablations", rich_help_panel=STUDIES, help="The loss of AUC without a part of the model (Table 3)."),
]
Figure = Annotated[
    bool,
    typer.Option("--figure", rich_help_panel=STUDIES, help="Vectors on a plane as PNG and HTML (figure 5); seed 0."),
]
Precision = Annotated[
    bool,
    typer.Option("--precision", rich_help_panel=STUDIES, help="Exact, vague and wrong instructions (section 3.3.3)."),
]
Noise = Annotated[
    bool, typer.Option("--noise", rich_help_panel=STUDIES, help="AUC by the share of events of other users.")
]
Unseen = Annotated[
    bool,
    typer.Option("--unseen", rich_help_panel=STUDIES, help="Train without the questions nearest to each scenario."),
]
Baselines = Annotated[
    bool,
    typer.Option(
        "--baselines", rich_help_panel=STUDIES, help="The release beside other embeddings of the same profiles."
    ),
]
Scenarios = Annotated[
    list[str] | None,
    typer.Option(
        "--scenarios",
        rich_help_panel=LIMITS,
        show_default="all that have labels",
        help="Only this scenario; may be repeated.",
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(
        min=0,
        rich_help_panel=LIMITS,
        show_default="model.training.steps of the deployment file",
        help="The number of training steps.",
    ),
]
Shots = Annotated[
    list[str] | None,
    typer.Option(
        "--shots",
        rich_help_panel=LIMITS,
        show_default="all",
        help="Table 2: the number of labelled users to tune on, or all; may be repeated.",
    ),
]
Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        rich_help_panel=LIMITS,
        show_default="all",
        help="Table 3: only this variant. --baselines: only names with this word. May be repeated.",
    ),
]
LanguageModel = Annotated[
    str | None,
    typer.Option(rich_help_panel=MODELS, help="Add a pretrained causal language model: a folder or a hub id."),
]
TextEmbedder = Annotated[
    str | None, typer.Option(rich_help_panel=MODELS, show_default="MiniLM", help="The folder of a text embedder.")
]
Lifestream = Annotated[
    Path | None,
    typer.Option(
        rich_help_panel=MODELS,
        show_default="build/lifestream/bin/python",
        help="The Python interpreter of an environment with pytorch-lifestream.",
    ),
]


@dataclass(frozen=True, kw_only=True)
class _Arguments:
    """The arguments of one call that studies read."""

    kinds: list[str]
    releases: list[Path]
    seeds: int | None
    scenarios: list[str]
    steps: int | None
    shots: list[int | None]
    only: list[str]
    models: dict[str, Any]


def evaluate(
    config: Config = DEFAULT_CONFIG,
    release: Releases = None,
    hand_made: HandMade = True,
    splits: Splits = None,
    seeds: Seeds = None,
    ablations: Ablations = False,
    figure: Figure = False,
    precision: Precision = False,
    noise: Noise = False,
    unseen: Unseen = False,
    baselines: Baselines = False,
    scenarios: Scenarios = None,
    steps: Steps = None,
    shots: Shots = None,
    only: Only = None,
    language_model: LanguageModel = None,
    text_embedder: TextEmbedder = None,
    lifestream: Lifestream = None,
    json: Json = False,
) -> None:
    """Probe how well vectors predict each scenario's labels: those of a release, or of many trainings over seeds.

    Without a study: the newest candidate, or else the current release, beside baselines on hand-made features, with
    all labels, with few and with none.

    With a study: networks trained for it, kept under checkpoints; the current release does not change.
    A killed run continues at the next result. Tables are written to evaluations/ of the releases folder.

    docs/evaluation.md explains every number.

    [dim]instructue evaluate --splits 40[/]

    [dim]instructue evaluate --seeds 3 --shots 16 --shots all[/]

    [dim]instructue evaluate --ablations --only full --only text-only --scenarios food --steps 50[/]
    """
    flags = {"ablations": ablations, "figure": figure, "precision": precision, "noise": noise, "unseen": unseen}
    flags["baselines"] = baselines
    arguments = _Arguments(
        kinds=[name for name, chosen in flags.items() if chosen] or (["table"] if seeds else []),
        releases=release or [],
        seeds=seeds,
        scenarios=scenarios or [],
        steps=steps,
        shots=_shots(shots or ["all"]),
        only=only or [],
        models={"language_model": language_model, "text_embedder": text_embedder, "lifestream": lifestream},
    )
    _refuse_unread(arguments, {"--no-hand-made": not hand_made, "--splits": splits}, shots)
    if arguments.kinds:
        _run_studies(config, arguments, json)
    else:
        _evaluate_release(config, release[0] if release else None, hand_made, splits, json)


def _evaluate_release(config: Path, release: Path | None, baselines: bool, splits: int | None, json: bool) -> None:
    deployment = read(config)
    with step("evaluate") as progress:
        from jobs.evaluation.evaluate import evaluate as job
        from model.training.probe import SPLITS

        summary = job(deployment, release=release, baselines=baselines, splits=splits or SPLITS, progress=progress)
    if json:
        show("evaluate", summary, json)
        return
    from jobs.cli.pages.evaluate import evaluation_page

    print_page(evaluation_page(summary))


def _run_studies(config: Path, arguments: _Arguments, json: bool) -> None:
    deployment = read(config)
    from jobs.evaluation.baselines.inputs import BaselineOptions
    from jobs.evaluation.studies.registry import StudyOptions, run_study

    models = {name: value for name, value in arguments.models.items() if value is not None}
    options = StudyOptions(
        shots=arguments.shots, only=arguments.only, releases=arguments.releases, baselines=BaselineOptions(**models)
    )
    for kind in arguments.kinds:
        with step(f"evaluate: {kind}") as progress:
            result, folder = run_study(
                deployment,
                kind,
                seeds=arguments.seeds or DEFAULT_SEEDS,
                steps=arguments.steps,
                scenarios=arguments.scenarios,
                options=options,
                progress=progress,
            )
        if json:
            show("evaluate", result, json)
        else:
            print_page(result.shown(folder))


def _shots(values: list[str]) -> list[int | None]:
    """Return the numbers of labelled users to tune on, None for all."""
    for value in values:
        if value != "all" and not (value.isdecimal() and int(value) > 0):
            raise typer.BadParameter(f"{value!r} is neither a number of users nor all", param_hint="--shots")
    return [None if value == "all" else int(value) for value in dict.fromkeys(values)]


def _refuse_unread(arguments: _Arguments, of_release: dict[str, Any], shots: list[str] | None) -> None:
    """Raise BadParameter for an option that the chosen evaluations do not read, before they take hours."""
    kinds = arguments.kinds
    models = {f"--{name.replace('_', '-')}": value for name, value in arguments.models.items()}
    of_studies = {
        "--scenarios": arguments.scenarios,
        "--steps": arguments.steps,
        "--shots": shots,
        "--only": arguments.only,
        **models,
    }
    readers = {
        "--shots": (("table",), "only the table (--seeds alone) reads it"),
        "--only": (("ablations", "baselines"), "only --ablations and --baselines read it"),
        **dict.fromkeys(models, (("baselines",), "only --baselines reads it")),
    }
    if not kinds:
        for name, value in of_studies.items():
            if value not in (None, []):  # 0 steps are a value
                raise typer.BadParameter(
                    "a release is evaluated as it is: add --seeds or another option over seeds", param_hint=name
                )
        if len(arguments.releases) > 1:
            raise typer.BadParameter("only --baselines compares several releases: name one", param_hint="--release")
        return
    if "baselines" not in kinds:
        of_release = of_release | {"--release": arguments.releases}
    for name, value in of_release.items():
        if value:
            raise typer.BadParameter(
                "only the evaluation of a release reads it: leave the options over seeds out", param_hint=name
            )
    for name, (studies, reason) in readers.items():
        if of_studies[name] and not {*studies} & {*kinds}:
            raise typer.BadParameter(reason, param_hint=name)
    if kinds == ["figure"] and arguments.seeds:
        raise typer.BadParameter("the figure is of seed 0: leave it out", param_hint="--seeds")
