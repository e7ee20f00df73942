"""The studies that `instructue evaluate` can make, by the names of their options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jobs.config.deployment import Deployment
from jobs.evaluation.baselines.inputs import BaselineOptions
from jobs.evaluation.results import Result
from jobs.evaluation.studies.ablations import ablations
from jobs.evaluation.studies.figure5 import figure_5
from jobs.evaluation.studies.noise import noise
from jobs.evaluation.studies.precision import precision
from jobs.evaluation.studies.study import Study
from jobs.evaluation.studies.table2 import table_2
from jobs.evaluation.studies.unseen import unseen
from jobs.training.training_inputs import TABLES
from model.progress import Progress, no_progress


@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """Options of single studies.

    Attributes
    ----------
    shots : sequence of int or None
        For the table: the numbers of labelled users that an instruction is tuned on, a row each; None: all of the fit
        half.
    only : sequence of str
        For the ablations: only these variants. For the baselines: only those with a name that contains such a word.
    releases : sequence of Path
        For the baselines: InstructUE's releases, one for each seed; empty: the newest candidate, or else the
        current release.
    baselines : BaselineOptions
        For the baselines: their models and environments.
    """

    shots: Sequence[int | None] = (None,)
    only: Sequence[str] = ()
    releases: Sequence[Path] = ()
    baselines: BaselineOptions = field(default_factory=BaselineOptions)


@dataclass(frozen=True, kw_only=True)
class StudyKind:
    """A kind of study: the function that makes it, and the tables that it reads beside labels and profiles."""

    make: Callable[[Study, StudyOptions], Result]
    reads: tuple[str, ...] = TABLES


def _baselines(study: Study, options: StudyOptions) -> Result:
    from jobs.evaluation.studies.baselines import baselines  # torch and transformers take seconds to import

    return baselines(study, only=options.only, releases=options.releases, options=options.baselines)


STUDIES: dict[str, StudyKind] = {
    "table": StudyKind(make=lambda study, options: table_2(study, options.shots)),
    "ablations": StudyKind(make=lambda study, options: ablations(study, options.only)),
    "figure": StudyKind(make=lambda study, options: figure_5(study)),
    "precision": StudyKind(make=lambda study, options: precision(study)),
    "noise": StudyKind(make=lambda study, options: noise(study)),
    "unseen": StudyKind(make=lambda study, options: unseen(study)),
    "baselines": StudyKind(make=_baselines, reads=("training_profiles",)),
}


def run_study(
    deployment: Deployment,
    kind: str,
    *,
    seeds: int = 3,
    steps: int | None = None,
    scenarios: Sequence[str] = (),
    options: StudyOptions | None = None,
    progress: Progress = no_progress,
) -> tuple[Result, Path]:
    """Make a study over seeds; return its result and the folder that keeps it.

    Parameters
    ----------
    kind : str
        A key of `STUDIES`.
    seeds : int
        The number of trainings; a seed decides weights and batches.
    steps : int, optional
        Replaces `model.training.steps`.
    scenarios : sequence of str
        Only these scenarios; empty: all that have labels.
    options : StudyOptions, optional
        Options of single studies.
    progress : callable
        Takes the number of cells that are done and their total.

    Raises
    ------
    StudyError
        A variant or baseline is unknown, or nothing could be probed.
    EvaluationError, LabelError, ReleaseError, TableError
        See `jobs.evaluation.studies.study.Study.open`.
    """
    chosen = STUDIES[kind]
    with Study.open(
        deployment,
        f"evaluate_{kind}",
        seeds=seeds,
        steps=steps,
        scenarios=scenarios,
        reads=chosen.reads,
        progress=progress,
    ) as study:
        result = chosen.make(study, options or StudyOptions())
        result.save(study.folder)
        return result, study.folder
