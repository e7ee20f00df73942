"""Tune: a scenario's labels and the current release -> a candidate whose instruction is learned from labels (eq. 6).

The candidate has the same graphs and `model_version`, so `embed` computes that scenario alone. The shots are drawn from
the fit half of the probe's first split, so `evaluate` can score the tuned vectors on users that tuning has not seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.config.deployment import Deployment
from jobs.config.sections import Scenario
from jobs.lake.delta import job_lock
from jobs.lake.run_log import RunRecord
from jobs.training.export import SAMPLE_SIZE, register_release
from jobs.training.labels import LabelSet, labelled_profiles, read_labels
from jobs.training.registry import open_release, source_checkpoint, tuned_scenarios
from model.errors import InstructUEError
from model.progress import Progress, no_progress
from model.serving.release import Release
from model.training.probe import SPLIT_SEEDS, fit_half

if TYPE_CHECKING:
    from model.training.tuning import TuningConfig, TuningResult

SPLIT_SEED = SPLIT_SEEDS[0]


class TuneError(InstructUEError):
    """A scenario that cannot be tuned."""


@dataclass(frozen=True, kw_only=True)
class TuneResult:
    """The result of one run of tune."""

    as_of: date
    """The last as_of of a label."""
    scenario: str
    release: Path
    model_version: str
    users: int
    """Users tuned with."""
    left_out: dict[str, int]
    """Labels that were not tuned with, by reason."""
    classes: dict[str, int]
    """The number of these users by label."""
    note: str | None
    """How the result differs from what was requested; None: it does not."""
    step: int
    """The chosen step; 0: on the held-out users no step was surely better than the manual instruction."""
    probe: float
    """Log loss of a regression on the held-out users, with the tuned instruction."""
    probe_manual: float
    """The same with the manual instruction."""
    next: str
    """The next step."""
    seconds: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Shots:
    """The labelled users to tune on."""

    profiles: pa.Table
    label_S: NDArray[np.int64]
    user_S: NDArray[np.str_]
    """The user of each shot; a user may have labels at several times."""
    users_in_half: int
    """Users with a profile in the fit half."""

    @property
    def users(self) -> int:
        """Number of different users."""
        return len({*self.user_S})

    @property
    def classes(self) -> dict[str, int]:
        """Number of labels by class."""
        names, counts = np.unique(self.label_S, return_counts=True)
        return {str(name): int(count) for name, count in zip(names, counts, strict=True)}


def tune(
    deployment: Deployment,
    scenario: str,
    *,
    shots: int | None = None,
    seed: int = 0,
    from_checkpoint: Path | None = None,
    config: TuningConfig | None = None,
    promote: bool = False,
    progress: Progress = no_progress,
) -> TuneResult:
    """Tune a scenario's instruction on its labels, and make the current release with that instruction a candidate.

    Parameters
    ----------
    shots : int, optional
        The number of labelled users to tune on, in the proportion of the classes; None: all of the fit half.
    seed : int
        Selects the users.
    from_checkpoint : Path, optional
        A checkpoint's folder; None: the one that the current release came from.
    config : TuningConfig, optional
        The settings of the optimiser; None: the defaults.
    promote : bool
        Promote the release at once.
    progress : callable
        Called with the steps done and their number.

    Raises
    ------
    TuneError, LabelError, model.training.tuning.TuningError
        The scenario, its labels or the number of shots cannot be used.
    NoCheckpointError, ReleaseError
        The current release or its checkpoint cannot be used, or the new release failed a gate.
    """
    target = _scenario(deployment, scenario)
    labels = read_labels(deployment, [target], yes_or_no=False)[scenario]
    as_of = pc.max(labels.rows["as_of"]).as_py().date()
    with RunRecord.kept(deployment, "tune", as_of) as run, job_lock(deployment, "export"):  # both make a candidate
        base = open_release(deployment)
        checkpoint = from_checkpoint or source_checkpoint(deployment, base)
        drawn = _draw(run, target, labels, shots, seed)
        tuned, settings = _learn(checkpoint, target, drawn, config, seed, progress)
        facts = _facts(target, drawn, tuned, settings, shots=shots, seed=seed, as_of=as_of)
        release, next_step = base, "none: the current release stays as it is"
        if tuned.step or scenario in tuned_scenarios(base):  # vectors of an earlier tuning are replaced in any case
            release = _with_tuned(deployment, base, checkpoint, scenario, tuned, facts, drawn)
            next_step = register_release(deployment, release, promote=promote)
        _record(run, release, checkpoint, scenario, facts)
        note = _note(shots, drawn, tuned, is_new=release is not base)
        return _result(run, scenario, release, drawn, tuned, note, next_step)


def _scenario(deployment: Deployment, name: str) -> Scenario:
    """Return the scenario of that name, which must have labels."""
    for scenario in deployment.scenarios:
        if scenario.name == name:
            if scenario.labels is None:
                raise TuneError(
                    f"{deployment.path}: scenario {name!r} has no labels to tune on; name a table under "
                    f"scenarios.{name}.labels"
                )
            return scenario
    known = ", ".join(scenario.name for scenario in deployment.scenarios) or "none yet"
    raise TuneError(f"{deployment.path}: there is no scenario {name!r} with an instruction; use one of {known}")


def _draw(run: RunRecord, target: Scenario, labels: LabelSet, shots: int | None, seed: int) -> Shots:
    """Draw the shots from the labelled users of the fit half who have a profile, and record what is left out."""
    from model.training.shots import draw_shots

    name = target.name
    profiles, [group], left_out = labelled_profiles(run.deployment, run.open("user_profiles"), {name: labels})
    users = np.array(group.user_ids)
    half = np.flatnonzero(fit_half(group.user_ids, SPLIT_SEED))
    drawn = half[draw_shots(group.label_U[half], shots, seed, user_ids=users[half])]
    run.versions |= {labels.table: labels.version} if labels.version is not None else {}
    run.rows_in = labels.rows_in
    run.left_out = left_out[name].reasons(name) | {
        f"{name}: not in the fit half of {SPLIT_SEED}": len(group.user_ids) - len(half),
        f"{name}: not drawn": len(half) - len(drawn),
    }
    return Shots(
        profiles=profiles.take(group.row_U[drawn]),
        label_S=group.label_U[drawn],
        user_S=users[drawn],
        users_in_half=len({*users[half]}),
    )


def _learn(
    checkpoint: Path, target: Scenario, shots: Shots, config: TuningConfig | None, seed: int, progress: Progress
) -> tuple[TuningResult, TuningConfig]:
    """Learn the scenario's vectors, starting from the instruction of the file; return them and the settings."""
    from model.network.kv_cache import ProfileKVCache
    from model.training.checkpoint import load_checkpoint
    from model.training.processes import processes
    from model.training.tuning import TuningConfig, start_vectors
    from model.training.tuning import tune as learn

    network, tokenizers, _ = load_checkpoint(checkpoint)
    network.to(processes().device)
    cache = ProfileKVCache(network, tokenizers, shots.profiles)
    settings = config or TuningConfig()
    tuned = learn(
        cache,
        np.arange(len(cache)),
        shots.label_S,
        start_vectors(network, tokenizers, target.instruction),
        user_ids=shots.user_S,
        config=settings,
        seed=seed,
        progress=progress,
    )
    return tuned, settings


def _facts(
    target: Scenario,
    drawn: Shots,
    tuned: TuningResult,
    settings: TuningConfig,
    *,
    shots: int | None,
    seed: int,
    as_of: date,
) -> dict[str, Any]:
    """Return the entry of the tuning in `metrics.json` of the release."""
    return {
        "instruction": target.instruction,
        "shots": "all" if shots is None else shots,
        "users": drawn.users,
        "classes": drawn.classes,
        "seed": seed,
        "salt": SPLIT_SEED,  # the key that releases written before have
        "half": "fit",
        "labels_as_of": as_of.isoformat(),
        "step": tuned.step,
        "held_out": tuned.held_out,
        "settings": asdict(settings),
        "curve": [asdict(check) for check in tuned.curve],
    }


def _with_tuned(
    deployment: Deployment,
    base: Release,
    checkpoint: Path,
    scenario: str,
    tuned: TuningResult,
    facts: Mapping[str, Any],
    shots: Shots,
) -> Release:
    """Return a release with the base's graphs and the scenario's tuned vectors."""
    from model.serving.export import add_tuned

    return add_tuned(
        base,
        checkpoint,
        scenario,
        tuned.vectors,
        facts,
        profiles=shots.profiles.slice(0, SAMPLE_SIZE),
        deployment=deployment.path.read_text(encoding="utf-8"),
    )


def _record(run: RunRecord, release: Release, checkpoint: Path, scenario: str, facts: Mapping[str, Any]) -> None:
    """Note in the run what was used."""
    run.model_version = release.model_version
    run.details = {"release": release.path.name, "checkpoint": checkpoint.name, "scenario": scenario, **facts}


def _result(
    run: RunRecord, scenario: str, release: Release, shots: Shots, tuned: TuningResult, note: str | None, next_step: str
) -> TuneResult:
    by_step = {check.step: check.probe for check in tuned.curve}
    return TuneResult(
        as_of=run.as_of,
        scenario=scenario,
        release=release.path,
        model_version=release.model_version,
        users=shots.users,
        left_out=run.left_out,
        classes=shots.classes,
        note=note,
        step=tuned.step,
        probe=by_step[tuned.step],
        probe_manual=by_step[0],
        next=next_step,
        seconds=run.seconds(),
    )


def _note(shots: int | None, drawn: Shots, tuned: TuningResult, *, is_new: bool) -> str | None:
    """Return how the result differs from what was requested, None where it does not."""
    notes = []
    if (shots or 0) > drawn.users_in_half:
        notes.append(f"{shots} shots were requested, the fit half has {drawn.users_in_half}")
    if not tuned.step:
        notes.append(
            "nothing learned was surely better on the users held out: "
            + ("the manual instruction is back" if is_new else "the release stays as it is")
        )
    return "; ".join(notes) or None
