"""The folder of releases, and the files in it that hold the name of a release; `jobs.training.registry` writes them."""

from __future__ import annotations

import re
from pathlib import Path

from jobs.config.deployment import Deployment
from jobs.config.location import local_path
from model.serving.release import MANIFEST, ReleaseError

CURRENT, CANDIDATE = "CURRENT", "CANDIDATE"


def releases_folder(deployment: Deployment) -> Path:
    """Return the folder of releases; every worker must see it under this path."""
    folder = local_path(deployment.resolve(deployment.releases))
    if folder is None:
        raise ReleaseError(
            f"releases = {deployment.releases}: releases are read as files; name a folder that every "
            "worker sees, such as a mounted one"
        )
    return folder


def pointed_release(deployment: Deployment, pointer: str) -> Path | None:
    """Return the folder of the release that `CURRENT` or `CANDIDATE` names; None where it names none."""
    folder = releases_folder(deployment)
    name = read_pointer(folder / pointer)
    if name is None:
        return None
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ReleaseError(
            f"{folder / pointer} holds {name!r}, which is no release's name; write one of {release_names(folder)}"
        )
    return folder / name


def read_pointer(path: Path) -> str | None:
    """Return the name in a file that holds one name; None where the file is missing."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def release_names(folder: Path) -> str:
    """Return the names of the releases in a folder, with commas between them."""
    names = sorted(entry.parent.name for entry in folder.glob(f"[!.]*/{MANIFEST}"))
    return ", ".join(names) or "none yet"
