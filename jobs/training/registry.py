"""Where a deployment's releases and checkpoints lie, and which release its jobs use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from jobs.config.deployment import Deployment
from jobs.lake.run_log import Run
from model.errors import InstructUEError
from model.serving import release as releases
from model.serving.release import Release, ReleaseError


class NoCheckpointError(InstructUEError):
    """Nothing was trained yet, or not what is asked for."""


def releases_folder(deployment: Deployment) -> Path:
    """The folder of releases, which every worker must see under this path."""
    location = urlparse(deployment.resolve(deployment.releases))
    if location.scheme not in ("", "file"):
        raise ReleaseError(
            f"releases = {deployment.releases}: releases are read as files; name a folder that every "
            "worker sees, such as a mounted one"
        )
    return Path(location.path)


def open_release(deployment: Deployment, path: str | Path | None = None) -> Release:
    """Read the release at a path, or the one that was accepted last, and hold it against the deployment.

    Raises
    ------
    ReleaseError
        There is none, a file was changed, or it would not make this deployment's vectors; the keys are named.
    """
    found = releases.read(path if path is not None else releases.current_release(releases_folder(deployment)))
    found.check_deployment(deployment.shaping(), scenario_instructions(deployment))
    return found


def check_vector_spec(deployment: Deployment, run: Run) -> None:
    """Refuse profiles that were made as another deployment file says.

    Parameters
    ----------
    run : Run
        The assemble or userqa that made them. One that does not tell what it was made with is taken as it is.

    Raises
    ------
    ReleaseError
        Keys of the shaping part that differ, with both values.
    """
    made = run.details.get("shaping")
    found = releases.differences(deployment.shaping(), made, "profiles") if made else []
    if found:
        raise ReleaseError(
            f"the deployment differs from what {run.job} made the profiles of {run.day} with:\n"
            + "\n".join(f"  {difference}" for difference in found)
            + f"\nrun `{run.command}` again, or restore these keys"
        )


def scenario_instructions(deployment: Deployment) -> dict[str, str | None]:
    """Each embedded scenario's instruction; None for universal."""
    texts = {scenario.name: scenario.instruction for scenario in deployment.scenarios}
    return {name: texts.get(name) for name in deployment.scenario_names}


def checkpoints_folder(deployment: Deployment) -> Path:
    """The folder of checkpoints: one for each training, and `CURRENT`, which names the last that was finished."""
    return releases_folder(deployment) / "checkpoints"


def current_checkpoint(deployment: Deployment) -> Path:
    """The checkpoint that was trained last.

    Raises
    ------
    NoCheckpointError
        None was.
    """
    pointer = checkpoints_folder(deployment) / releases.CURRENT
    try:
        name = pointer.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        raise NoCheckpointError(f"{pointer} names no checkpoint; run `instructue train` first") from None
    path = pointer.parent / Path(name).name
    if not name or not path.is_dir():
        raise NoCheckpointError(
            f"{pointer} holds {name!r}, and there is no such folder; run `instructue train` again, "
            "or name a checkpoint with --checkpoint"
        )
    return path


def tuned_scenarios(release: Release) -> dict[str, dict[str, Any]]:
    """What each tuned scenario of a release learned of."""
    metrics = json.loads((release.path / "metrics.json").read_text(encoding="utf-8"))
    return dict(metrics.get("tuned", {}))


def source_checkpoint(deployment: Deployment, release: Release) -> Path:
    """The checkpoint that a release was made from.

    Raises
    ------
    NoCheckpointError
        It is not among this deployment's any more.
    """
    from model.serving.export import checkpoint_hash  # torch and transformers: seconds that other jobs need not wait

    for config in sorted(checkpoints_folder(deployment).glob("*/config.json")):
        if checkpoint_hash(config.parent) == release.checkpoint:
            return config.parent
    raise NoCheckpointError(
        f"none in {checkpoints_folder(deployment)} is the checkpoint {release.checkpoint[:12]} that the "
        "current release came from: name it with --checkpoint, or train and export whole"
    )


def set_current_checkpoint(deployment: Deployment, path: Path) -> None:
    """Name the checkpoint that was trained last."""
    releases.point(checkpoints_folder(deployment), path.name)
