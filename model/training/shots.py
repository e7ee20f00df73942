"""Shots: the labels by which an instruction is tuned, and how they are divided.

A user may have several labels, of several times. All labels of a user are drawn together and stay on one side of a
division, and count as one user of the rarest of their classes.

Shapes: L labels, U users, S shots.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from model.data.arrays import Ints
from model.errors import InstructUEError

Bools = NDArray[np.bool_]

LEAST_SHOTS = 2
"""The fewest shots of a class: one to learn from, one to select the step by."""


class TuningError(InstructUEError):
    """Labels or settings by which no instruction can be tuned."""


def draw_shots(
    labels_L: ArrayLike, shots: int | None, seed: int = 0, *, user_ids: Sequence[str] | NDArray[np.str_] | None = None
) -> Ints:
    """Return the labels to tune with: those of `shots` users, stratified by class, at least two of each; None: all.

    With the same seed, a larger number of shots has all users of a smaller one. Without `user_ids` each label is one of
    another user.

    Raises
    ------
    TuningError
        One class only, a class of one user, or fewer shots than two of each class.
    """
    classes_L = class_numbers(labels_L, user_ids)
    user_L, classes_U = _users_with_class(classes_L, user_ids)
    if shots is None or shots >= len(classes_U):
        return np.arange(len(classes_L))
    classes = len(np.unique(classes_L))
    if shots < LEAST_SHOTS * classes:
        raise TuningError(
            f"{shots} shots are too few for {classes} classes: take at least {LEAST_SHOTS} of each, "
            f"{LEAST_SHOTS * classes} in all"
        )
    place_U = np.empty(len(classes_U), np.int64)
    place_U[_stratified_order(classes_U, np.random.default_rng(seed))] = np.arange(len(classes_U))
    order_L = np.argsort(place_U[user_L], kind="stable")
    return order_L[place_U[user_L][order_L] < shots]


def class_numbers(labels: ArrayLike, user_ids: Sequence[str] | NDArray[np.str_] | None = None) -> Ints:
    """Return the classes as 0 to K - 1.

    Raises
    ------
    TuningError
        One class only, or a class of one user.
    """
    names, classes = np.unique(np.asarray(labels), return_inverse=True)
    if len(names) < 2:
        raise TuningError(f"the users to tune with have the labels {names.tolist()} alone: label some of another class")
    users = np.arange(len(classes)) if user_ids is None else np.unique(np.asarray(user_ids), return_inverse=True)[1]
    pairs = np.unique(np.stack([classes, users], axis=1), axis=0)
    counts = np.bincount(pairs[:, 0])
    if counts.min() < LEAST_SHOTS:
        raise TuningError(f"only one user to tune with has the label {names[counts.argmin()]}: label more of them")
    return np.asarray(classes, np.int64)


def _users_with_class(classes_L: Ints, user_ids: Sequence[str] | NDArray[np.str_] | None = None) -> tuple[Ints, Ints]:
    """Return the user of each label, as a number in the order of the labels, and each user's class: their rarest."""
    if user_ids is None:
        return np.arange(len(classes_L)), classes_L
    numbers: dict[str, int] = {}
    user_L = np.array([numbers.setdefault(user, len(numbers)) for user in user_ids], np.int64)
    # The rarest class is written last.
    order_L = np.argsort(-np.bincount(classes_L)[classes_L], kind="stable")
    classes_U = np.empty(len(numbers), np.int64)
    classes_U[user_L[order_L]] = classes_L[order_L]
    return user_L, classes_U


def held_out_shots(
    classes_S: Ints, share: float, rng: np.random.Generator, user_ids: Sequence[str] | NDArray[np.str_] | None = None
) -> Bools:
    """Return True for the shots that are held out: those of a share of each class's users, at least one and not all.

    Raises
    ------
    TuningError
        The users who are left have no label of a class.
    """
    user_S, classes_U = _users_with_class(classes_S, user_ids)
    held_out_U = np.zeros(len(classes_U), bool)
    for number, count in enumerate(np.bincount(classes_U)):
        size = min(max(1, round(share * int(count))), int(count) - 1) if count else 0
        held_out_U[rng.permutation(np.flatnonzero(classes_U == number))[:size]] = True
    held_out_S: Bools = held_out_U[user_S]
    if len(np.unique(classes_S[~held_out_S])) < len(np.unique(classes_S)):
        raise TuningError("too few users have labels of every class: label more users, or at fewer times")
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
