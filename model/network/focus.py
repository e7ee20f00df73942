"""Focus: an embedding that is centred on the population and stretched along what an instruction asks for.

    normalise(c + s (c . w) w)

c is the user's embedding minus the population's mean, w the instruction's own text embedding, s one number for all
instructions (`model.training.focus` sets mean and s). Without an instruction w is zero, and the embedding is the
normalised c. The length of c has no effect on the result, so a stored universal embedding is enough to focus it on any
instruction.

The mean is that of the universal embeddings, in both forms of `NetworkConfig.focus`. All embeddings of a release then
have the same origin, and an instruction that is given on the spot needs no forward pass over many profiles for a mean
of its own. In the form `suffix`, an instruction may move the embeddings of all users alike; this mean does not remove
that.

Shapes: B users, K instructions, H width of an embedding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Focus(nn.Module):
    """The constants of a checkpoint's focus; all zero before the end of its training."""

    mean_H: Tensor
    scale: Tensor
    user: Tensor
    """The token `<USER>`."""
    end: Tensor
    """The token that ends a text."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean_H", torch.zeros(width))
        self.register_buffer("scale", torch.zeros(()))
        self.register_buffer("user", torch.zeros((), dtype=torch.int64))
        self.register_buffer("end", torch.zeros((), dtype=torch.int64))

    def forward(self, users_BKH: Tensor, directions_KH: Tensor) -> Tensor:
        """Return `focused_BKH`, L2-normalised; an axis K of length 1 is the same embedding for each instruction.

        `directions_KH` are unit vectors, or zeros without an instruction.
        """
        centred_BKH = users_BKH - self.mean_H
        along_BK1 = (centred_BKH * directions_KH).sum(-1, keepdim=True)
        return F.normalize(centred_BKH + self.scale * along_BK1 * directions_KH, dim=-1)
