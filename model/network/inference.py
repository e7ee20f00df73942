"""A checkpoint at work in torch: embeddings and generated answers; the runtime's vectors are held against
these.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.data.profiles import Ints, read_profiles, text_ids
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
    """Return `[users, instructions, width]`, L2-normalised; None among the instructions is the universal
    embedding.
    """
    vectors_KIH, mask_KI = instruction_vectors(network, tokenizers, instructions)
    parts = [
        network.forward_users(part, vectors_KIH, mask_KI).float().cpu().numpy()
        for part in _read(network, tokenizers, profiles, batch_size)
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
    """Return each user's answer to one instruction, the likeliest token at every step.

    A profile is read once, and each token once behind it.
    """
    vectors_1IH, _ = instruction_vectors(network, tokenizers, [instruction])
    answers: list[str] = []
    for start in range(0, len(profiles), batch_size):
        read = ProfileKVCache(network, tokenizers, profiles.slice(start, batch_size))
        suffixes = read.behind(np.arange(len(read)))
        hidden_BLH = suffixes.read(vectors_1IH.expand(len(read), -1, -1))
        chosen: list[Tensor] = []
        ended_B = torch.zeros(len(read), dtype=torch.bool, device=network.device)
        for _ in range(max_tokens):
            chosen.append(network.token_logits(hidden_BLH[:, -1]).argmax(-1))
            ended_B |= chosen[-1] == tokenizers.end
            if ended_B.all():
                break
            hidden_BLH = suffixes.read(network.token_vectors(chosen[-1])[:, None])
        answers += [tokenizers.answer_text(ids) for ids in torch.stack(chosen, dim=1).tolist()]
    return answers


@torch.inference_mode()
def instruction_vectors(
    network: InstructUE, tokenizers: Tokenizers, instructions: Sequence[str | None]
) -> tuple[Tensor, Tensor]:
    """Return `vectors_KIH` and `mask_KI` of the instructions, each with its `<USER>` at last; padding is
    zeros.
    """
    ids = tokenizers.instruction_ids(instructions)
    ids_KI, mask_KI = (torch.from_numpy(part).to(network.device) for part in ids.padded(np.arange(len(ids))))
    return network.token_vectors(ids_KI) * mask_KI[:, :, None], mask_KI


def _read(network: InstructUE, tokenizers: Tokenizers, table: pa.Table, batch_size: int) -> Iterator[ProfileTensors]:
    profiles = read_profiles(table, network.config)
    event_ids = text_ids(profiles, network.config, tokenizers)
    users: Ints = np.arange(len(profiles))
    for start in range(0, len(users), batch_size):
        yield network.profile_tensors(profiles.batch(users[start : start + batch_size]), event_ids)
