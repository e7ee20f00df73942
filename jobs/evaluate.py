"""Evaluate: how much of each scenario's labels a release's vectors know, and what rivals know by hand.

Users are embedded as production would have embedded them: their latest profile at or before the label's as_of, by the
released graphs. A logistic regression is fitted on half of them and scored on the other, five times; the rivals, a
logistic regression and LightGBM on features made by hand of the same profiles, on the same halves.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from joblib import Parallel, delayed
from numpy.typing import NDArray

from jobs import lake
from jobs.deployment import UNIVERSAL, Deployment, Scenario
from jobs.lake import Run
from jobs.releases import folder, open_release
from jobs.rivals import features
from model.errors import InstructUEError
from model.probe import ProbeResult, probe, rival
from model.runtime import Runtime

METHODS = ("universal", "instructed", "universal and instructed", "by hand, regression", "by hand, LightGBM")
Table = dict[str, dict[str, float]]
"""Scenario to method to a figure."""


class EvaluationError(InstructUEError):
    """Labels that nothing can be measured on."""


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """What one evaluation found; means and standard deviations over five salted halves."""

    as_of: date
    """The last as_of of a label."""
    release: str
    model_version: str
    users: dict[str, int]
    """Labelled users with a profile, by scenario."""
    left_out: dict[str, int]
    """Labelled users without a profile at the label's as_of, by scenario."""
    auc: Table
    auc_std: Table
    ks: Table
    ks_std: Table
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """The users of a scenario: `row_U` are their rows in the table of profiles."""

    scenario: str
    user_ids: list[str]
    row_U: NDArray[np.int64]
    label_U: NDArray[np.int64]


def evaluate(deployment: Deployment, *, release: str | Path | None = None, rivals: bool = True,
             told: Callable[[int, int], None] = lambda done, total: None) -> Evaluated:
    """Probe every scenario that has labels; the figures are also written beside the releases.

    Parameters
    ----------
    release : str or Path, optional
        A release's folder; None: the one that jobs use.
    rivals : bool
        Whether to fit the rivals too, which takes most of the time.
    told : callable
        Takes how many probes are done, and of how many.

    Raises
    ------
    EvaluationError
        No scenario has labels, or none of them a user with a profile.
    ReleaseError
        The release would not make this deployment's vectors.
    """
    judged = [scenario for scenario in deployment.scenarios if scenario.labels]
    if not judged:
        raise EvaluationError(f"{deployment.path}: no scenario has labels; name a table under scenarios.*.labels")
    found = open_release(deployment, release)
    labels = {scenario.name: _labels(deployment, scenario) for scenario in judged}
    as_of = max(pc.max(table["as_of"]).as_py() for table in labels.values()).date()
    with lake.recorded(deployment, "evaluate", as_of) as run:
        profiles, row = _profiles(run, labels)
        groups = [_labelled(name, table, row) for name, table in labels.items()]
        left_out = {group.scenario: len(labels[group.scenario]) - len(group.user_ids) for group in groups}
        vectors_UKH = Runtime(found, providers=deployment.model.providers).embed(
            profiles, [UNIVERSAL, *(scenario.name for scenario in judged)])
        results = _probe_all(groups, vectors_UKH, _by_hand(deployment, profiles) if rivals else None, told)
        run.model_version, run.rows_in = found.model_version, sum(len(table) for table in labels.values())
        run.left_out = {f"{name}: no profile": count for name, count in left_out.items() if count}
        done = Evaluated(
            as_of=as_of, release=found.path.name, model_version=found.model_version,
            users={group.scenario: len(group.user_ids) for group in groups}, left_out=left_out,
            auc=_figures(results, "auc"), auc_std=_figures(results, "auc_std"),
            ks=_figures(results, "ks"), ks_std=_figures(results, "ks_std"), seconds=run.seconds())
        run.details = {"release": done.release, "auc": done.auc, "ks": done.ks}
        _write(deployment, done, results)
        return done


def _labels(deployment: Deployment, scenario: Scenario) -> pa.Table:
    assert scenario.labels is not None
    table = lake.opened(deployment, scenario.labels).to_pyarrow_table(
        columns=["user_id", "as_of", "scenario", "label"], filters=[("scenario", "=", scenario.name)])
    if not len(table):
        raise EvaluationError(f"{deployment.table(scenario.labels)} has no row of scenario {scenario.name!r}; "
                              "correct scenarios.*.labels, or remove the key")
    return table


def _profiles(run: Run, labels: dict[str, pa.Table]) -> tuple[pa.Table, dict[tuple[str, object], int]]:
    """The profiles that the labels need, and the row of each (user, as_of) that has one."""
    wanted = {as_of for table in labels.values() for as_of in pc.unique(table["as_of"]).to_pylist()}
    users = pa.concat_arrays([pc.unique(table["user_id"]) for table in labels.values()])
    there = run.open("user_profiles").to_pyarrow_table(filters=(pc.field("day") <= max(wanted).date())
                                                       & pc.field("user_id").isin(pc.unique(users)))
    order = pc.sort_indices(there, [("as_of", "ascending")])
    keys = list(zip(there["user_id"].take(order).to_pylist(), there["as_of"].take(order).to_pylist(),
                    there["profile_hash"].take(order).is_valid().to_pylist(), order.to_pylist(), strict=True))
    rows: dict[tuple[str, object], int] = {}
    for as_of in wanted:
        latest = {user: row if valid else None for user, at, valid, row in keys if at <= as_of}
        rows |= {(user, as_of): row for user, row in latest.items() if row is not None}
    if not rows:
        raise EvaluationError(f"no labelled user has a profile at {min(wanted):%Y-%m-%d}: run "
                              f"`instructue assemble --as-of {min(wanted):%Y-%m-%d}`")
    kept = sorted(set(rows.values()))
    place = {row: position for position, row in enumerate(kept)}
    return there.take(kept), {key: place[row] for key, row in rows.items()}


def _labelled(scenario: str, labels: pa.Table, row: dict[tuple[str, object], int]) -> Labelled:
    found = [(user, row[user, as_of], label) for user, as_of, label in zip(
        labels["user_id"].to_pylist(), labels["as_of"].to_pylist(), labels["label"].to_pylist(), strict=True)
        if (user, as_of) in row]
    return Labelled(scenario=scenario, user_ids=[user for user, _, _ in found],
                    row_U=np.array([at for _, at, _ in found], np.int64),
                    label_U=np.array([label for _, _, label in found], np.int64))


def _by_hand(deployment: Deployment, profiles: pa.Table) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    made = features(profiles, [source.name for source in deployment.sources], deployment.numbers,
                    deployment.categories)
    return made.filled, made.values


def _probe_all(groups: list[Labelled], vectors_UKH: NDArray[np.float32],
               by_hand: tuple[NDArray[np.float64], NDArray[np.float64]] | None,
               told: Callable[[int, int], None]) -> dict[tuple[str, str], ProbeResult]:
    """By scenario and method; each on a core of its own."""
    work = []
    for number, group in enumerate(groups, start=1):
        universal, instructed = vectors_UKH[group.row_U, 0], vectors_UKH[group.row_U, number]
        given = [(probe, universal), (probe, instructed), (probe, np.hstack([universal, instructed]))]
        if by_hand is not None:
            given += [(probe, by_hand[0][group.row_U]), (rival, by_hand[1][group.row_U])]
        work += [(group, method, fit, features) for method, (fit, features) in zip(METHODS, given, strict=False)]
    told(0, len(work))
    results = {}
    fitted = Parallel(n_jobs=-1, return_as="generator", max_nbytes="1M")(
        delayed(fit)(features, group.label_U, group.user_ids) for group, _, fit, features in work)
    for done, ((group, method, _, _), result) in enumerate(zip(work, fitted, strict=True), start=1):
        results[group.scenario, method] = result
        told(done, len(work))
    return results


def _figures(results: dict[tuple[str, str], ProbeResult], figure: str) -> Table:
    table: Table = {}
    for (scenario, method), result in results.items():
        table.setdefault(scenario, {})[method] = round(getattr(result, figure), 4)
    return table


def _write(deployment: Deployment, done: Evaluated, results: dict[tuple[str, str], ProbeResult]) -> None:
    """Write every half's score beside the releases: a release itself never changes."""
    path = folder(deployment) / "evaluations" / f"{done.release}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    halves = [{"scenario": scenario, "method": method, **asdict(score)}
              for (scenario, method), result in results.items() for score in result.scores]
    part = path.with_suffix(".part")
    part.write_text(json.dumps(asdict(done) | {"halves": halves}, indent=2, default=str) + "\n", encoding="utf-8")
    part.replace(path)
