"""The event-text encoder: a BERT-class network whose first hidden state (CLS) is an event's vector.

Shapes: T texts, L tokens of the longest of them, E width of an event vector.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from model.config import EncoderConfig, initial_std


class EventEncoder(nn.Module):
    """Texts in, one vector for each out.

    Parameters
    ----------
    config
        The sizes.
    max_tokens
        The most tokens of a text, its `<cls>` included.
    """

    def __init__(self, config: EncoderConfig, max_tokens: int) -> None:
        super().__init__()
        # No dropout: a network of this size, trained for minutes, does not live to overfit.
        sizes = BertConfig(
            vocab_size=config.vocabulary,
            hidden_size=config.width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            intermediate_size=config.feedforward,
            max_position_embeddings=max_tokens,
            type_vocab_size=1,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            initializer_range=initial_std(config.width),
        )
        self.bert = BertModel(sizes, add_pooling_layer=False)

    def forward(self, input_ids_TL: Tensor, attention_mask_TL: Tensor) -> Tensor:
        """Return `vectors_TE` of texts that begin with `<cls>`; the mask is 1 for tokens, 0 for padding."""
        # An additive mask made here keeps transformers' data-dependent shortcuts out of an exported graph.
        dtype = self.bert.embeddings.word_embeddings.weight.dtype
        hidden = (attention_mask_TL[:, None, None, :] == 0).to(dtype) * torch.finfo(dtype).min
        length = input_ids_TL.shape[1]
        mask_T1LL = hidden.expand(-1, 1, length, length)
        return self.bert(input_ids=input_ids_TL, attention_mask=mask_T1LL).last_hidden_state[:, 0]
