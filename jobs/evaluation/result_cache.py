"""Cells: pieces of a long evaluation. The result of each is kept in a file, so that a killed run continues.

The file of a cell is named after a hash of the cell's inputs. A change of one cell's inputs leaves the other results
valid, and a cell that several commands share is computed once.
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

FORMAT = 3
"""Raise it when the meaning of a result changes."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A piece of work: its name, all inputs that decide its result (as JSON), and the function that computes it."""

    name: str
    inputs: Mapping[str, Any]
    work: Callable[[], Any]

    @property
    def digest(self) -> str:
        """Return the hash that names the file."""
        return hashlib.sha256(self._key().encode()).hexdigest()[:16]

    def read(self, folder: Path) -> Any | None:
        """Return the kept result; None when there is none or its file is damaged."""
        try:
            return json.loads(self._path(folder).read_text(encoding="utf-8"))["result"]
        except (OSError, ValueError, KeyError):  # a missing or truncated file: the cell runs again
            return None

    def compute(self, folder: Path) -> Any:
        """Compute the result and keep it."""
        result = self.work()
        content = {"name": self.name, "inputs": json.loads(self._key()), "result": result}
        atomic_write_text(self._path(folder), json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        return result

    def _key(self) -> str:
        return json.dumps({"format": FORMAT, **self.inputs}, sort_keys=True, ensure_ascii=False)

    def _path(self, folder: Path) -> Path:
        return folder / f"{self.digest}.json"


def run(cells: Sequence[Cell], folder: Path, *, progress: Progress) -> list[Any]:
    """Return the results of the cells in order; kept results are read, the others are computed one by one."""
    results = [cell.read(folder) for cell in cells]
    done = sum(result is not None for result in results)
    if done:
        logger.info(f"{done} of {len(cells)} cells were done before")
    progress(done, len(cells))
    for number, cell in enumerate(cells):
        if results[number] is None:
            logger.info(f"cell {done + 1} of {len(cells)}: {cell.name}")
            results[number] = cell.compute(folder)
            done += 1
            progress(done, len(cells))
    return results
