"""Batches by length: every item once, of similar length, within the limit."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from model.data.batching import batches_of_size, batches_of_tokens, original_order

LENGTHS = np.random.default_rng(0).integers(0, 90, 500)


def test_batches_of_a_size_go_from_the_shortest_to_the_longest() -> None:
    batches = batches_of_size(LENGTHS, 16)
    assert [len(batch) for batch in batches] == [16] * 31 + [4]
    items = np.concatenate(batches).tolist()
    assert items == sorted(range(500), key=lambda item: LENGTHS[item])  # sorted is stable


def test_length_classes_are_never_mixed() -> None:
    batches = batches_of_size(LENGTHS, 16, classes_per_octave=5)
    assert sorted(np.concatenate(batches).tolist()) == list(range(500))
    for batch in batches:
        lengths = np.maximum(1, LENGTHS[batch])
        assert len(batch) <= 16
        assert lengths.max() <= lengths.min() * 2 ** (1 / 5)
    assert all(LENGTHS[one].max() <= LENGTHS[two].min() for one, two in pairwise(batches))


@pytest.mark.parametrize("tokens", [40, 300])
def test_padded_batches_are_within_the_tokens_and_as_large_as_they_can_be(tokens: int) -> None:
    batches = batches_of_tokens(LENGTHS, tokens)
    assert np.concatenate(batches).tolist() == sorted(range(500), key=lambda item: -LENGTHS[item])
    for batch in batches:
        assert len(batch) * LENGTHS[batch].max() <= tokens or len(batch) == 1
    for batch in batches[:-1]:
        assert (len(batch) + 1) * max(1, LENGTHS[batch].max()) > tokens


def test_results_return_to_the_order_of_the_items() -> None:
    for batches in (batches_of_size(LENGTHS, 7, classes_per_octave=3), batches_of_tokens(LENGTHS, 100)):
        results = np.concatenate([LENGTHS[batch] for batch in batches])
        assert (results[original_order(batches)] == LENGTHS).all()
    assert original_order([]).tolist() == []
    assert batches_of_tokens(LENGTHS[:0], 100) == batches_of_size(LENGTHS[:0], 4) == []
