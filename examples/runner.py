"""Run an example: load the publisher's tables into a lake, run every job for one day, and print the results.

An example has one or more parts, each a deployment file and a loader. Labels whose inputs differ are separate parts:
the part that probes income may not read income. The data sets stay in their folders; a loader reads their files and
writes Delta tables, and the jobs read only these tables.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated

import typer
from rich.console import RenderableType

from jobs.cli import pipeline
from jobs.cli.pages.evaluate import evaluation_page
from jobs.cli.pipeline import Steps
from jobs.config.deployment import Deployment
from jobs.console import terminal

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"
DATA = ROOT.parent / "shared" / "data"
"""The default folder of the data sets, which has a folder for each."""

TrainSteps = Annotated[
    int | None,
    typer.Option(
        "--steps",
        min=1,
        show_default="model.training.steps of the deployment file",
        help="The number of training steps.",
    ),
]
SeedCount = Annotated[int, typer.Option("--seeds", min=1, help="The number of trainings, with the seeds 0, 1, ...")]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One deployment of an example.

    Attributes
    ----------
    config
        The deployment file.
    as_of
        The as_of of the labels.
    load
        The loader: it writes the tables that the deployment file names and returns the number of rows of each.
    """

    config: Path
    as_of: date
    load: Callable[[Deployment, Path], dict[str, int]]


def run(name: str, parts: Sequence[Part], data: Path, *, steps: int | None, seeds: int) -> None:
    """Run the parts of an example and print their accounts, seconds and evaluations.

    Parameters
    ----------
    data
        The folder of the publisher's tables. The example is skipped where this is a folder of `DATA` that is missing.
    steps
        The number of training steps; None: those of the deployment files.
    seeds
        The number of trainings; the other jobs run once.
    """
    if data.parent == DATA and not data.is_dir():
        terminal.out.print(f"skipped: no {name} data in {data}; name its folder with DATA=", style="yellow")
        return
    data = data.resolve()
    os.chdir(ROOT)
    with pipeline.library_output_to(ROOT / "logs" / f"{name}.log"):
        step = Steps()
        pages = [page for part in parts for page in _run_part(part, data, step, steps, seeds)]
        terminal.out.print()
        for page in (*pages, step.table()):
            terminal.out.print(page)


def _run_part(part: Part, data: Path, step: Steps, steps: int | None, seeds: int) -> list[RenderableType]:
    """Run one part from an empty lake and return its pages."""
    deployment = Deployment.read(part.config)
    for folder in (deployment.lake, deployment.store.folder):
        shutil.rmtree(deployment.resolve(folder), ignore_errors=True)
    with step(f"{deployment.name}: load the publisher's tables"):
        part.load(deployment, data)
    evaluations = [pipeline.first_day(deployment, part.as_of, step, train_steps=steps)]
    evaluations += [pipeline.train_and_evaluate(deployment, step, steps, seed) for seed in range(1, seeds)]
    return [pipeline.accounts(deployment), *map(evaluation_page, evaluations)]
