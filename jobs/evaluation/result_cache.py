"""Cells: pieces of a long evaluation, each kept in a file once it is done, so that a killed run goes on there.

A cell's file is named after a hash of everything that decides what is in it. What decides another cell leaves it alone,
and the same cell is never computed twice, whichever command asked for it first.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.atomic_write import atomic_write_text
from model.progress import Progress

logger = logging.getLogger(__name__)

FORMAT = 2
"""Raised when what a cell holds comes to mean something else."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A piece of work: what it is called, everything that decides what it finds (JSON), and the work."""

    name: str
    decides: Mapping[str, Any]
    work: Callable[[], Any]

    @property
    def digest(self) -> str:
        """What its file is named after."""
        return hashlib.sha256(self._head().encode()).hexdigest()[:16]

    def read(self, folder: Path) -> Any | None:
        """What was found when it was done before; None where it was not."""
        try:
            return json.loads(self._path(folder).read_text(encoding="utf-8"))["found"]
        except (OSError, ValueError, KeyError):  # lost, or cut off by a full disk: it is done again
            return None

    def do(self, folder: Path) -> Any:
        """Do the work and keep what it found."""
        found = self.work()
        content = {"name": self.name, "decides": json.loads(self._head()), "found": found}
        atomic_write_text(self._path(folder), json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        return found

    def _head(self) -> str:
        return json.dumps({"format": FORMAT, **self.decides}, sort_keys=True, ensure_ascii=False)

    def _path(self, folder: Path) -> Path:
        return folder / f"{self.digest}.json"


def run(cells: Sequence[Cell], folder: Path, *, progress: Progress) -> list[Any]:
    """What every cell found, in their order; those that were done before are read, the others done one by one."""
    found = [cell.read(folder) for cell in cells]
    done = sum(one is not None for one in found)
    if done:
        logger.info(f"{done} of {len(cells)} cells were done before")
    progress(done, len(cells))
    for number, cell in enumerate(cells):
        if found[number] is None:
            logger.info(f"cell {done + 1} of {len(cells)}: {cell.name}")
            found[number] = cell.do(folder)
            done += 1
            progress(done, len(cells))
    return found
