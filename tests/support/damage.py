"""Ways to damage a file of a folder; each returns a function of the folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from model.serving.hashes import hash_json
from model.serving.release import MANIFEST

Change = Callable[[Path], object]


def flipped(name: str) -> Change:
    """Flip one bit of the middle byte of a file."""

    def change(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)

    return change


def written(name: str, content: bytes) -> Change:
    """Replace the content of a file."""
    return lambda folder: (folder / name).write_bytes(content)


def halved(name: str) -> Change:
    """Keep the first half of a file."""

    def change(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])

    return change


def lost(name: str) -> Change:
    """Remove a file."""
    return lambda folder: (folder / name).unlink()


def manifest(changed: Callable[[dict[str, Any]], object]) -> Change:
    """Change the manifest and its digest with it, as another exporter might write it."""

    def change(folder: Path) -> None:
        content = json.loads((folder / MANIFEST).read_text())
        del content["digest"]
        changed(content)
        content["digest"] = hash_json(content)
        (folder / MANIFEST).write_text(json.dumps(content))

    return change
