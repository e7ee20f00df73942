"""The last layer of a Qwen2, computed only for the tokens that are read.

After the last layer, `<USER>` and, in training, the tokens of the answers are read. The other tokens need keys and
values in that layer, and neither queries nor the feed-forward layer.

Shapes: B sequences, S tokens of a sequence, K tokens of it that are read, H width of the backbone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.qwen2.modeling_qwen2 import Qwen2Model, apply_rotary_pos_emb, repeat_kv

Select = Callable[[Tensor, int], Tensor]
"""Return the K tokens of a tensor that are read; the number is the axis of its S tokens."""


def is_supported(decoder: nn.Module) -> bool:
    """Return whether `hidden_at` can compute a decoder; others of transformers differ within the layer."""
    return isinstance(decoder, Qwen2Model)


def hidden_at(decoder: Any, tokens_BSH: Tensor, mask: Tensor, positions_BS: Tensor, select: Select) -> Tensor:
    """Return the final hidden states of a Qwen2 at some tokens alone, [B, K, H]."""
    angles = decoder.rotary_emb(tokens_BSH, positions_BS)
    *layers, last = decoder.layers
    for layer in layers:
        tokens_BSH = layer(tokens_BSH, attention_mask=mask, position_ids=positions_BS, position_embeddings=angles)
    hidden_BKH: Tensor = decoder.norm(_last_at(last, tokens_BSH, mask, angles, select))
    return hidden_BKH


def _last_at(
    layer: nn.Module, tokens_BSH: Tensor, mask: Tensor, angles: tuple[Tensor, Tensor], select: Select
) -> Tensor:
    """Return the output of a layer at some tokens, [B, K, H]; the other tokens give keys and values only."""
    attention: Any = layer.self_attn
    normal_BSH = layer.input_layernorm(tokens_BSH)  # type: ignore[operator]

    def heads(vectors: Tensor) -> Tensor:
        return vectors.unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)

    cos, sin = angles
    query, _ = apply_rotary_pos_emb(
        *(heads(attention.q_proj(select(normal_BSH, 1))),) * 2, select(cos, 1), select(sin, 1)
    )
    key, _ = apply_rotary_pos_emb(*(heads(attention.k_proj(normal_BSH)),) * 2, cos, sin)
    value = heads(attention.v_proj(normal_BSH))
    key, value = (repeat_kv(part, attention.num_key_value_groups) for part in (key, value))
    seen = F.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=select(mask, 2),
        dropout_p=attention.attention_dropout if layer.training else 0.0,
        scale=attention.scaling,
    )
    tokens_BKH = select(tokens_BSH, 1) + attention.o_proj(seen.transpose(1, 2).flatten(2))
    return tokens_BKH + layer.mlp(layer.post_attention_layernorm(tokens_BKH))  # type: ignore[operator]
