"""Shots: the labelled users by whom an instruction is tuned, and how they are divided.

Shapes: U users with a label, S shots.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from model.data.arrays import Ints
from model.errors import InstructUEError

Bools = NDArray[np.bool_]

LEAST_SHOTS = 2
"""The fewest shots of a class: one to learn from, one to select the step by."""


class TuningError(InstructUEError):
    """Labels or settings by which no instruction can be tuned."""


def draw_shots(labels_U: ArrayLike, shots: int | None, seed: int = 0) -> Ints:
    """Return the users to tune with, stratified by class, at least two of each; None: all users.

    With the same seed, a larger number of shots has all users of a smaller one.

    Raises
    ------
    TuningError
        One class only, a class of one user, or fewer shots than two of each class.
    """
    classes_U = class_numbers(labels_U)
    if shots is None or shots >= len(classes_U):
        return np.arange(len(classes_U))
    counts_K = np.bincount(classes_U)
    if shots < LEAST_SHOTS * len(counts_K):
        raise TuningError(
            f"{shots} shots are too few for {len(counts_K)} classes: take at least {LEAST_SHOTS} of each, "
            f"{LEAST_SHOTS * len(counts_K)} in all"
        )
    return _stratified_order(classes_U, np.random.default_rng(seed))[:shots]


def class_numbers(labels: ArrayLike) -> Ints:
    """Return the classes as 0 to K - 1.

    Raises
    ------
    TuningError
        One class only, or a class of one user.
    """
    names, classes, counts = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise TuningError(f"the users to tune with have the labels {names.tolist()} alone: label some of another class")
    if counts.min() < LEAST_SHOTS:
        raise TuningError(f"only one user to tune with has the label {names[counts.argmin()]}: label more of them")
    return np.asarray(classes, np.int64)


def held_out_shots(classes_S: Ints, share: float, rng: np.random.Generator) -> Bools:
    """Return True for the shots that are held out: a share of every class, at least one and not all."""
    held_out_S = np.zeros(len(classes_S), bool)
    for number, count in enumerate(np.bincount(classes_S)):
        size = min(max(1, round(share * int(count))), int(count) - 1)
        held_out_S[rng.permutation(np.flatnonzero(classes_S == number))[:size]] = True
    return held_out_S


def shot_batches(shots: Ints, classes_S: Ints, size: int, rng: np.random.Generator) -> Iterator[Ints]:
    """Yield stratified batches of these shots without end, each pass in another order."""
    parts = -(-len(shots) // size)
    while True:
        order = rng.permutation(len(shots))
        order = order[np.argsort(classes_S[shots[order]], kind="stable")]  # so that every part gets each class's share
        yield from (shots[order[part::parts]] for part in range(parts))


def _stratified_order(classes: Ints, rng: np.random.Generator) -> Ints:
    """Return all users in an order: first two of each class, then every class in proportion to its size."""
    place = np.empty(len(classes))
    for number, count in enumerate(np.bincount(classes)):
        rank = rng.permutation(count)
        place[classes == number] = np.where(rank < LEAST_SHOTS, rank - LEAST_SHOTS, (rank + rng.random()) / count)
    return np.argsort(place, kind="stable")
