"""Tune: a scenario's labels and the current release -> a candidate whose instruction for it was learned (eq. 6).

Same graphs, same `model_version`, a new folder: only that scenario is embedded again. The shots come from the fit half
of the probe's first salt, so that the score half of that salt remains for an honest look at them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from jobs.config.deployment import Deployment
from jobs.config.sections import Scenario
from jobs.lake.delta import job_lock
from jobs.lake.run_log import RunRecord
from jobs.training.export import SAMPLE, hand_over
from jobs.training.labels import labelled_profiles, read_labels
from jobs.training.registry import open_release, source_checkpoint
from jobs.training.registry import tuned_scenarios as tuned_before
from model.errors import InstructUEError
from model.progress import Progress, no_progress
from model.training.probe import SPLIT_SEEDS, fit_half

if TYPE_CHECKING:
    from model.training.tuning import TuningConfig

SALT = SPLIT_SEEDS[0]


class TuneError(InstructUEError):
    """A scenario that cannot be tuned."""


@dataclass(frozen=True, kw_only=True)
class TunedScenario:
    """What one run of tune did."""

    as_of: date
    """The last as_of of a label."""
    scenario: str
    release: Path
    model_version: str
    users: int
    """Users tuned with."""
    classes: dict[str, int]
    """How many of them have each label."""
    note: str | None
    """What is not as it was asked for or hoped."""
    step: int
    """Of the optimiser, chosen on the users held out; 0: no step was surely better than the manual instruction."""
    probe: float
    """Log loss of a regression on the users held out, with the tuned instruction."""
    probe_manual: float
    """The same with the manual one."""
    next: str
    """The next step."""
    seconds: float


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
) -> TunedScenario:
    """Tune a scenario's instruction on some of its labels: the current release with it is a candidate.

    Parameters
    ----------
    shots : int, optional
        Labelled users to learn from, of every class its share; None: all of the fit half.
    seed : int
        Decides which users.
    from_checkpoint : Path, optional
        A checkpoint's folder; None: the one that the current release came from.
    config : TuningConfig, optional
        How it learns; None: the defaults.
    promote : bool
        Promote the release at once.
    progress : callable
        Takes how many steps are done, and of how many.

    Raises
    ------
    TuneError
        No such scenario, or one without labels.
    LabelError
        The table of labels is not what it must be, or no labelled user has a profile.
    model.training.tuning.TuningError
        One class only, or too few shots.
    NoCheckpointError
        The checkpoint that the release came from is not there any more.
    ReleaseError
        There is no release, it would not make this deployment's vectors, or the new one failed a gate.
    """
    from model.network.kv_cache import ProfileKVCache
    from model.serving import export  # torch and transformers: seconds that the command line need not wait
    from model.training.checkpoint import load_checkpoint
    from model.training.processes import processes
    from model.training.shots import draw_shots
    from model.training.tuning import TuningConfig, start_vectors
    from model.training.tuning import tune as learn

    wanted = _scenario(deployment, scenario)
    labels = read_labels(deployment, [wanted], yes_or_no=False)
    as_of = pc.max(labels[scenario]["as_of"]).as_py().date()
    with RunRecord.kept(deployment, "tune", as_of) as run, job_lock(deployment, "export"):  # both make a candidate
        before = open_release(deployment)
        source = from_checkpoint or source_checkpoint(deployment, before)
        profiles, [group] = labelled_profiles(deployment, run.open("user_profiles"), labels)
        half = np.flatnonzero(fit_half(group.user_ids, SALT))
        chosen = half[draw_shots(group.label_U[half], shots, seed)]
        network, tokenizers, _ = load_checkpoint(source)
        network.to(processes().device)
        shown = profiles.take(group.row_U[chosen])
        read = ProfileKVCache(network, tokenizers, shown)
        config = config or TuningConfig()
        tuned = learn(
            read,
            np.arange(len(read)),
            group.label_U[chosen],
            start_vectors(network, tokenizers, wanted.instruction),
            config=config,
            seed=seed,
            progress=progress,
        )
        names, counts = np.unique(group.label_U[chosen], return_counts=True)
        classes = {str(name): int(count) for name, count in zip(names, counts, strict=True)}
        facts = {
            "instruction": wanted.instruction,
            "shots": "all" if shots is None else shots,
            "users": len(chosen),
            "classes": classes,
            "seed": seed,
            "salt": SALT,
            "half": "fit",
            "labels_as_of": as_of.isoformat(),
            "step": tuned.step,
            "held_out": tuned.held_out,
            "settings": asdict(config),
            "curve": [asdict(look) for look in tuned.curve],
        }
        made, next_step = before, "none: the current release stays as it is"
        if tuned.step or scenario in tuned_before(before):  # what was tuned before does not stay in its place
            made = export.add_tuned(
                before,
                source,
                scenario,
                tuned.vectors,
                facts,
                profiles=shown.slice(0, SAMPLE),
                deployment=deployment.path.read_text(encoding="utf-8"),
            )
            next_step = hand_over(deployment, made, promote=promote)
        run.model_version, run.rows_in = made.model_version, len(labels[scenario])
        run.left_out = {
            f"{scenario}: no profile": len(labels[scenario]) - len(group.user_ids),
            f"{scenario}: not in the fit half of {SALT}": len(group.user_ids) - len(half),
            f"{scenario}: not drawn": len(half) - len(chosen),
        }
        run.details = {"release": made.path.name, "checkpoint": source.name, "scenario": scenario} | facts
        by_step = {look.step: look.probe for look in tuned.curve}
        notes = [f"{shots} shots were asked for, the fit half has {len(half)}"] * ((shots or 0) > len(half))
        if not tuned.step:
            notes.append(
                "nothing learned was surely better on the users held out: "
                + ("the release stays as it is" if made is before else "the manual instruction is back")
            )
        return TunedScenario(
            as_of=as_of,
            scenario=scenario,
            release=made.path,
            model_version=made.model_version,
            users=len(chosen),
            classes=classes,
            note="; ".join(notes) or None,
            step=tuned.step,
            probe=by_step[tuned.step],
            probe_manual=by_step[0],
            next=next_step,
            seconds=run.seconds(),
        )


def _scenario(deployment: Deployment, name: str) -> Scenario:
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
