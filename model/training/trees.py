"""LightGBM as a baseline, with settings for some hundred to some thousand users.

Shapes: L labelled users, M others, D features.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from model.training.few_labels import Fitted

LEAF = 20
"""The fewest users of a leaf, LightGBM's own default."""
LEAVES = 8
"""With few labels a leaf may have fewer users, so that there can be this many."""


def boosted_trees(
    features_LD: NDArray[np.float64], others_MD: NDArray[np.float64], *, leaf: int | None = None
) -> Fitted:
    """Return LightGBM's probability of class 1; a NaN is a missing value.

    Parameters
    ----------
    leaf
        The fewest users of a leaf; None: `LEAF`, or fewer where there are too few labels for `LEAVES` such leaves.
    """
    least = max(2, min(LEAF, len(features_LD) // LEAVES)) if leaf is None else leaf

    def scores(labels_L: NDArray[np.int64]) -> NDArray[np.float64]:
        from lightgbm import LGBMClassifier  # takes a second to import, and only the baseline needs it

        # One thread is as fast at this size, and gives the same trees on any machine.
        trees = LGBMClassifier(
            n_estimators=200,
            learning_rate=0.03,
            num_leaves=15,
            min_child_samples=least,
            subsample=0.8,
            subsample_freq=1,
            random_state=0,
            n_jobs=1,
            deterministic=True,
            force_col_wise=True,
            verbose=-1,
        ).fit(features_LD, labels_L)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="X does not have valid feature names")
            return np.asarray(trees.predict_proba(others_MD))[:, 1]

    return scores
