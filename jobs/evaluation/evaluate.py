"""Evaluate: how much of each scenario's labels a release's vectors know, and what rivals know by hand.

Users are embedded as production would have embedded them: their latest profile at or before the label's as_of, by the
released graphs. A logistic regression is fitted on half of them and scored on the other, several times; the rivals,
a logistic regression and LightGBM on features made by hand of the same profiles, on the same halves.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from joblib import Parallel, delayed
from numpy.typing import NDArray

from jobs.config.deployment import UNIVERSAL, Deployment
from jobs.evaluation.baselines import hand_made_features
from jobs.lake.run_log import RunRecord
from jobs.training.labels import LabelledUsers, labelled_profiles, read_labels
from jobs.training.registry import candidate_release, open_release, releases_folder, tuned_scenarios
from model.atomic_write import atomic_write_text
from model.errors import InstructUEError
from model.progress import Progress, no_progress
from model.serving.onnx_runtime import Runtime
from model.training.probe import SPLITS, ProbeError, ProbeResult, probe, probe_baseline, split_seeds

METHODS = ("universal", "instructed", "universal and instructed", "by hand, regression", "by hand, LightGBM")
VECTORS, BY_HAND = METHODS[:3], METHODS[3:]
Table = dict[str, dict[str, float]]
"""Scenario to method to a figure."""
Results = dict[tuple[str, str], ProbeResult]
"""By scenario and method."""
Fit = Callable[..., ProbeResult]


class EvaluationError(InstructUEError):
    """Labels that nothing can be measured on."""


@dataclass(frozen=True, kw_only=True)
class EvaluationResult:
    """What one evaluation found; means and standard deviations over salted halves."""

    as_of: date
    """The last as_of of a label."""
    halves: int
    """Pairs of halves that the users were divided into."""
    release: str
    model_version: str
    users: dict[str, int]
    """Labelled users with a profile, by scenario."""
    left_out: dict[str, int]
    """Labelled users without a profile at the label's as_of, by scenario."""
    not_probed: dict[str, str]
    """Why, by scenario; it has no figures then."""
    tuned: dict[str, int]
    """Users that a scenario's instruction was tuned on; it is probed on the one pair of halves whose scored users
    are none of them."""
    auc: Table
    auc_std: Table
    ks: Table
    ks_std: Table
    best_by_hand: dict[str, str]
    """The rival with the higher AUC, by scenario; empty where none was fitted."""
    over: Table
    """Each vector's AUC less that rival's on the same halves."""
    over_std: Table
    seconds: float


def evaluate(
    deployment: Deployment,
    *,
    release: str | Path | None = None,
    rivals: bool = True,
    halves: int = SPLITS,
    progress: Progress = no_progress,
) -> EvaluationResult:
    """Probe every scenario that has labels; the figures are also written beside the releases.

    Parameters
    ----------
    release : str or Path, optional
        A release's name or folder; None: the newest candidate, or the current release where there is none.
    rivals : bool
        Whether to fit the rivals too, which takes most of the time.
    halves : int
        How often the users are halved; the first five are always the same.
    progress : callable
        Takes how many probes are done, and of how many.

    Raises
    ------
    EvaluationError
        No scenario has labels, or none could be probed.
    LabelError
        A table of labels is not what it must be, or no labelled user has a profile.
    ReleaseError
        The release would not make this deployment's vectors, or the profiles were made as another file says.
    TableError
        A table is missing, or a day of profiles was left half replaced.
    """
    judged = [scenario for scenario in deployment.scenarios if scenario.labels]
    if not judged:
        raise EvaluationError(f"{deployment.path}: no scenario has labels; name a table under scenarios.*.labels")
    found = open_release(deployment, release or candidate_release(deployment))
    labels = read_labels(deployment, judged)
    as_of = max(pc.max(table["as_of"]).as_py() for table in labels.values()).date()
    with RunRecord.kept(deployment, "evaluate", as_of) as run:
        profiles, groups = labelled_profiles(deployment, run.open("user_profiles"), labels)
        left_out = {group.scenario: len(labels[group.scenario]) - len(group.user_ids) for group in groups}
        vectors_UKH = Runtime(found, providers=deployment.model.providers).embed(
            profiles, [UNIVERSAL, *(scenario.name for scenario in judged)]
        )
        learned = tuned_scenarios(found)
        salts = {group.scenario: split_seeds(halves) for group in groups}
        salts |= {name: (facts["salt"],) for name, facts in learned.items()}
        results, failed = _probe_all(
            groups, vectors_UKH, _by_hand(deployment, profiles) if rivals else None, salts, progress
        )
        run.model_version, run.rows_in = found.model_version, sum(len(table) for table in labels.values())
        run.left_out = {f"{name}: no profile": count for name, count in left_out.items() if count}
        run.left_out |= {
            f"{group.scenario}: not probed": len(group.user_ids) for group in groups if group.scenario in failed
        }
        run.details = {"release": found.path.name, "not_probed": failed}
        if not results:
            raise EvaluationError(
                "no scenario could be probed:\n" + "\n".join(f"  {name}: {why}" for name, why in failed.items())
            )
        best, over, over_std = _over(results)
        done = EvaluationResult(
            as_of=as_of,
            halves=halves,
            release=found.path.name,
            model_version=found.model_version,
            users={group.scenario: len(group.user_ids) for group in groups},
            left_out=left_out,
            not_probed=failed,
            tuned={group.scenario: learned[group.scenario]["users"] for group in groups if group.scenario in learned},
            auc=_figures(results, "auc"),
            auc_std=_figures(results, "auc_std"),
            ks=_figures(results, "ks"),
            ks_std=_figures(results, "ks_std"),
            best_by_hand=best,
            over=over,
            over_std=over_std,
            seconds=run.seconds(),
        )
        run.details |= {"auc": done.auc, "ks": done.ks}
        _write(deployment, done, results)
        return done


def _by_hand(deployment: Deployment, profiles: pa.Table) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    made = hand_made_features(
        profiles, [source.name for source in deployment.sources], deployment.numbers, deployment.categories
    )
    return made.filled, made.values


def _probe_all(
    groups: list[LabelledUsers],
    vectors_UKH: NDArray[np.float32],
    by_hand: tuple[NDArray[np.float64], NDArray[np.float64]] | None,
    salts: dict[str, tuple[str, ...]],
    progress: Progress,
) -> tuple[Results, dict[str, str]]:
    """By scenario and method, each on a core of its own; and why, for each scenario that could not be probed."""
    work = []
    for number, group in enumerate(groups, start=1):
        universal, instructed = vectors_UKH[group.row_U, 0], vectors_UKH[group.row_U, number]
        given = [(probe, universal), (probe, instructed), (probe, np.hstack([universal, instructed]))]
        if by_hand is not None:
            given += [(probe, by_hand[0][group.row_U]), (probe_baseline, by_hand[1][group.row_U])]
        work += [(group, method, fit, features) for method, (fit, features) in zip(METHODS, given, strict=False)]
    progress(0, len(work))
    results: Results = {}
    failed: dict[str, str] = {}
    fitted = Parallel(n_jobs=-1, return_as="generator", max_nbytes="1M")(
        delayed(_tried)(fit, features, group, salts[group.scenario]) for group, _, fit, features in work
    )
    for done, ((group, method, _, _), result) in enumerate(zip(work, fitted, strict=True), start=1):
        if isinstance(result, ProbeResult):
            results[group.scenario, method] = result
        else:
            failed.setdefault(group.scenario, result)
        progress(done, len(work))
    return {key: result for key, result in results.items() if key[0] not in failed}, failed


def _tried(
    fit: Fit, features: NDArray[np.floating[Any]], group: LabelledUsers, salts: tuple[str, ...]
) -> ProbeResult | str:
    """The figures, or why there are none: one scenario with too few labels must not cost the others theirs."""
    try:
        return fit(features, group.label_U, group.user_ids, split_seeds=salts)
    except ProbeError as error:
        return str(error)


def _figures(results: Results, figure: str) -> Table:
    table: Table = {}
    for (scenario, method), result in results.items():
        table.setdefault(scenario, {})[method] = round(getattr(result, figure), 4)
    return table


def _over(results: Results) -> tuple[dict[str, str], Table, Table]:
    """The better rival of each scenario, and each vector's AUC less its own, half by half: mean and deviation."""
    best: dict[str, str] = {}
    over: Table = {}
    over_std: Table = {}
    for scenario in dict.fromkeys(scenario for scenario, _ in results):
        rivals = {method: results[scenario, method].auc for method in BY_HAND if (scenario, method) in results}
        if not rivals:
            continue
        best[scenario] = max(rivals, key=rivals.__getitem__)
        less = {vector: results[scenario, vector].aucs - results[scenario, best[scenario]].aucs for vector in VECTORS}
        over[scenario] = {vector: round(float(less_S.mean()), 4) for vector, less_S in less.items()}
        over_std[scenario] = {vector: round(float(less_S.std()), 4) for vector, less_S in less.items()}
    return best, over, over_std


def _write(deployment: Deployment, done: EvaluationResult, results: Results) -> None:
    """Write every half's score beside the releases: a release itself never changes."""
    path = releases_folder(deployment) / "evaluations" / f"{done.release}.json"
    scores = [
        {"scenario": scenario, "method": method, **asdict(score)}
        for (scenario, method), result in results.items()
        for score in result.scores
    ]
    atomic_write_text(path, json.dumps(asdict(done) | {"scores": scores}, indent=2, default=str) + "\n")
