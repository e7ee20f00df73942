"""Folders that are expensive to make: made by the first worker that needs one, and read by all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

SECONDS_TO_WAIT = 600


def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that all workers of a run share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def make_once(folder: Path, make: Callable[[Path], object]) -> Path:
    """Call `make(folder)` unless another test or worker of the run has done so, and return the folder.

    A test that changes the content takes a copy.
    """
    done = folder.with_name(f"{folder.name}.done")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{folder.name}.lock"), timeout=SECONDS_TO_WAIT):
        if not done.exists():
            folder.mkdir()
            make(folder)
            done.touch()
    return folder
