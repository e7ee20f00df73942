"""Scores at several numbers of labels: each method is fitted on draws of labelled users from the fit half of a split.

All methods of a scenario get the same draws, and all are scored on the same score half. Scenarios that label the same
users share what depends on their features alone.

Shapes: U labelled users, D features, L drawn labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray

from jobs.config.sections import LABEL_COUNTS
from jobs.evaluation.scores import Score
from jobs.training.labels import LabelledUsers
from model.progress import Progress, no_progress
from model.training.few_labels import NEIGHBOURS, Fitted, neighbours, one_count, prototypes, ridge
from model.training.probe import fit_half
from model.training.ranking import auc
from model.training.shots import draw_shots
from model.training.trees import boosted_trees

Features = NDArray[np.floating[Any]]
NONE, *_, ALL = LABEL_COUNTS
SHOTS = tuple(int(labels) for labels in LABEL_COUNTS[1:-1])
"""Numbers of labelled users, beside none and all of the fit half."""
MOST_DRAWS = 4
DRAWS = {"LightGBM": 1, "one count": 1}
"""Draws of a split by classifier; `MOST_DRAWS` for the others, which take milliseconds."""
CLASSIFIERS: Mapping[str, Callable[[Any, Any], Fitted]] = {
    "regression": ridge,
    "prototypes": prototypes,
    "neighbours": neighbours,
    "one count": one_count,
    "LightGBM": boosted_trees,
}
LEAST = {"neighbours": NEIGHBOURS + 1}
"""The fewest labels of a classifier; with 20 labels, every user has the same 20 neighbours."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """A classifier of some features, a row of the tables.

    Attributes
    ----------
    part, name
        The part of the table and the row.
    classifier
        A key of `CLASSIFIERS`.
    features
        Names of features; the figure is the mean over them.
    least
        The fewest labels with which it is fitted.
    with_all
        Whether it is fitted on the whole fit half too.
    """

    part: str
    name: str
    classifier: str
    features: tuple[str, ...]
    least: int = 0
    with_all: bool = True


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Scores that need no label, a row of the tables.

    Attributes
    ----------
    part, name
        The part of the table and the row.
    scores
        Of the scenario's labelled users, `[U]` each; the figure is the mean over them.
    """

    part: str
    name: str
    scores: tuple[NDArray[np.floating[Any]], ...]


@dataclass(frozen=True, kw_only=True)
class Task:
    """A scenario: its labelled users, rankings, methods and splits."""

    group: LabelledUsers
    rankings: tuple[Ranking, ...]
    methods: tuple[Method, ...]
    split_seeds: tuple[str, ...]


def score_few_labels(
    tasks: Sequence[Task], features: Mapping[str, Features], progress: Progress = no_progress
) -> list[Score]:
    """Return a score for each scenario, row, number of labels and split.

    Each has `scenario`, `split_seed`, `part`, `method`, `labels` (one of `LABEL_COUNTS`) and `auc`, the mean over
    draws.

    Parameters
    ----------
    features
        `[U, D]` each, with a row for each profile.
    """
    total = count_jobs(tasks)
    parts = Parallel(n_jobs=-1, return_as="generator", max_nbytes="1M")(
        delayed(_score_split)(scenarios, of_users, seed)
        for some in _alike(tasks)
        # One copy for all splits, which joblib then hands to every process as one file.
        for of_users in [{name: values[some[0].group.row_U] for name, values in features.items()}]
        for scenarios, seed in _by_split(some)
    )
    progress(0, total)
    scores: list[Score] = []
    for done, part in enumerate(parts, start=1):
        scores += part
        progress(done, total)
    return scores


def count_jobs(tasks: Sequence[Task]) -> int:
    """Return the number of steps of which `score_few_labels` reports the progress."""
    return sum(1 for some in _alike(tasks) for _ in _by_split(some))


def _alike(tasks: Sequence[Task]) -> list[list[Task]]:
    """Return the scenarios in groups that label the same users."""
    groups: dict[bytes, list[Task]] = {}
    for task in tasks:
        groups.setdefault(task.group.row_U.tobytes(), []).append(task)
    return [*groups.values()]


def _by_split(tasks: Sequence[Task]) -> Iterator[tuple[list[Task], str]]:
    """Yield each split with the scenarios that have it."""
    for seed in dict.fromkeys(seed for task in tasks for seed in task.split_seeds):
        yield [task for task in tasks if seed in task.split_seeds], seed


def _score_split(tasks: Sequence[Task], features: Mapping[str, Features], split_seed: str) -> list[Score]:
    """Return the scores of scenarios with the same users on one split."""
    split = _Split(features, tasks[0].group.user_ids, split_seed)
    return [
        {"scenario": task.group.scenario, "split_seed": split_seed, **row} for task in tasks for row in split.rows(task)
    ]


class _Split:
    """One split of users, their features, and the classifiers that were fitted on the whole fit half."""

    def __init__(self, features: Mapping[str, Features], user_ids: Sequence[str], split_seed: str) -> None:
        fit_U = fit_half(user_ids, split_seed)
        self._features = features
        self._fit_L, self._scored_M = np.flatnonzero(fit_U), np.flatnonzero(~fit_U)
        self._users_L = np.array(user_ids)[self._fit_L]
        self._of_scored: dict[str, Features] = {}
        self._on_all: dict[tuple[str, str], Fitted] = {}

    def rows(self, task: Task) -> Iterator[dict[str, str | float]]:
        """Yield the part, method, number of labels and AUC of each row of a scenario."""
        label_M = task.group.label_U[self._scored_M]
        for ranking in task.rankings:
            aucs = [auc(label_M, scores_U[self._scored_M]) for scores_U in ranking.scores]
            yield _row(ranking, NONE, aucs)
        users = len(np.unique(self._users_L))
        for shots in (*(shots for shots in SHOTS if shots < users), None):
            draws = self._draws(task.group.label_U, shots)
            for method in task.methods:
                least = max(method.least, LEAST.get(method.classifier, 0))
                if (shots or users) < least or (shots is None and not method.with_all):
                    continue
                aucs = [
                    auc(label_M, self._fit(method.classifier, name, None if shots is None else draw_S)(label_S))
                    for draw_S in draws[: DRAWS.get(method.classifier)]
                    for label_S in [task.group.label_U[draw_S]]
                    for name in method.features
                ]
                yield _row(method, ALL if shots is None else str(shots), aucs)

    def _draws(self, label_U: NDArray[np.int64], shots: int | None) -> list[NDArray[np.int64]]:
        """Return draws of labels from the fit half, as rows of the group; None: all of it, once."""
        if shots is None:
            return [self._fit_L]
        label_L = label_U[self._fit_L]
        return [self._fit_L[draw_shots(label_L, shots, seed, user_ids=self._users_L)] for seed in range(MOST_DRAWS)]

    def _fit(self, classifier: str, name: str, draw_S: NDArray[np.int64] | None) -> Fitted:
        """Return a classifier of these features of the drawn users; None: of the whole fit half, which is kept."""
        key = classifier, name
        if draw_S is None and key in self._on_all:
            return self._on_all[key]
        rows = self._fit_L if draw_S is None else draw_S
        fitted = CLASSIFIERS[classifier](self._features[name][rows], self._others(name))
        if draw_S is None:
            self._on_all[key] = fitted
        return fitted

    def _others(self, name: str) -> Features:
        """Return these features of the scored users, which are kept."""
        if name not in self._of_scored:
            self._of_scored[name] = self._features[name][self._scored_M]
        return self._of_scored[name]


def _row(of: Method | Ranking, labels: str, aucs: Sequence[float]) -> dict[str, str | float]:
    return {"part": of.part, "method": of.name, "labels": labels, "auc": float(np.mean(aucs))}
