"""The tensors that the network reads and returns.

Shapes: B users, N events of a source, E width of an event vector, H width of an embedding, Q question-answer pairs,
F numbers, W width of a number's code, C categories, V vocabulary; of logits and tokens, N answer tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from model.data.text import TokenIds

Texts = Sequence[TokenIds | Tensor]
"""Each source's distinct texts, as tokens or as the vectors of a frozen encoder."""


@dataclass(frozen=True, kw_only=True)
class ProfileTensors:
    """The user graph's inputs of a profile; a tuple has one tensor for each source.

    `events_BNE` are the encoder's vectors, zeros where `masks_BN` is 0; `gaps_BN` and `ages_B` are codes of time bands.
    `numbers_BFW` or `categories_BC` is None where the network has no such column.
    """

    events_BNE: tuple[Tensor, ...]
    masks_BN: tuple[Tensor, ...]
    gaps_BN: tuple[Tensor, ...]
    ages_B: tuple[Tensor, ...]
    numbers_BFW: Tensor | None = None
    categories_BC: Tensor | None = None

    @property
    def users(self) -> int:
        """The number of users, B."""
        tensors = (*self.masks_BN, self.numbers_BFW, self.categories_BC)
        return next(tensor.shape[0] for tensor in tensors if tensor is not None)


@dataclass(frozen=True, kw_only=True)
class PairOutputs:
    """The inputs of the losses: each pair's embeddings, and the logits and tokens of the answers.

    `embeddings_3QH` are those of the user, of the answer, and of the instruction's text, read as an answer is.
    """

    embeddings_3QH: Tensor
    logits_NV: Tensor
    tokens_N: Tensor
