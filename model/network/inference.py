"""Inference in torch: the embeddings and the generated answers of a network.

The vectors of the ONNX runtime are compared with these.

Shapes: K instructions, I tokens of the longest, H width of the backbone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.data.arrays import Ints
from model.data.profiles import read_profiles, text_ids
from model.data.text import Tokenizers
from model.network.kv_cache import ProfileKVCache
from model.network.network import InstructUE
from model.network.tensors import ProfileTensors


@torch.inference_mode()
def embed(
    network: InstructUE,
    tokenizers: Tokenizers,
    profiles: pa.Table,
    instructions: Sequence[str | None],
    *,
    batch_size: int = 128,
) -> NDArray[np.float32]:
    """Return `[users, instructions, width]`, L2-normalised; the instruction None gives the universal embedding."""
    vectors_KIH, mask_KI = instruction_vectors(network, tokenizers, instructions)
    parts = [
        network.forward_users(part, vectors_KIH, mask_KI).float().cpu().numpy()
        for part in _batches(network, tokenizers, profiles, batch_size)
    ]
    width = network.config.embedding_width
    return np.concatenate(parts) if parts else np.zeros((0, len(instructions), width), dtype=np.float32)


@torch.inference_mode()
def generate(
    network: InstructUE,
    tokenizers: Tokenizers,
    profiles: pa.Table,
    instruction: str | None,
    *,
    max_tokens: int = 64,
    batch_size: int = 128,
) -> list[str]:
    """Return each user's answer to one instruction, by greedy decoding.

    A profile is read once, and then each token of the answer once.
    """
    vectors_1IH, _ = instruction_vectors(network, tokenizers, [instruction])
    answers: list[str] = []
    for start in range(0, len(profiles), batch_size):
        kv_cache = ProfileKVCache(network, tokenizers, profiles.slice(start, batch_size))
        suffixes = kv_cache.behind(np.arange(len(kv_cache)))
        hidden_BLH = suffixes.read(vectors_1IH.expand(len(kv_cache), -1, -1))
        tokens: list[Tensor] = []
        is_finished_B = torch.zeros(len(kv_cache), dtype=torch.bool, device=network.device)
        for _ in range(max_tokens):
            tokens.append(network.token_logits(hidden_BLH[:, -1]).argmax(-1))
            is_finished_B |= tokens[-1] == tokenizers.end
            if is_finished_B.all():
                break
            hidden_BLH = suffixes.read(network.token_vectors(tokens[-1])[:, None])
        answers += [tokenizers.answer_text(ids) for ids in torch.stack(tokens, dim=1).tolist()]
    return answers


@torch.inference_mode()
def instruction_vectors(
    network: InstructUE, tokenizers: Tokenizers, instructions: Sequence[str | None]
) -> tuple[Tensor, Tensor]:
    """Return `vectors_KIH` and `mask_KI` of the instructions, each followed by `<USER>`; padding is zeros."""
    ids = tokenizers.instruction_ids(instructions)
    ids_KI, mask_KI = (torch.from_numpy(part).to(network.device) for part in ids.padded(np.arange(len(ids))))
    return network.token_vectors(ids_KI) * mask_KI[:, :, None], mask_KI


def _batches(network: InstructUE, tokenizers: Tokenizers, table: pa.Table, batch_size: int) -> Iterator[ProfileTensors]:
    profiles = read_profiles(table, network.config)
    event_ids = text_ids(profiles, network.config, tokenizers)
    users: Ints = np.arange(len(profiles))
    for start in range(0, len(users), batch_size):
        yield network.profile_tensors(profiles.batch(users[start : start + batch_size]), event_ids)
