"""The registry: which releases and checkpoints a deployment has, and which release its jobs use.

    releases/<name>/                a release; it never changes
    releases/CURRENT                names the release that jobs use
    releases/CANDIDATE              names the newest release that was not promoted yet
    releases/checkpoints/<name>/    a training's checkpoint
    releases/checkpoints/CURRENT    names the checkpoint that was trained last

`export` and `tune` make a candidate. `evaluate` probes it. `promote` makes it the current release.
Only this module writes `CURRENT` and `CANDIDATE`.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.config.deployment import Deployment
from jobs.lake.delta import job_lock
from jobs.lake.handoff import AssembleHandoff, UserQAHandoff
from jobs.lake.release_pointers import CANDIDATE, CURRENT, pointed_release, read_pointer, release_names, releases_folder
from jobs.lake.run_log import Run
from jobs.training.release_gate import check_gate
from model.atomic_write import atomic_write_text
from model.errors import InstructUEError
from model.serving import release as releases
from model.serving.release import Release, ReleaseError
from model.serving.vector_spec import differences

LOCK = "promote"
"""The lock that guards CURRENT and CANDIDATE."""

logger = logging.getLogger(__name__)


class NoCheckpointError(InstructUEError):
    """There is no checkpoint, or not the one that is needed."""


@dataclass(frozen=True, kw_only=True)
class PromoteResult:
    """The result of one promotion."""

    release: Path
    """The current release."""
    model_version: str
    scenarios: tuple[str, ...]
    former: str | None
    """The name of the release that was current before; None where there was none."""
    next: str
    """The next step."""


# Releases: open, promote.


def open_release(deployment: Deployment, release: str | Path | None = None) -> Release:
    """Read a release and check that it makes this deployment's vectors.

    Parameters
    ----------
    release : str or Path, optional
        The folder of a release, or its name among the deployment's; None: the current release.

    Raises
    ------
    ReleaseError
        There is no such release, one of its files was changed, or it would not make this deployment's vectors.
    """
    path = current_release(deployment) if release is None else _release_path(deployment, release)
    opened = releases.read(path)
    opened.check_deployment(deployment.vector_spec(), scenario_instructions(deployment))
    return opened


def current_release(deployment: Deployment) -> Path:
    """Return the folder of the release that jobs use.

    Raises
    ------
    ReleaseError
        No release was promoted, or `CURRENT` does not hold the name of a release.
    """
    path = pointed_release(deployment, CURRENT)
    if path is None:
        candidate = candidate_release(deployment)
        step = f"promote the candidate {candidate.name} with" if candidate else "run `instructue export`, then"
        raise ReleaseError(f"{releases_folder(deployment) / CURRENT} names no release; {step} `instructue promote`")
    return path


def candidate_release(deployment: Deployment) -> Path | None:
    """Return the folder of the newest candidate, or None where every release was promoted."""
    return pointed_release(deployment, CANDIDATE)


def has_current_release(deployment: Deployment) -> bool:
    """Return whether a release was promoted."""
    return (releases_folder(deployment) / CURRENT).exists()


def set_candidate(deployment: Deployment, release: Release) -> bool:
    """Make a release the candidate, and return False where it is the current release already."""
    with job_lock(deployment, LOCK):
        is_current = has_current_release(deployment) and current_release(deployment) == release.path
        if is_current:
            (releases_folder(deployment) / CANDIDATE).unlink(missing_ok=True)
        else:
            _write_pointer(releases_folder(deployment) / CANDIDATE, release.path.name)
    return not is_current


def promote(deployment: Deployment, release: str | Path | None = None) -> PromoteResult:
    """Make a release the current one, which is then no longer the candidate.

    Parameters
    ----------
    release : str or Path, optional
        The name or folder of one of the deployment's releases; None: the newest candidate.

    Raises
    ------
    ReleaseError
        There is no candidate, no such release, one of its files was changed, it would not make this deployment's
        vectors, or its folder is not in the deployment's folder of releases.
    GateError
        Its evaluation has a figure below `promote.least_auc`, or there is no evaluation.
    """
    folder = releases_folder(deployment)
    with job_lock(deployment, LOCK):
        candidate = candidate_release(deployment)
        if release is None and candidate is None:
            raise ReleaseError(
                f"{folder} has no candidate to promote; run `instructue export` or `instructue tune`, or name "
                f"one of its releases: {release_names(folder)}"
            )
        path = candidate if release is None else _release_path(deployment, release)
        promoted = open_release(deployment, path)
        if promoted.path.resolve().parent != folder.resolve():
            raise ReleaseError(f"{promoted.path} is not in {folder}; copy the release there, then promote it")
        check_gate(deployment, folder, promoted.path.name)
        former = read_pointer(folder / CURRENT)
        set_current_release(deployment, promoted.path)
        if candidate == promoted.path:
            (folder / CANDIDATE).unlink(missing_ok=True)
    logger.info("release %s is current; before: %s", promoted.path.name, former or "none")
    return PromoteResult(
        release=promoted.path,
        model_version=promoted.model_version,
        scenarios=promoted.scenarios,
        former=former,
        next="run `instructue embed` and `instructue publish` for the newest day",
    )


def set_current_release(deployment: Deployment, path: Path) -> None:
    """Name the release that jobs use, without a check; see `promote`."""
    _write_pointer(releases_folder(deployment) / CURRENT, path.name)


def scenario_instructions(deployment: Deployment) -> dict[str, str | None]:
    """Return each embedded scenario's instruction; None for universal."""
    texts = {scenario.name: scenario.instruction for scenario in deployment.scenarios}
    return {name: texts.get(name) for name in deployment.scenario_names}


def tuned_scenarios(release: Release) -> dict[str, dict[str, Any]]:
    """Return the entry of each tuned scenario in `metrics.json` of a release."""
    return dict(_metrics(release).get("tuned", {}))


def question_scores(release: Release) -> dict[str, dict[str, float]]:
    """Return `auc` and `users` of each question of a release's training; none for one trained by an older version."""
    return dict(_metrics(release).get("training", {}).get("questions", {}))


def _metrics(release: Release) -> dict[str, Any]:
    return dict(json.loads((release.path / "metrics.json").read_text(encoding="utf-8")))


def check_vector_spec(deployment: Deployment, run: Run) -> None:
    """Check that profiles were made with the deployment's vector spec.

    Parameters
    ----------
    run : Run
        The assemble or userqa that made them.

    Raises
    ------
    HandoffError
        The run did not record its vector spec; names the command that runs it again.
    ReleaseError
        Keys of the vector spec that differ, with both values.
    """
    recorded = run.handoff(AssembleHandoff if run.job == "assemble" else UserQAHandoff)
    lines = differences(deployment.vector_spec(), recorded.vector_spec, "profiles")
    if lines:
        raise ReleaseError(
            f"the deployment differs from what {run.job} made the profiles of {run.day} with:\n"
            + "\n".join(f"  {line}" for line in lines)
            + f"\nrun `{run.command}` again, or restore these keys"
        )


# Checkpoints.


def checkpoints_folder(deployment: Deployment) -> Path:
    """Return the folder of checkpoints: one for each training, and `CURRENT`."""
    return releases_folder(deployment) / "checkpoints"


def current_checkpoint(deployment: Deployment) -> Path:
    """Return the folder of the checkpoint that was trained last.

    Raises
    ------
    NoCheckpointError
        None was trained, or its folder was removed.
    """
    pointer = checkpoints_folder(deployment) / CURRENT
    name = read_pointer(pointer)
    if name is None:
        raise NoCheckpointError(f"{pointer} names no checkpoint; run `instructue train` first")
    path = pointer.parent / Path(name).name
    if not name or not path.is_dir():
        raise NoCheckpointError(
            f"{pointer} holds {name!r}, and there is no such folder; run `instructue train` again, "
            "or name a checkpoint with --checkpoint"
        )
    return path


def has_current_checkpoint(deployment: Deployment) -> bool:
    """Return whether a training has ended."""
    return (checkpoints_folder(deployment) / CURRENT).exists()


def set_current_checkpoint(deployment: Deployment, path: Path) -> None:
    """Name the checkpoint that was trained last."""
    _write_pointer(checkpoints_folder(deployment) / CURRENT, path.name)


def source_checkpoint(deployment: Deployment, release: Release) -> Path:
    """Return the folder of the checkpoint that a release was made from.

    Raises
    ------
    NoCheckpointError
        The deployment's folder of checkpoints does not have it.
    """
    from model.serving.export import checkpoint_hash  # torch and transformers take seconds to import

    for config in sorted(checkpoints_folder(deployment).glob("*/config.json")):
        if checkpoint_hash(config.parent) == release.checkpoint:
            return config.parent
    raise NoCheckpointError(
        f"none in {checkpoints_folder(deployment)} is the checkpoint {release.checkpoint[:12]} that the "
        "current release came from: name it with --checkpoint, or train and export whole"
    )


# Pointers: files that hold one name.


def _release_path(deployment: Deployment, release: str | Path) -> Path:
    """Return the folder of a release that is given by its folder or by its name."""
    named = releases_folder(deployment) / release
    return named if named.is_dir() and not Path(release).is_dir() else Path(release)


def _write_pointer(path: Path, name: str) -> None:
    atomic_write_text(path, name + "\n", durable=True)
