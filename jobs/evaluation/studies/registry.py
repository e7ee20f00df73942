"""The evaluations over seeds that `instructue evaluate` can make beside that of a release, by their options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from jobs.config.deployment import Deployment
from jobs.evaluation.results import Result
from jobs.evaluation.studies.ablations import ablations
from jobs.evaluation.studies.figure5 import figure_5
from jobs.evaluation.studies.noise import noise
from jobs.evaluation.studies.precision import precision
from jobs.evaluation.studies.study import Study
from jobs.evaluation.studies.table2 import table_2
from jobs.evaluation.studies.unseen import unseen
from model.progress import Progress, no_progress

KINDS: dict[str, Callable[[Study], Result]] = {
    "table": table_2,
    "ablations": ablations,
    "figure": figure_5,
    "precision": precision,
    "noise": noise,
    "unseen": unseen,
}


def study(
    deployment: Deployment,
    kind: str,
    *,
    seeds: int = 3,
    steps: int | None = None,
    scenarios: Sequence[str] = (),
    shots: Sequence[int | None] = (None,),
    only: Sequence[str] = (),
    progress: Progress = no_progress,
) -> tuple[Result, Path]:
    """Make one evaluation, a training for each seed; return what was found and the folder in which it is kept.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    seeds : int
        How many trainings; a seed decides weights and batches.
    steps : int, optional
        Instead of `model.training.steps`.
    scenarios : sequence of str
        Only these; none: all that have labels.
    shots : sequence of int or None
        For the table: labelled users that an instruction is tuned on, a row each; None: all of the fit half.
    only : sequence of str
        For the ablations: only these variants.
    progress : callable
        Takes how many cells are done, and of how many.

    Raises
    ------
    StudyError
        An unknown scenario or variant, or nothing that could be probed.
    LabelError, ReleaseError, TableError
        See `jobs.evaluation.studies.study.Study.opened`.
    """
    make = {"table": partial(table_2, shots=shots), "ablations": partial(ablations, only=only)}.get(kind, KINDS[kind])
    with Study.opened(
        deployment, f"evaluate_{kind}", seeds=seeds, steps=steps, scenarios=scenarios, progress=progress
    ) as opened:
        found = make(opened)
        found.save(opened.folder)
        return found, opened.folder
