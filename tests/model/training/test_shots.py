"""Shots of users who have labels at several times."""

from __future__ import annotations

import numpy as np
import pytest

from model.training.shots import TuningError, draw_shots, held_out_shots

RNG = np.random.default_rng(0)
USERS = np.array([f"u{number}" for number in RNG.permutation(np.repeat(np.arange(100), 3))])
LABELS = RNG.choice([5, 2, 9], p=[0.7, 0.2, 0.1], size=300)
"""Most users have labels of two classes."""


@pytest.mark.parametrize("shots", [6, 20, 60])
def test_shots_are_all_labels_of_so_many_users(shots):
    rows = draw_shots(LABELS, shots, seed=1, user_ids=USERS)
    drawn = {*USERS[rows]}
    assert len(drawn) == shots
    assert sorted(rows) == np.flatnonzero(np.isin(USERS, [*drawn])).tolist()
    assert {*LABELS[rows]} == {5, 2, 9}
    assert drawn <= {*USERS[draw_shots(LABELS, shots + 5, seed=1, user_ids=USERS)]}


def test_a_label_for_each_user_is_drawn_as_without_user_ids():
    alone = [f"u{number}" for number in range(300)]
    for shots in (None, 6, 50):
        np.testing.assert_array_equal(draw_shots(LABELS, shots, 3, user_ids=alone), draw_shots(LABELS, shots, 3))
    classes = np.unique(LABELS, return_inverse=True)[1]
    both = [held_out_shots(classes, 0.3, np.random.default_rng(1), users) for users in (alone, None)]
    np.testing.assert_array_equal(*both)


def test_no_user_is_held_out_and_learned_from():
    classes = np.unique(LABELS, return_inverse=True)[1]
    for seed in range(20):
        held_out = held_out_shots(classes, 0.3, np.random.default_rng(seed), USERS)
        assert not {*USERS[held_out]} & {*USERS[~held_out]}
        assert len({*USERS[held_out]}) == pytest.approx(30, abs=2)
        assert {*classes[~held_out]} == {0, 1, 2}


def test_classes_are_counted_by_users():
    with pytest.raises(TuningError, match="only one user to tune with has the label 1"):
        draw_shots([0, 0, 0, 1, 1, 1], None, user_ids=["a", "b", "c", "d", "d", "d"])
