"""Probe a release: how well its vectors predict each scenario's labels, beside baselines on hand-made features.

Users are embedded as in production: their latest profile at or before the label's as_of, by the released graphs. A
logistic regression is fitted on half of the users and scored on the other half, on several splits. The baselines, a
logistic regression and LightGBM on hand-made features of the same profiles, use the same splits. So do the figures at
few labels and without any, which show what an instruction is worth (`jobs.evaluation.instruction_worth`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.config.deployment import UNIVERSAL, Deployment
from jobs.evaluation.baselines.hand_made import LIGHTGBM, REGRESSION, Features
from jobs.evaluation.evaluation_files import write_evaluation
from jobs.evaluation.few_labels import count_jobs, score_few_labels
from jobs.evaluation.instruction_worth import Inputs, InstructionWorth, instruction_worth, trees_with_all
from jobs.evaluation.instructions import Instructions
from jobs.evaluation.labelled_data import LabelledData, labelled_scenarios, open_labelled_data
from jobs.evaluation.scores import Measure, Probe, Score, comparable, not_probed, score, split_values, unconverged
from jobs.training.labels import LeftOut
from jobs.training.registry import (
    candidate_release,
    current_release,
    has_current_release,
    open_release,
    question_scores,
    releases_folder,
    tuned_scenarios,
)
from model.progress import Progress, no_progress
from model.serving.release import Release
from model.training.probe import SPLITS, split_seeds

VECTORS = ("universal", "manual", "universal and manual")
BASELINES = (REGRESSION, LIGHTGBM)
METHODS = VECTORS + BASELINES
Table = dict[str, dict[str, float]]
"""Scenario to method to a figure."""


@dataclass(frozen=True, kw_only=True)
class EvaluationResult:
    """The figures of one evaluation: means and standard deviations over splits, by scenario and method.

    Attributes
    ----------
    as_of : date
        The latest as_of of a label.
    splits : int
        The number of splits of the users into a fit half and a score half.
    users : dict
        The number of labelled users with a profile, by scenario.
    left_out : dict
        What is left out of the labels, by scenario.
    not_probed : dict
        The reason, for each scenario without figures.
    tuned : dict
        The number of users on which a scenario's instruction was tuned; such a scenario is probed on the one split
        that scores none of them.
    best_baseline : dict
        The baseline with the highest AUC, by scenario; empty without baselines.
    difference, difference_std : dict
        Each vector's AUC less that baseline's, on the same splits.
    unconverged : str, optional
        A note on the logistic regressions that reached the iteration limit; None when there is none.
    worth : InstructionWorth
        The figures by the number of labels, with instructions and without.
    questions : dict
        By question of the training, the AUC of its answers on validation users; empty for a release that was trained
        before this was measured.
    next : str, optional
        The next step; None when the release is the current one.
    """

    as_of: date
    splits: int
    release: str
    model_version: str
    users: dict[str, int]
    left_out: dict[str, LeftOut]
    not_probed: dict[str, str]
    tuned: dict[str, int]
    auc: Table
    auc_std: Table
    ks: Table
    ks_std: Table
    best_baseline: dict[str, str]
    difference: Table
    difference_std: Table
    unconverged: str | None
    worth: InstructionWorth
    questions: dict[str, dict[str, float]]
    next: str | None
    seconds: float


def evaluate(
    deployment: Deployment,
    *,
    release: str | Path | None = None,
    baselines: bool = True,
    splits: int = SPLITS,
    progress: Progress = no_progress,
) -> EvaluationResult:
    """Probe every scenario that has labels, and write the figures beside the releases.

    Parameters
    ----------
    release : str or Path, optional
        The name or folder of a release; None: the newest candidate, or the current release where there is none.
    baselines : bool
        Whether to fit the baselines on hand-made features too, which takes most of the time.
    splits : int
        The number of splits of the users; the first five are always the same.
    progress : callable
        Takes the number of probes that are done and their total.

    Raises
    ------
    EvaluationError
        No scenario has labels, or none could be probed.
    LabelError
        A table of labels is malformed, or no labelled user has a profile.
    ReleaseError
        The release does not make this deployment's vectors, or another deployment file made the profiles.
    TableError
        A table is missing, or a day of profiles is half replaced.
    """
    labelled_scenarios(deployment)
    opened = open_release(deployment, release or candidate_release(deployment))
    with open_labelled_data(deployment, "evaluate") as data:
        run, tuned = data.run, tuned_scenarios(opened)
        inputs = Inputs.read(data, opened, baselines=baselines)
        scores, few = _score(inputs, _split_seeds(data, tuned, splits), tuned, progress)
        run.model_version, run.details = opened.model_version, {"release": opened.path.name}
        data.record_failures(not_probed(scores))
        [scores_of_probed] = comparable([scores])
        result = EvaluationResult(
            as_of=data.last_as_of,
            splits=splits,
            release=opened.path.name,
            model_version=opened.model_version,
            users={group.scenario: group.users for group in data.groups},
            left_out=data.left_out,
            not_probed=not_probed(scores),
            tuned={group.scenario: tuned[group.scenario]["users"] for group in data.groups if group.scenario in tuned},
            **_figures(scores_of_probed),
            worth=instruction_worth(inputs, few),
            questions=question_scores(opened),
            next=_next_step(deployment, opened),
            seconds=run.seconds(),
        )
        run.details |= {"auc": result.auc, "ks": result.ks, "gate": result.worth.gate}
        write_evaluation(releases_folder(deployment), result, [*scores_of_probed, *few])
        return result


def _next_step(deployment: Deployment, release: Release) -> str | None:
    if has_current_release(deployment) and current_release(deployment) == release.path:
        return None
    name = "" if candidate_release(deployment) == release.path else f" {release.path.name}"
    return f"`instructue promote{name}` makes this release the current one"


def _split_seeds(data: LabelledData, tuned: dict[str, dict[str, Any]], splits: int) -> dict[str, tuple[str, ...]]:
    """Return the splits of each scenario; a tuned scenario has the one split on whose fit half it was tuned."""
    seeds = {group.scenario: split_seeds(splits) for group in data.groups}
    return seeds | {name: (facts["salt"],) for name, facts in tuned.items()}


def _score(
    inputs: Inputs, seeds: dict[str, tuple[str, ...]], tuned: dict[str, dict[str, Any]], progress: Progress
) -> tuple[list[Score], list[Score]]:
    """Return the scores of the probes, and those at few labels of the scenarios that could be probed."""
    probes = _probes(inputs.data, inputs.instructions, inputs.hand_made, seeds)
    tasks = inputs.tasks(seeds, {name: facts["users"] for name, facts in tuned.items()})
    total = len(probes) + count_jobs(tasks)
    scores: list[Score] = [*score(probes, lambda done, _: progress(done, total))]
    failed = not_probed(scores)
    probed = [task for task in tasks if task.group.scenario not in failed]
    few = score_few_labels(probed, inputs.features(), lambda done, _: progress(len(probes) + done, total))
    names = {task.group.scenario for task in probed}
    return scores, [*few, *trees_with_all([one for one in scores if one["scenario"] in names])]


def _probes(
    data: LabelledData, instructions: Instructions, features: Features | None, seeds: dict[str, tuple[str, ...]]
) -> list[Probe]:
    """Return the probes of every scenario and method, in the order of `METHODS`."""
    vectors = instructions.served
    probes = []
    for group in data.groups:
        universal, manual = (vectors[name][group.row_U] for name in (UNIVERSAL, group.scenario))
        inputs: dict[str, NDArray[Any]] = dict(
            zip(VECTORS, (universal, manual, np.hstack([universal, manual])), strict=True)
        )
        if features is not None:
            inputs |= {REGRESSION: features.filled[group.row_U], LIGHTGBM: features.values[group.row_U]}
        probes += [
            Probe(
                group=group,
                method=method,
                features=values,
                split_seeds=seeds[group.scenario],
                classifier="LightGBM" if method == LIGHTGBM else "regression",
            )
            for method, values in inputs.items()
        ]
    return probes


def _figures(scores: Sequence[Score]) -> dict[str, Any]:
    """Return means and standard deviations, and each vector's difference from the best baseline, split by split."""
    measures: tuple[Measure, ...] = ("auc", "ks")
    figures: dict[str, Any] = {}
    for measure in measures:
        values = split_values(scores, measure)
        figures[measure] = {name: _rounded(methods, np.mean) for name, methods in values.items()}
        figures[f"{measure}_std"] = {name: _rounded(methods, np.std) for name, methods in values.items()}
    best: dict[str, str] = {}
    differences: dict[str, dict[str, NDArray[np.float64]]] = {}
    for scenario, aucs in split_values(scores, "auc").items():
        means = {method: aucs[method].mean() for method in BASELINES if method in aucs}
        if means:
            best[scenario] = max(means, key=means.__getitem__)
            differences[scenario] = {vector: aucs[vector] - aucs[best[scenario]] for vector in VECTORS}
    return figures | {
        "best_baseline": best,
        "difference": {name: _rounded(methods, np.mean) for name, methods in differences.items()},
        "difference_std": {name: _rounded(methods, np.std) for name, methods in differences.items()},
        "unconverged": unconverged(scores),
    }


def _rounded(values: dict[str, NDArray[np.float64]], statistic: Any) -> dict[str, float]:
    return {method: round(float(statistic(values_S)), 4) for method, values_S in values.items()}
