"""How the variance of vectors divides: by user, by instruction, and by both together.

Shapes: U users, K instructions, H width of a vector.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from model.data.arrays import Floats


@dataclass(frozen=True, kw_only=True)
class VarianceShares:
    """Shares of the variance, of a sum of 1."""

    user: float
    """Of the users' means over instructions."""
    instruction: float
    """Of the instructions' means over users."""
    both: float
    """The rest: what an instruction changes in one user and not in another."""


def variance_shares(vectors_UKH: Floats) -> VarianceShares | None:
    """Return the shares of an analysis of variance in two ways, over all numbers of a vector; None where all are equal.

    `[U, K, H]`: every user under every instruction.
    """
    deviations_UKH = np.asarray(vectors_UKH, np.float64) - vectors_UKH.mean(axis=(0, 1), dtype=np.float64)
    total = (deviations_UKH**2).sum(axis=-1).mean()
    if not total > 0:
        return None
    user = (deviations_UKH.mean(axis=1) ** 2).sum(axis=-1).mean() / total
    instruction = (deviations_UKH.mean(axis=0) ** 2).sum(axis=-1).mean() / total
    return VarianceShares(user=float(user), instruction=float(instruction), both=float(1 - user - instruction))
