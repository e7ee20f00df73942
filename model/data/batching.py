"""Batches of items of similar length, so that little padding is read.

Shapes: N items, B items of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from model.data.arrays import Ints


def batches_of_size(lengths_N: Ints, size: int, *, classes_per_octave: int | None = None) -> list[Ints]:
    """Return the items in batches of `size`, the shortest first; items of equal length keep their order.

    Parameters
    ----------
    lengths_N
        Tokens, or events, of each item.
    size
        Items of a batch. The last batch, or the last one of each length class, may have fewer.
    classes_per_octave
        Divide lengths into so many classes for each doubling, and mix no two classes in a batch; None: one class.

    Returns
    -------
    list of numpy.ndarray
        Each batch's items as indices into `lengths_N`; every item is in one batch.
    """
    order_N = np.argsort(lengths_N, kind="stable")
    classes = [order_N]
    if classes_per_octave is not None:
        class_N = np.floor(np.log2(np.maximum(1, lengths_N[order_N])) * classes_per_octave)
        classes = np.split(order_N, np.flatnonzero(np.diff(class_N)) + 1)
    return [items[start : start + size] for items in classes for start in range(0, len(items), size)]


def batches_of_tokens(lengths_N: Ints, tokens: int) -> list[Ints]:
    """Return the items in batches of at most `tokens`, padding included, the longest first.

    An item longer than `tokens` is a batch of its own. Items of equal length keep their order.

    Parameters
    ----------
    lengths_N
        Tokens of each item.
    tokens
        The most tokens of a batch in which each item is padded to the longest.

    Returns
    -------
    list of numpy.ndarray
        Each batch's items as indices into `lengths_N`; every item is in one batch.
    """
    order_N = np.argsort(-lengths_N, kind="stable")
    batches: list[Ints] = []
    start = 0
    while start < len(order_N):
        size = max(1, tokens // max(1, int(lengths_N[order_N[start]])))
        batches.append(order_N[start : start + size])
        start += size
    return batches


def original_order(batches: Sequence[Ints]) -> Ints:
    """Return the `[N]` indices that bring the results of all batches, end to end, into the order of the items."""
    if not batches:
        return np.zeros(0, dtype=np.int64)
    return np.argsort(np.concatenate(batches))
