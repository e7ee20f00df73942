"""Atomic writes: a file or folder is complete or absent, even if the process is killed while it writes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PART = ".part"
"""Ending of the name under which a file or folder is written until it is complete."""


@contextmanager
def atomic_write(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield a path beside `path` to write a file to, and rename it to `path` when the block ends without an error.

    Parameters
    ----------
    path
        The file; its folder is created if it is missing.
    durable
        Whether the file also survives a power cut right after the block.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + PART)
    yield part
    if durable:
        sync(part)
    part.replace(path)
    if durable:
        sync(path.parent)


def atomic_write_text(path: Path, text: str, *, durable: bool = False) -> None:
    """Write a text file, in UTF-8, as `atomic_write` does."""
    with atomic_write(path, durable=durable) as part:
        part.write_text(text, encoding="utf-8")


@contextmanager
def atomic_folder(path: Path, part_name: str | None = None) -> Iterator[Path]:
    """Yield an empty folder beside `path`, and rename it to `path` when the block ends without an error.

    Parameters
    ----------
    path
        The folder, which must not exist yet.
    part_name
        The folder's name until it is complete; None: the name of `path` and `PART`. A folder of this name that a killed
        process left is removed.
    """
    part = path.with_name(part_name or path.name + PART)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    yield part
    part.rename(path)


def sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
