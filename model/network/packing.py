"""Packing: many suffixes behind one profile, under a mask by which each sees only the profile and itself.

A packed sequence is [profile | suffix 1 | ... | suffix K]; `model.data.segments` names the segments of its tokens.

Shapes: B sequences, S tokens of a packed sequence, L tokens of a suffix's next piece.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.data.segments import PADDING, PROFILE


def pack(segments_BS: Tensor, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Return the additive mask `[B, 1, S, S]` (0: seen, the dtype's minimum: not) and the positions `[B, S]`.

    A token sees the profile's tokens before it and its own suffix's tokens before it. Its position is the number of
    tokens that it sees besides itself: every suffix starts at the position after the profile, and padding is not
    counted. A vector thus depends neither on other suffixes nor on padding. Padding sees itself, since a softmax over
    nothing is not a number.
    """
    length = segments_BS.shape[1]
    order_S = torch.arange(length, device=segments_BS.device)
    causal_SS = order_S[None, :] <= order_S[:, None]
    itself_SS = order_S[None, :] == order_S[:, None]
    of_query_BS1, of_key_B1S = segments_BS[:, :, None], segments_BS[:, None, :]
    related_BSS = (of_key_B1S == PROFILE) | ((of_key_B1S == of_query_BS1) & (of_key_B1S != PADDING))
    seen_BSS = (causal_SS & related_BSS) | itself_SS
    mask_BSS = torch.zeros(seen_BSS.shape, dtype=dtype, device=segments_BS.device)
    mask_BSS = mask_BSS.masked_fill(~seen_BSS, torch.finfo(dtype).min)
    return mask_BSS[:, None], seen_BSS.sum(-1) - 1


def extend(read_BS: Tensor, length: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Return the additive mask `[B, 1, L, S + L]` and the positions `[B, L]` of the next `length` tokens of a suffix.

    `read_BS` is 1 for the tokens read before, of the profile and of this suffix, and 0 for padding. The results equal
    those of `pack` for the same tokens.
    """
    users = read_BS.shape[0]
    order_L = torch.arange(length, device=read_BS.device)
    causal_LL = order_L[None, :] <= order_L[:, None]
    seen_BLS = torch.cat([(read_BS > 0)[:, None].expand(-1, length, -1), causal_LL.expand(users, -1, -1)], dim=2)
    mask_BLS = torch.zeros(seen_BLS.shape, dtype=dtype, device=read_BS.device)
    mask_BLS = mask_BLS.masked_fill(~seen_BLS, torch.finfo(dtype).min)
    return mask_BLS[:, None], seen_BLS.sum(-1) - 1
