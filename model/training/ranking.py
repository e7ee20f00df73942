"""How well scores rank the users of two classes: pairs in order, and the area under the ROC curve.

Shapes: U users.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata


class PairCounts(NamedTuple):
    """The pairs of a user of class 1 and a user of class 0."""

    ordered: float
    """Pairs in which the user of class 1 has the higher score; a pair of equal scores counts as a half."""
    pairs: int


def count_pairs(labels: ArrayLike, scores: ArrayLike) -> PairCounts:
    """Return the pairs of the users with these labels, 0 or 1 `[U]`, and these scores `[U]`."""
    is_one_U = np.asarray(labels) == 1
    ones = int(is_one_U.sum())
    zeros = len(is_one_U) - ones
    ranks_U = rankdata(np.asarray(scores))
    return PairCounts(float(ranks_U[is_one_U].sum()) - ones * (ones + 1) / 2, ones * zeros)


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the area under the ROC curve, the share of pairs in order; NaN where a class has no user."""
    ordered, pairs = count_pairs(labels, scores)
    return ordered / pairs if pairs else float("nan")
