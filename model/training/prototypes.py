"""Class prototypes and their loss (equation 6).

Shapes: B users of a batch, K classes, H width of an embedding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def prototype_loss(
    embeddings_BH: Tensor, classes_B: Tensor, prototypes_KH: Tensor | None = None, *, temperature: float = 0.07
) -> Tensor:
    """Return equation 6: the mean cross-entropy of each user's class, by the cosine to every class's prototype.

    Parameters
    ----------
    embeddings_BH
        L2-normalised.
    classes_B
        Whole numbers. With `prototypes_KH`, the row of each user's class.
    prototypes_KH
        See `class_prototypes`; None: those of these users.
    temperature
        tau.
    """
    if prototypes_KH is None:
        classes_B = torch.unique(classes_B, return_inverse=True)[1]
        prototypes_KH = class_prototypes(embeddings_BH, classes_B)
    return F.cross_entropy(embeddings_BH @ prototypes_KH.T / temperature, classes_B)


def class_prototypes(embeddings_BH: Tensor, classes_B: Tensor) -> Tensor:
    """Return `prototypes_KH`, L2-normalised: the mean embedding of each of the classes 0 to K - 1."""
    sums_KH = embeddings_BH.new_zeros(int(classes_B.max()) + 1, embeddings_BH.shape[1])
    return F.normalize(sums_KH.index_add(0, classes_B, embeddings_BH), dim=-1)  # a normalised sum is a normalised mean
