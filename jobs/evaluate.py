"""Evaluate: how much of each scenario's labels a release's vectors know, and what rivals know by hand.

Users are embedded as production would have embedded them: their latest profile at or before the label's as_of, by the
released graphs. A logistic regression is fitted on half of them and scored on the other, five times; the rivals, a
logistic regression and LightGBM on features made by hand of the same profiles, on the same halves.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from joblib import Parallel, delayed
from numpy.typing import NDArray

from jobs import lake, runs
from jobs.blocks import Scenario
from jobs.deployment import UNIVERSAL, Deployment
from jobs.failures import opening
from jobs.releases import check_shaping, folder, open_release
from jobs.rivals import features
from jobs.runs import Record
from model.errors import InstructUEError
from model.probe import ProbeError, ProbeResult, probe, rival
from model.runtime import Runtime

METHODS = ("universal", "instructed", "universal and instructed", "by hand, regression", "by hand, LightGBM")
Table = dict[str, dict[str, float]]
"""Scenario to method to a figure."""
Results = dict[tuple[str, str], ProbeResult]
"""By scenario and method."""
Fit = Callable[..., ProbeResult]
LABELS: dict[str, tuple[Callable[[pa.DataType], bool], str]] = {
    "user_id": (lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind), "texts"),
    "as_of": (lambda kind: pa.types.is_timestamp(kind) and kind.tz is not None, "UTC timestamps"),
    "scenario": (lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind), "texts"),
    "label": (pa.types.is_integer, "whole numbers, 0 and 1"),
}
"""The columns of a table of labels."""


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
    not_probed: dict[str, str]
    """Why, by scenario; it has no figures then."""
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
        No scenario has labels, a table of them is not what it must be, no labelled user has a profile, or no scenario
        could be probed.
    ReleaseError
        The release would not make this deployment's vectors, or the profiles were made as another file says.
    TableError
        A table is missing, or a day of profiles was left half replaced.
    """
    judged = [scenario for scenario in deployment.scenarios if scenario.labels]
    if not judged:
        raise EvaluationError(f"{deployment.path}: no scenario has labels; name a table under scenarios.*.labels")
    found = open_release(deployment, release)
    labels = _all_labels(deployment, judged)
    as_of = max(pc.max(table["as_of"]).as_py() for table in labels.values()).date()
    with Record.kept(deployment, "evaluate", as_of) as run:
        profiles, row = _profiles(run, labels)
        groups = [_labelled(name, table, row) for name, table in labels.items()]
        left_out = {group.scenario: len(labels[group.scenario]) - len(group.user_ids) for group in groups}
        vectors_UKH = Runtime(found, providers=deployment.model.providers).embed(
            profiles, [UNIVERSAL, *(scenario.name for scenario in judged)])
        results, failed = _probe_all(groups, vectors_UKH, _by_hand(deployment, profiles) if rivals else None, told)
        run.model_version, run.rows_in = found.model_version, sum(len(table) for table in labels.values())
        run.left_out = {f"{name}: no profile": count for name, count in left_out.items() if count}
        run.left_out |= {f"{group.scenario}: not probed": len(group.user_ids) for group in groups
                         if group.scenario in failed}
        run.details = {"release": found.path.name, "not_probed": failed}
        if not results:
            raise EvaluationError("no scenario could be probed:\n"
                                  + "\n".join(f"  {name}: {why}" for name, why in failed.items()))
        done = Evaluated(
            as_of=as_of, release=found.path.name, model_version=found.model_version,
            users={group.scenario: len(group.user_ids) for group in groups}, left_out=left_out, not_probed=failed,
            auc=_figures(results, "auc"), auc_std=_figures(results, "auc_std"),
            ks=_figures(results, "ks"), ks_std=_figures(results, "ks_std"), seconds=run.seconds())
        run.details |= {"auc": done.auc, "ks": done.ks}
        _write(deployment, done, results)
        return done


def _all_labels(deployment: Deployment, judged: Sequence[Scenario]) -> dict[str, pa.Table]:
    """Each scenario's labels; all mistakes of their tables at once."""
    tables: dict[str, pa.Table] = {}
    mistakes: list[str] = []
    for scenario in judged:
        key = f"scenarios.{scenario.name}.labels = {scenario.labels}"
        labels = lake.opened(deployment, str(scenario.labels))
        with opening(labels.table_uri):
            whole = labels.to_pyarrow_dataset()
            wrong = _wrong_columns(whole.schema)
            if not wrong:
                tables[scenario.name] = table = whole.to_table(columns=[*LABELS],
                                                               filter=pc.field("scenario") == scenario.name)
                wrong = _wrong_rows(table, scenario.name)
        mistakes += [f"  {key}: {words}" for words in wrong]
    if mistakes:
        raise EvaluationError(f"{deployment.path}: {len(mistakes)} mistake(s)\n" + "\n".join(mistakes))
    return tables


def _wrong_columns(schema: pa.Schema) -> list[str]:
    missing = [f"there is no column {name}; write one of {kind}" for name, (_, kind) in LABELS.items()
               if name not in schema.names]
    return missing + [f"column {name} is {schema.field(name).type}; write {kind}"
                      for name, (fits, kind) in LABELS.items()
                      if name in schema.names and not fits(schema.field(name).type)]


def _wrong_rows(table: pa.Table, scenario: str) -> list[str]:
    if not len(table):
        return [f"there is no row of scenario {scenario!r}; name another table, or remove the key"]
    empty = [f"{table[name].null_count} rows of scenario {scenario!r} have no {name}; fill it, or remove the rows"
             for name in ("user_id", "as_of", "label") if table[name].null_count]
    values = sorted({*pc.unique(table["label"]).to_pylist()} - {0, 1, None})
    return empty + [f"scenario {scenario!r} has labels such as {value}; write 0 and 1" for value in values[:1]]


def _profiles(run: Record, labels: dict[str, pa.Table]) -> tuple[pa.Table, dict[tuple[str, object], int]]:
    """The profiles that the labels need, and the row of each (user, as_of) that has one."""
    wanted = {as_of for table in labels.values() for as_of in pc.unique(table["as_of"]).to_pylist()}
    users = pa.concat_arrays([pc.unique(table["user_id"]) for table in labels.values()])
    table, last = run.open("user_profiles"), max(wanted).date()
    _check_assembled(run.deployment, {day for day in lake.days(table) if day <= last}, last)
    there = lake.rows(table, filters=(pc.field("day") <= last) & pc.field("user_id").isin(pc.unique(users)))
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


def _check_assembled(deployment: Deployment, days: set[date], last: date) -> None:
    """Refuse days of profiles that were left half replaced, and profiles that another deployment file made."""
    assembled = runs.read(deployment, "assemble", last=last)
    for run in assembled:
        if run.day in days:
            run.require_ok()
    for run in assembled[-1:]:
        check_shaping(deployment, run)


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
               told: Callable[[int, int], None]) -> tuple[Results, dict[str, str]]:
    """By scenario and method, each on a core of its own; and why, for each scenario that could not be probed."""
    work = []
    for number, group in enumerate(groups, start=1):
        universal, instructed = vectors_UKH[group.row_U, 0], vectors_UKH[group.row_U, number]
        given = [(probe, universal), (probe, instructed), (probe, np.hstack([universal, instructed]))]
        if by_hand is not None:
            given += [(probe, by_hand[0][group.row_U]), (rival, by_hand[1][group.row_U])]
        work += [(group, method, fit, features) for method, (fit, features) in zip(METHODS, given, strict=False)]
    told(0, len(work))
    results: Results = {}
    failed: dict[str, str] = {}
    fitted = Parallel(n_jobs=-1, return_as="generator", max_nbytes="1M")(
        delayed(_tried)(fit, features, group) for group, _, fit, features in work)
    for done, ((group, method, _, _), result) in enumerate(zip(work, fitted, strict=True), start=1):
        if isinstance(result, ProbeResult):
            results[group.scenario, method] = result
        else:
            failed.setdefault(group.scenario, result)
        told(done, len(work))
    return {key: result for key, result in results.items() if key[0] not in failed}, failed


def _tried(fit: Fit, features: NDArray[np.floating[Any]], group: Labelled) -> ProbeResult | str:
    """The figures, or why there are none: one scenario with too few labels must not cost the others theirs."""
    try:
        return fit(features, group.label_U, group.user_ids)
    except ProbeError as error:
        return str(error)


def _figures(results: Results, figure: str) -> Table:
    table: Table = {}
    for (scenario, method), result in results.items():
        table.setdefault(scenario, {})[method] = round(getattr(result, figure), 4)
    return table


def _write(deployment: Deployment, done: Evaluated, results: Results) -> None:
    """Write every half's score beside the releases: a release itself never changes."""
    path = folder(deployment) / "evaluations" / f"{done.release}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    halves = [{"scenario": scenario, "method": method, **asdict(score)}
              for (scenario, method), result in results.items() for score in result.scores]
    part = path.with_suffix(".part")
    part.write_text(json.dumps(asdict(done) | {"halves": halves}, indent=2, default=str) + "\n", encoding="utf-8")
    part.replace(path)
