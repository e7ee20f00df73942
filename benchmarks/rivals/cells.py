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
from jobs.evaluate import Labelled
from model.probe import ProbeResult, Score


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Every score of one line of the table: a contender, trained or not.

    `auc_NSA` and `ks_NSA` are over seeds, scenarios and salted halves.
    """

    name: str
    trained: bool
    auc_NSA: NDArray[np.float64]
    ks_NSA: NDArray[np.float64]


def cell(contender: Contender, material: Material, folder: Path, *, seed: int, trained: bool,
         log: Log) -> dict[str, list[Score]]:
    """Return the scores of every scenario, from the cell's file, or by making the vectors and probing them."""
    words = "".join(letter if letter.isalnum() else "_" for letter in contender.name)
    path = folder / f"{words}.{'trained' if trained else 'untrained'}.{seed}.json"
    head: dict[str, Any] = {"name": contender.name, "trained": trained, "seed": seed, "key": material.key,
                            "settings": json.loads(json.dumps(dict(contender.settings)))}
    if path.exists():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if all(kept.get(key) == value for key, value in head.items()):
            return {scenario: [Score(**score) for score in scores] for scenario, scores in kept["scores"].items()}
    begin = time.perf_counter()
    vectors = contender.make(material, seed, trained, log)
    made = time.perf_counter()
    scores = probed(contender, vectors, material.groups)
    head |= {"seconds": round(made - begin, 1), "probe_seconds": round(time.perf_counter() - made, 1),
             "scores": {scenario: [asdict(score) for score in result] for scenario, result in scores.items()}}
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(head, indent=1) + "\n", encoding="utf-8")
    part.replace(path)
    return scores


def probed(contender: Contender, vectors: Vectors, groups: Sequence[Labelled]) -> dict[str, list[Score]]:
    """Fit and score every scenario on the five salted halves, each on a core of its own."""
    results: list[ProbeResult] = Parallel(n_jobs=-1, max_nbytes="1M")(
        delayed(contender.fit)(_of(vectors, group.scenario)[group.row_U], group.label_U, group.user_ids)
        for group in groups)
    return {group.scenario: list(result.scores) for group, result in zip(groups, results, strict=True)}


def _of(vectors: Vectors, scenario: str) -> NDArray[np.floating[Any]]:
    return vectors if isinstance(vectors, np.ndarray) else vectors[scenario]


def standing(contender: Contender, material: Material, folder: Path, *, seeds: Sequence[int], trained: bool,
             log: Log) -> Standing:
    """Return a line's scores over the seeds."""
    auc, ks = [], []
    for seed in seeds:
        log(f"{contender.name}, {'trained' if trained else 'untrained'}, seed {seed}")
        scores = cell(contender, material, folder, seed=seed, trained=trained, log=log)
        by_scenario = [scores[group.scenario] for group in material.groups]
        auc.append([[score.auc for score in halves] for halves in by_scenario])
        ks.append([[score.ks for score in halves] for halves in by_scenario])
    return Standing(name=contender.name, trained=trained, auc_NSA=np.array(auc), ks_NSA=np.array(ks))
