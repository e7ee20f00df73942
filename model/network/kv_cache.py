"""A cache of the language model's keys and values of profiles, so that only suffixes are read.

Attention is causal and the instruction comes last, so a profile's keys and values do not depend on what follows. To
tune an instruction or to generate an answer, the profile need not be read again.

Shapes: U users of a table, B users of a batch, P tokens of a profile, S tokens read so far, L tokens of the piece that
is read next, T tokens of all profiles end to end, G key-value heads, D width of a head, I tokens of an instruction, H
width of the backbone (and of an embedding, unless there is a head).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from transformers import DynamicCache

from model.data.arrays import Floats, Ints
from model.data.batching import batches_of_tokens
from model.data.config import NetworkConfig
from model.data.profiles import Profiles, read_profiles, text_ids
from model.data.segments import PADDING, PROFILE
from model.data.text import TokenIds, Tokenizers
from model.network.network import InstructUE
from model.network.packing import extend, pack

TOKENS_PER_BATCH = 16_384


class ProfileKVCache:
    """The keys and values of a table's users, without padding, on the network's device.

    A token takes 2 x layers x key-value heads x head width numbers: 2 kB in fp32 for the preset `tiny`, 24 kB for
    a backbone of Qwen2.5-0.5B's shape. All users of the table are in memory.

    Parameters
    ----------
    network
        Ready to embed (`eval`); it is not changed.
    tokenizers
        The network's.
    profiles
        Rows of `user_profiles`; methods name a user by the number of its row.

    Raises
    ------
    model.data.profiles.ProfileError
        Rows that are no profiles of this network.
    """

    def __init__(self, network: InstructUE, tokenizers: Tokenizers, profiles: pa.Table) -> None:
        self.network = network
        rows = read_profiles(profiles, network.config)
        self._lengths_U, self._starts_U = np.zeros((2, len(rows)), np.int64)
        # Sums of the final hidden states: the readout `mean` needs them.
        self._sums_UH = torch.zeros(len(rows), network.config.backbone.width, device=network.device)
        parts: list[list[tuple[Tensor, Tensor]]] = []
        total = 0
        with torch.no_grad():
            ids = text_ids(rows, network.config, tokenizers)
            texts = network.encode_texts(ids) if network.config.reading == "vectors" else ids
            for users_B in batches_of_tokens(_tokens(rows, ids, network.config), TOKENS_PER_BATCH):
                tokens_BPH, mask_BP = network.read_profile(network.profile_tensors(rows.batch(users_B), texts))
                cache, real_BP = DynamicCache(), mask_BP > 0
                mask, positions_BP = pack(torch.where(real_BP, PROFILE, PADDING), tokens_BPH.dtype)
                hidden_BPH = _read(network, tokens_BPH, mask, positions_BP, cache)
                self._sums_UH[users_B] = (hidden_BPH * real_BP[:, :, None]).sum(1)
                parts.append(
                    [
                        (keys_BGPD.transpose(1, 2)[real_BP], values_BGPD.transpose(1, 2)[real_BP])
                        for keys_BGPD, values_BGPD, *_ in cache
                    ]
                )
                lengths_B = real_BP.sum(1).cpu().numpy()
                self._lengths_U[users_B] = lengths_B
                self._starts_U[users_B] = total + np.cumsum(lengths_B) - lengths_B
                total += int(lengths_B.sum())
        # [T, G, D] of each layer.
        self._layers = [
            tuple(torch.cat(several) for several in zip(*layer, strict=True)) for layer in zip(*parts, strict=True)
        ]

    def __len__(self) -> int:
        return len(self._lengths_U)

    def behind(self, users_B: Ints) -> Suffixes:
        """Return an empty suffix behind each of these users' profiles."""
        lengths_B = self._lengths_U[users_B]
        within_P = np.arange(int(lengths_B.max(initial=0)))
        mask_BP = within_P < lengths_B[:, None]
        token_BP = self._tensor(np.where(mask_BP, self._starts_U[users_B][:, None] + within_P, 0))
        cache = DynamicCache(
            [
                (keys_TGD[token_BP].transpose(1, 2), values_TGD[token_BP].transpose(1, 2))
                for keys_TGD, values_TGD in self._layers
            ]
        )
        return Suffixes(self.network, cache, self._tensor(mask_BP.astype(np.int64)))

    def read(self, users_B: Ints, vectors_IH: Tensor) -> Tensor:
        """Return `embeddings_BH`, L2-normalised, of these users under an instruction; gradients reach `vectors_IH`."""
        vectors_1IH = vectors_IH.to(self.network.device)[None]
        mask_1I = torch.ones(vectors_1IH.shape[:2], dtype=torch.int64, device=self.network.device)
        suffix_1IH, _ = self.network.suffixes(vectors_1IH, mask_1I)
        embeddings_BH = self._read_suffix(users_B, suffix_1IH)
        if self.network.focus is None:
            return embeddings_BH
        directions_1H = self.network.directions(vectors_1IH, mask_1I)
        focused_BH: Tensor = self.network.focus(embeddings_BH[:, None], directions_1H)[:, 0]
        return focused_BH

    def _read_suffix(self, users_B: Ints, suffix_1IH: Tensor) -> Tensor:
        hidden_BIH = self.behind(users_B).read(suffix_1IH.expand(len(users_B), -1, -1))
        if self.network.config.readout == "user":
            return self.network.embeddings(hidden_BIH[:, -1])
        # A sum has the direction of the mean.
        return self.network.embeddings(self._sums_UH[self._tensor(users_B)] + hidden_BIH.sum(1))

    def embed(self, vectors_IH: Floats, users_U: Ints | None = None) -> Floats:
        """Return float32 `[U, H]`, these users' embeddings under an instruction; None: every user's.

        They equal those of `InstructUE.forward_users`.
        """
        users_U = np.arange(len(self)) if users_U is None else np.asarray(users_U, np.int64)
        embeddings_UH = np.zeros((len(users_U), self.network.config.embedding_width), np.float32)
        with torch.no_grad():
            for batch_B in batches_of_tokens(self._lengths_U[users_U], TOKENS_PER_BATCH):
                read_BH = self.read(users_U[batch_B], torch.from_numpy(vectors_IH))
                embeddings_UH[batch_B] = read_BH.float().cpu().numpy()
        return embeddings_UH

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.network.device)


class Suffixes:
    """A suffix behind each of some profiles, read a piece at a time."""

    def __init__(self, network: InstructUE, cache: DynamicCache, mask_BP: Tensor) -> None:
        self._network, self._cache, self._read_BS = network, cache, mask_BP

    def read(self, tokens_BLH: Tensor) -> Tensor:
        """Return the final `hidden_BLH` of the next tokens, which later tokens of the suffix see."""
        mask, positions_BL = extend(self._read_BS, tokens_BLH.shape[1], tokens_BLH.dtype)
        self._read_BS = torch.cat([self._read_BS, self._read_BS.new_ones(tokens_BLH.shape[:2])], dim=1)
        return _read(self._network, tokens_BLH, mask, positions_BL, self._cache)


def _read(network: InstructUE, tokens_BLH: Tensor, mask: Tensor, positions_BL: Tensor, cache: DynamicCache) -> Tensor:
    """Return the final hidden states, and add the keys and values of these tokens to the cache."""
    output = network.decoder(
        inputs_embeds=tokens_BLH, attention_mask=mask, position_ids=positions_BL, past_key_values=cache, use_cache=True
    )
    hidden_BLH: Tensor = output.last_hidden_state
    return hidden_BLH


def _tokens(rows: Profiles, ids: Sequence[TokenIds], config: NetworkConfig) -> Ints:
    """Return the number of tokens of each user's profile, `[U]`."""
    if config.reading == "vectors":
        return rows.lengths_U + config.fixed_tokens
    [source], [texts] = rows.sources, ids
    text_E = np.append(texts.lengths, 0)[source.text_E]  # of a user: one text or none
    return config.fixed_tokens + np.diff(np.concatenate([[0], np.cumsum(text_E)])[source.offsets_U1])
