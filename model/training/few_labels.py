"""Classifiers that a few labels fit in milliseconds, for scores at many numbers of labels and on many draws.

Each one takes the features of the labelled users and of others, and returns a function from labels to the others'
scores. What depends on the features alone is computed once and serves the labels of several scenarios.

Shapes: L labelled users, M others, D features, A strengths.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Matrix = NDArray[np.float64]
Labels = NDArray[np.int64]
Fitted = Callable[[Labels], Matrix]
"""Takes the labels `[L]`, 0 and 1, and returns scores `[M]`."""

STRENGTHS = np.logspace(6, -2, 17)
"""Strengths of the ridge, from strong to weak, for standardised features."""
TOLERANCE = 0.5
"""Standard errors of a correlation by which a stronger ridge may be worse than the best one."""
NEIGHBOURS = 20
ROWS = 1_024
"""Users whose similarities to all labelled users are in memory at once."""
LEAST_UNEXPLAINED = 1e-10
"""1 minus a row's leverage is this at least; a leave-one-out error divides by it."""


def ridge(features_LD: Matrix, others_MD: Matrix) -> Fitted:
    """Return a ridge regression of the labels on standardised features.

    Of its strengths, the strongest is taken whose leave-one-out predictions correlate with the labels almost as well as
    those of the best: within half a standard error of a correlation, 1 / sqrt(L). The best one itself is chance where
    labels are few: it costs .016 of AUC with 16 labels and .017 with 64 on the made-up company.

    A prediction counts without the mean of the labels that it is fitted on, which is lower for each user of class 1.
    The predictions have a closed form (Allen's PRESS). With fewer labels than features, the regression is solved in the
    space of the labels.
    """
    features_LD = np.asarray(features_LD, np.float64)
    scale_D = features_LD.std(axis=0)
    scale_D = np.where(scale_D > 1e-12, scale_D, 1)
    standard_LD = (features_LD - features_LD.mean(axis=0)) / scale_D
    # The columns of `left` span the fits, and `right` has the weights of the features for each of them.
    if len(standard_LD) < standard_LD.shape[1]:
        values, left = np.linalg.eigh(standard_LD @ standard_LD.T)
        values = values.clip(min=1e-12 * max(values[-1], 1))
        right = standard_LD.T @ (left / values)
    else:
        values, directions = np.linalg.eigh(standard_LD.T @ standard_LD)
        values = values.clip(min=1e-12 * max(values[-1], 1))
        left, right = standard_LD @ directions / np.sqrt(values), directions / np.sqrt(values)
    # Both parts of an error that is left out are sums of small numbers: 1 minus a leverage near 1 would lose them.
    rest_DA = STRENGTHS / (values[:, None] + STRENGTHS)
    outside_L = 1 - (left**2).sum(axis=1)
    unexplained_LA = (outside_L[:, None] + left**2 @ rest_DA - 1 / len(left)).clip(min=LEAST_UNEXPLAINED)

    def scores(labels_L: Labels) -> Matrix:
        centred_L = labels_L - labels_L.mean()
        along_D = left.T @ centred_L
        residuals_LA = (centred_L - left @ along_D)[:, None] + left @ (rest_DA * along_D[:, None])
        less_mean_L1 = (centred_L * len(centred_L) / (len(centred_L) - 1))[:, None]
        predicted_LA = less_mean_L1 - residuals_LA / unexplained_LA
        predicted_LA -= predicted_LA.mean(axis=0)
        lengths_A = np.linalg.norm(predicted_LA, axis=0).clip(min=1e-12)
        correlation_A = centred_L @ predicted_LA / lengths_A / np.linalg.norm(centred_L)
        enough = correlation_A.max() - TOLERANCE / np.sqrt(len(centred_L))
        best = int((correlation_A >= enough).argmax())
        weights_D = right @ ((1 - rest_DA[:, best]) * along_D)
        return np.asarray(others_MD @ (weights_D / scale_D))

    return scores


def prototypes(features_LD: Matrix, others_MD: Matrix) -> Fitted:
    """Return how much nearer the others are to class 1's normalised mean than to class 0's (eq. 6)."""

    def scores(labels_L: Labels) -> Matrix:
        means = [features_LD[labels_L == label].mean(axis=0) for label in (0, 1)]
        return others_MD @ (means[1] / np.linalg.norm(means[1]) - means[0] / np.linalg.norm(means[0]))

    return scores


def neighbours(features_LD: Matrix, others_MD: Matrix) -> Fitted:
    """Return the share of class 1 among the 20 nearest labelled users, by cosine of vectors less their common mean."""
    mean_D = np.concatenate([features_LD, others_MD]).mean(axis=0)
    near, far = (_unit(vectors - mean_D) for vectors in (features_LD, others_MD))
    parts = [
        np.argpartition(-(far[first : first + ROWS] @ near.T), NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]
        for first in range(0, len(far), ROWS)
    ]
    nearest_MK = np.concatenate(parts)
    return lambda labels_L: labels_L[nearest_MK].mean(axis=1)


def one_count(features_LD: Matrix, others_MD: Matrix) -> Fitted:
    """Return the one feature, with its sign, that ranks the labelled users best; the first of equal ones."""
    ranks_LD = rankdata(features_LD, axis=0)

    def scores(labels_L: Labels) -> Matrix:
        ones = int(labels_L.sum())
        above_D = ranks_LD[labels_L == 1].sum(axis=0) - ones * (ones + 1) / 2
        margin_D = above_D / (ones * (len(labels_L) - ones)) - 0.5
        best = int(np.abs(margin_D).argmax())
        return np.asarray(others_MD[:, best] * np.sign(margin_D[best]))

    return scores


def _unit(vectors: Matrix) -> Matrix:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(min=1e-12)
