"""The cells of the comparison: one contender, trained or not, of one seed; kept in a file once it is done.

Shapes: N seeds, S scenarios, A salts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray

from benchmarks.rivals.contenders import Contender, Log, Vectors
from benchmarks.rivals.material import Material
from jobs.training.labels import LabelledUsers
from model.atomic_write import atomic_write_text
from model.training.probe import ProbeResult, Score

Scores = dict[str, list[Score]]
"""By scenario, one for each salted half."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Every score of one line of the table: a contender, trained or not.

    `auc_NSA` and `ks_NSA` are over seeds, scenarios and salted halves.
    """

    name: str
    trained: bool
    auc_NSA: NDArray[np.float64]
    ks_NSA: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One contender, trained or not, of one seed; `key` is the material's."""

    contender: Contender
    trained: bool
    seed: int
    key: str

    def path(self, folder: Path) -> Path:
        """Its file."""
        words = "".join(letter if letter.isalnum() else "_" for letter in self.contender.name)
        return folder / f"{words}.{'trained' if self.trained else 'untrained'}.{self.seed}.json"

    def read(self, folder: Path) -> Scores | None:
        """Return the scores that were kept of this cell; None where it was not done with these settings and tables."""
        if not self.path(folder).exists():
            return None
        kept = json.loads(self.path(folder).read_text(encoding="utf-8"))
        if any(kept.get(name) != value for name, value in self._head().items()):
            return None
        return {scenario: [Score(**score) for score in scores] for scenario, scores in kept["scores"].items()}

    def do(self, material: Material, folder: Path, log: Log) -> Scores:
        """Make the vectors, probe them and keep the scores."""
        begin = time.perf_counter()
        vectors = self.contender.make(material, self.seed, self.trained, log)
        made = time.perf_counter()
        scores = probed(self.contender, vectors, material.groups)
        content = self._head() | {
            "seconds": round(made - begin, 1),
            "probe_seconds": round(time.perf_counter() - made, 1),
            "scores": {scenario: [asdict(score) for score in halves] for scenario, halves in scores.items()},
        }
        atomic_write_text(self.path(folder), json.dumps(content, indent=1) + "\n")
        return scores

    def _head(self) -> dict[str, Any]:
        settings = json.loads(json.dumps(dict(self.contender.settings)))
        return {
            "format": 2,  # 1 had salts in the place of split seeds
            "name": self.contender.name,
            "trained": self.trained,
            "seed": self.seed,
            "key": self.key,
            "settings": settings,
        }


def probed(contender: Contender, vectors: Vectors, groups: Sequence[LabelledUsers]) -> Scores:
    """Fit and score every scenario on the five salted halves, each on a core of its own."""
    results: list[ProbeResult] = Parallel(n_jobs=-1, max_nbytes="1M")(
        delayed(contender.fit)(_of(vectors, group.scenario)[group.row_U], group.label_U, group.user_ids)
        for group in groups
    )
    return {group.scenario: list(result.scores) for group, result in zip(groups, results, strict=True)}


def _of(vectors: Vectors, scenario: str) -> NDArray[np.floating[Any]]:
    return vectors if isinstance(vectors, np.ndarray) else vectors[scenario]


def standing(
    contender: Contender, material: Material, folder: Path, *, seeds: Sequence[int], trained: bool, do: bool, log: Log
) -> Standing | None:
    """Return a line's scores over the seeds; None where a cell was not done yet and is not to be done."""
    auc, ks = [], []
    for seed in seeds:
        cell = Cell(contender=contender, trained=trained, seed=seed, key=material.key)
        scores = cell.read(folder)
        if scores is None:
            if not do:
                return None
            log(f"{contender.name}, {'trained' if trained else 'untrained'}, seed {seed}")
            scores = cell.do(material, folder, log)
        by_scenario = [scores[group.scenario] for group in material.groups]
        auc.append([[score.auc for score in halves] for halves in by_scenario])
        ks.append([[score.ks for score in halves] for halves in by_scenario])
    return Standing(name=contender.name, trained=trained, auc_NSA=np.array(auc), ks_NSA=np.array(ks))
