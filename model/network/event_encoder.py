"""The event-text encoder: a BERT-class network that gives one vector for each event's text.

Shapes: T texts, L tokens of the longest of them, E width of an event vector.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.data.transformer_config import EncoderConfig
from model.network.backbones import text_encoder


class EventEncoder(nn.Module):
    """Texts in, one vector for each out.

    Parameters
    ----------
    config
        The sizes or the pretrained model, and how its hidden states become a vector.
    max_tokens
        The most tokens of a text, special ones included.
    pretrained
        Whether to begin with the pretrained weights.
    """

    def __init__(self, config: EncoderConfig, max_tokens: int, *, pretrained: bool = False) -> None:
        super().__init__()
        self.pooling = config.pooling
        self.bert = text_encoder(config, max_tokens, pretrained=pretrained)

    def forward(self, input_ids_TL: Tensor, attention_mask_TL: Tensor) -> Tensor:
        """Return `vectors_TE`; the mask is 1 for tokens, 0 for padding."""
        # An additive mask made here keeps transformers' data-dependent shortcuts out of an exported graph.
        dtype = self.bert.dtype
        hidden = (attention_mask_TL[:, None, None, :] == 0).to(dtype) * torch.finfo(dtype).min
        length = input_ids_TL.shape[1]
        mask_T1LL = hidden.expand(-1, 1, length, length)
        states_TLE: Tensor = self.bert(input_ids=input_ids_TL, attention_mask=mask_T1LL).last_hidden_state
        if self.pooling == "cls":
            return states_TLE[:, 0]
        real_TL1 = attention_mask_TL[:, :, None].to(dtype)
        return (states_TLE * real_TL1).sum(1) / real_TL1.sum(1)
