"""InstructUE: a language model reads a user's events and attributes, then an instruction, and gives one vector.

    [pooled] <bill> event ... </bill> ... <tabular> token </tabular> | instruction <USER> | ...

The final hidden state at each `<USER>`, L2-normalised, is the user's embedding under that instruction. `readout` and
`reading` are two ablations of the paper that change this; `head` is an option of the follow-up's, `focus` one of ours.

Shapes: B users, N events of a source, T distinct texts, L tokens of a text or of a user's suffixes, E width
of an event vector, H width of the backbone (and of an embedding, unless there is a head), P tokens of a profile,
S = P + L tokens of a packed sequence, K instructions, I tokens of the longest, Q question-answer pairs, A distinct
answers, F numbers, W width of a number's code, C categories, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from model.data.arrays import Ints
from model.data.batching import batches_of_size, original_order
from model.data.config import NetworkConfig
from model.data.pair_batch import PairBatch
from model.data.profiles import ProfileBatch, SourceBatch
from model.data.segments import PADDING, PROFILE
from model.data.text import SENTENCE_TOKENS, TokenIds
from model.data.time_bands import BAND_CODES
from model.data.transformer_config import initial_std
from model.network.backbones import language_model
from model.network.event_encoder import EventEncoder
from model.network.focus import Focus
from model.network.last_layer import hidden_at, is_supported
from model.network.layers import adapter, embedding_head, embedding_table
from model.network.packing import pack
from model.network.tensors import PairOutputs, ProfileTensors, Texts

CATEGORY_WIDTH = 16
# The most texts that are encoded together.
TEXTS_PER_BATCH = 1024


class InstructUE(nn.Module):
    """The network of a configuration.

    `forward` computes a training step; `forward_users` and `encode_events` are exported as graphs.

    Parameters
    ----------
    config
        A completed one, with the true sizes of its vocabularies, the statistics of its tabular columns and the
        architectures of its pretrained models.
    pretrained
        Load the weights of the pretrained models that the config names; otherwise all weights are fresh, as a
        checkpoint with weights of its own needs them.
    """

    first_category_C: Tensor

    def __init__(self, config: NetworkConfig, *, pretrained: bool = False) -> None:
        super().__init__()
        self.config = config
        width, event_width = config.backbone.width, config.encoder.width
        encodes = config.reading == "vectors"
        longest = max((source.max_tokens for source in config.sources), default=0)
        self.encoders = nn.ModuleList(
            EventEncoder(
                config.encoder, longest if name == "shared" else config.source(name).max_tokens, pretrained=pretrained
            )
            for name in (config.encoder_names if encodes and config.sources else ())
        )
        self.source_adapters = nn.ModuleList(
            adapter(config.adapter, event_width, width) if encodes else nn.Identity() for _ in config.sources
        )
        self.backbone: PreTrainedModel = language_model(config.backbone, pretrained=pretrained)
        # New vectors have the standard deviation of the token table's.
        table: Any = self.backbone.get_input_embeddings()
        embedding = partial(
            embedding_table,
            width=width,
            std=table.weight.std().item() if config.backbone.pretrained else initial_std(width),
        )
        # Row 2s opens and row 2s + 1 closes source s; the last two rows enclose the tabular token.
        self.boundaries = embedding(2 * len(config.sources) + 2 * config.has_tabular)
        if config.has_pooled:
            self.user_adapter = adapter(config.adapter, event_width, width)
        if config.time_bands:
            self.gap_bands = embedding(BAND_CODES)
            self.age_bands = embedding(BAND_CODES)
        if config.has_tabular:
            tabular = config.tabular
            sizes = [1 + len(column.values) for column in tabular.categories]
            first = torch.tensor(np.cumsum([0, *sizes])[:-1], dtype=torch.int64)
            self.register_buffer("first_category_C", first, persistent=False)
            self.categories = embedding_table(max(1, sum(sizes)), CATEGORY_WIDTH, initial_std(CATEGORY_WIDTH))
            features = len(tabular.numbers) * tabular.code_width + len(sizes) * CATEGORY_WIDTH
            self.tabular_adapter = adapter(config.adapter, features, width)
        self.head = nn.Identity() if config.head is None else embedding_head(width, config.head)
        self.focus = None if config.focus is None else Focus(config.embedding_width)
        self.instruction_encoder: EventEncoder | None = None
        if config.instruction_encoder is not None:
            reader = EventEncoder(config.instruction_encoder, SENTENCE_TOKENS, pretrained=pretrained)
            self.instruction_encoder = reader.requires_grad_(False)
        self.train()

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.boundaries.weight.device

    @property
    def decoder(self) -> nn.Module:
        """The backbone without its head."""
        decoder: nn.Module = self.backbone.base_model
        return decoder

    # The two exported graphs.

    def encode_events(self, source: str, input_ids_TL: Tensor, attention_mask_TL: Tensor) -> Tensor:
        """Return `vectors_TE` of a source's event texts, each beginning with `<cls>`."""
        number = 0 if self.config.shared_encoder else self.config.encoder_names.index(source)
        vectors_TE: Tensor = self.encoders[number](input_ids_TL, attention_mask_TL)
        return vectors_TE

    def forward_users(
        self, profile: ProfileTensors, instructions_KIH: Tensor, mask_KI: Tensor, directions_KH: Tensor | None = None
    ) -> Tensor:
        """Return `embeddings_BKH`, L2-normalised, of every user under every instruction.

        `instructions_KIH` are left-aligned token vectors (see `token_vectors`); the last one before the
        padding is that of `<USER>`. `directions_KH` of a focus are `directions` where they are left out.
        """
        if self.focus is None:
            return self.read_users(profile, instructions_KIH, mask_KI)
        if directions_KH is None:
            directions_KH = self.directions(instructions_KIH, mask_KI)
        focused_BKH: Tensor = self.focus(
            self.read_users(profile, *self.suffixes(instructions_KIH, mask_KI)), directions_KH
        )
        return focused_BKH

    def read_users(self, profile: ProfileTensors, instructions_KIH: Tensor, mask_KI: Tensor) -> Tensor:
        """Return `embeddings_BKH` of `forward_users` without focus."""
        tokens_BPH, mask_BP = self.read_profile(profile)
        users, (count, length, width) = tokens_BPH.shape[0], instructions_KIH.shape
        number_K1 = torch.arange(1, count + 1, device=mask_KI.device)[:, None]
        segments_KI = torch.where(mask_KI > 0, number_K1, torch.full_like(mask_KI, PADDING))
        suffixes_BLH = instructions_KIH.reshape(1, count * length, width).expand(users, -1, -1)
        segments_BL = segments_KI.reshape(1, count * length).expand(users, -1)
        hidden_BSH = self.read_packed(tokens_BPH, mask_BP, suffixes_BLH, segments_BL)
        user_K = torch.arange(count, device=mask_KI.device) * length + mask_KI.sum(-1) - 1
        row_Q = torch.arange(users, device=mask_KI.device).repeat_interleave(count)
        users_QH = self.read_out(hidden_BSH, mask_BP, segments_BL, row_Q, user_K.repeat(users))
        return self.embeddings(users_QH).unflatten(0, (users, count))

    # A training step.

    def forward(
        self, batch: PairBatch, texts: Texts, answer_ids: TokenIds, instruction_text_ids: TokenIds | None = None
    ) -> PairOutputs:
        """Return the embeddings and logits of a batch of packed question-answer pairs.

        Parameters
        ----------
        batch
            Profiles, and their suffixes end to end.
        texts
            For each source, the tokens of the texts that `batch.profiles` indexes, or their vectors (see
            `encode_texts`).
        answer_ids
            The tokens of the answers that `batch.answers_A` indexes.
        instruction_text_ids
            The tokens of the instructions that `batch.instructions_I` indexes, as those of an answer; None: their
            texts are not encoded, and their embeddings are zeros.
        """
        tokens_BPH, mask_BP = self.read_profile(self.profile_tensors(batch.profiles, texts))
        suffixes_BLH = self.token_vectors(self._tensor(batch.ids_BL))
        segments_BL = self._tensor(batch.segments_BL)
        targets_BL = self._tensor(batch.targets_BL)
        predicting_BL = targets_BL != PADDING
        row_Q, column_Q = self._tensor(batch.user_row_Q), self._tensor(batch.user_column_Q)
        read_BL = predicting_BL.index_put((row_Q, column_Q), torch.ones_like(row_Q, dtype=torch.bool))
        hidden_BSH = self.read_packed(tokens_BPH, mask_BP, suffixes_BLH, segments_BL, read_BL)
        hidden_BLH = hidden_BSH[:, tokens_BPH.shape[1] :]
        users_QH = self.embeddings(self.read_out(hidden_BSH, mask_BP, segments_BL, row_Q, column_Q))
        answers_QH = self.encode_answers(answer_ids, batch.answers_A)[self._tensor(batch.answer_Q)]
        instructions_QH = torch.zeros_like(answers_QH)
        if instruction_text_ids is not None:
            instructions_IH = self.encode_answers(instruction_text_ids, batch.instructions_I)
            instructions_QH = instructions_IH[self._tensor(batch.instruction_Q)]
        return PairOutputs(
            embeddings_3QH=torch.stack([users_QH, answers_QH, instructions_QH]),
            logits_NV=self.token_logits(hidden_BLH[predicting_BL]),
            tokens_N=targets_BL[predicting_BL],
        )

    def encode_answers(self, answer_ids: TokenIds, answers_A: Ints) -> Tensor:
        """Return `answers_AH`, L2-normalised: the last hidden state of each answer alone, at its `<end>`."""

        def read(ids_AL: Tensor, mask_AL: Tensor) -> Tensor:
            return self.read_texts(self.token_vectors(ids_AL), mask_AL)

        return self.embeddings(self._by_length(read, answer_ids, answers_A))

    # Focus.

    def directions(self, instructions_KIH: Tensor, mask_KI: Tensor) -> Tensor:
        """Return `directions_KH`, each instruction's text embedding; zeros for an instruction without words.

        An instruction is read as an answer is: alone, with the end token in the place of `<USER>`.
        """
        assert self.focus is not None
        last_K = mask_KI.sum(-1) - 1
        is_last_KI = torch.arange(mask_KI.shape[1], device=mask_KI.device) == last_K[:, None]
        texts_KIH = torch.where(is_last_KI[:, :, None], self.token_vectors(self.focus.end), instructions_KIH)
        return self.embeddings(self.read_texts(texts_KIH, mask_KI)) * (last_K > 0)[:, None]

    def suffixes(self, instructions_KIH: Tensor, mask_KI: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is read behind a profile, in the shape of the arguments: with focus `universal`, `<USER>`."""
        if self.focus is None or self.config.focus == "suffix":
            return instructions_KIH, mask_KI
        user_11H = self.token_vectors(self.focus.user)[None, None]
        return user_11H, mask_KI.new_ones(1, 1)

    # Their parts.

    def embeddings(self, hidden: Tensor) -> Tensor:
        """Return the L2-normalised embeddings of the hidden states that were read out."""
        return F.normalize(self.head(hidden), dim=-1)

    def token_vectors(self, ids: Tensor) -> Tensor:
        """Return the language model's vectors of these tokens, one more axis of H."""
        vectors: Tensor = self.backbone.get_input_embeddings()(ids)
        return vectors

    def token_logits(self, hidden: Tensor) -> Tensor:
        """Return the language model's logits of the next token, V in place of the axis H."""
        logits: Tensor = self.backbone.get_output_embeddings()(hidden)
        return logits

    def encode_texts(self, event_ids: Sequence[TokenIds], some: slice = slice(None)) -> tuple[Tensor, ...]:
        """Return `vectors_TE` of all texts of each source, or of some; frozen encoders encode each text once."""
        return tuple(
            self._by_length(partial(self.encode_events, source.name), ids, np.arange(len(ids))[some])
            for source, ids in zip(self.config.sources, event_ids, strict=True)
        )

    def profile_tensors(self, batch: ProfileBatch, texts: Texts) -> ProfileTensors:
        """Return the tensors of a batch of profiles; each distinct text is encoded once."""
        events, masks = [], []
        for source, part, source_texts in zip(self.config.sources, batch.sources, texts, strict=True):
            if self.config.reading == "tokens":
                assert isinstance(source_texts, TokenIds)
                events_BNE, mask_BN = self._as_tokens(part, source_texts)
                events.append(events_BNE)
                masks.append(mask_BN)
                continue
            vectors_TE = (
                source_texts[self._tensor(part.texts_T)]
                if isinstance(source_texts, Tensor)
                else self._by_length(partial(self.encode_events, source.name), source_texts, part.texts_T)
            )
            padding_1E = vectors_TE.new_zeros(1, self.config.encoder.width)
            events.append(F.embedding(self._tensor(part.text_BN), torch.cat([vectors_TE, padding_1E])))
            masks.append(self._tensor(part.mask_BN))
        return ProfileTensors(
            events_BNE=tuple(events),
            masks_BN=tuple(masks),
            gaps_BN=tuple(self._tensor(part.gaps_BN) for part in batch.sources),
            ages_B=tuple(self._tensor(part.age_B) for part in batch.sources),
            numbers_BFW=self._tensor(batch.numbers_BFP) if self.config.tabular.numbers else None,
            categories_BC=self._tensor(batch.categories_BC) if self.config.tabular.categories else None,
        )

    def read_profile(self, profile: ProfileTensors) -> tuple[Tensor, Tensor]:
        """Return the profile's token vectors `tokens_BPH`, and `mask_BP`, 1 for tokens and 0 for padding."""
        tokens, masks = self._pooled(profile) if self.config.has_pooled else ([], [])
        one_B1 = torch.ones(profile.users, 1, dtype=torch.int64, device=self.device)
        for number, (events_BNE, mask_BN) in enumerate(zip(profile.events_BNE, profile.masks_BN, strict=True)):
            events_BNH = self.source_adapters[number](events_BNE)
            opening_B1H = self.boundaries(one_B1 * (2 * number))
            closing_B1H = self.boundaries(one_B1 * (2 * number + 1))
            if self.config.time_bands:
                events_BNH = events_BNH + self.gap_bands(profile.gaps_BN[number])
                opening_B1H = opening_B1H + self.age_bands(profile.ages_B[number])[:, None]
            tokens += [opening_B1H, events_BNH, closing_B1H]
            masks += [one_B1, mask_BN, one_B1]
        if self.config.has_tabular:
            last = 2 * len(self.config.sources)
            tokens += [
                self.boundaries(one_B1 * last),
                self.tabular_adapter(self.tabular_features(profile))[:, None],
                self.boundaries(one_B1 * (last + 1)),
            ]
            masks += [one_B1, one_B1, one_B1]
        return torch.cat(tokens, dim=1), torch.cat(masks, dim=1)

    def read_packed(
        self,
        tokens_BPH: Tensor,
        mask_BP: Tensor,
        suffixes_BLH: Tensor,
        segments_BL: Tensor,
        read_BL: Tensor | None = None,
    ) -> Tensor:
        """Return the final `hidden_BSH` of profiles and the suffixes packed behind them (`model.network.packing`).

        `read_BL` marks the tokens of the suffixes that are read, as in `hidden`. The readout `mean` reads all tokens.
        """
        read_BS = None
        if read_BL is not None and self.config.readout == "user":
            read_BS = torch.cat([torch.zeros_like(mask_BP, dtype=torch.bool), read_BL], dim=1)
        segments_BS = torch.cat([torch.where(mask_BP > 0, PROFILE, PADDING), segments_BL], dim=1)
        mask, positions_BS = pack(segments_BS, tokens_BPH.dtype)
        return self.hidden(torch.cat([tokens_BPH, suffixes_BLH], dim=1), mask, positions_BS, read_BS)

    def read_texts(self, tokens_TLH: Tensor, mask_TL: Tensor) -> Tensor:
        """Return the last hidden state of each text, [T, H], of the vectors of its tokens."""
        mask, positions_TL = pack(torch.where(mask_TL > 0, PROFILE, PADDING), tokens_TLH.dtype)
        hidden_TLH = self.hidden(tokens_TLH, mask, positions_TL)
        return hidden_TLH[torch.arange(mask_TL.shape[0], device=mask_TL.device), mask_TL.sum(-1) - 1]

    def read_out(
        self, hidden_BSH: Tensor, mask_BP: Tensor, segments_BL: Tensor, row_Q: Tensor, column_Q: Tensor
    ) -> Tensor:
        """Return `users_QH`, not normalised; pair q's `<USER>` is token `column_Q[q]` of the L of user `row_Q[q]`."""
        if self.config.readout == "user":
            return hidden_BSH[row_Q, mask_BP.shape[1] + column_Q]
        segments_QL = segments_BL[row_Q]
        own_QL = segments_QL == segments_QL.gather(1, column_Q[:, None])
        before_QL = own_QL & (torch.arange(segments_QL.shape[1], device=column_Q.device) <= column_Q[:, None])
        read_QS = torch.cat([mask_BP[row_Q] > 0, before_QL], dim=1)
        share_QS = read_QS.to(hidden_BSH.dtype) / read_QS.sum(1, keepdim=True)
        return (share_QS[:, None] @ hidden_BSH[row_Q])[:, 0]

    def hidden(self, tokens_BSH: Tensor, mask: Tensor, positions_BS: Tensor, read_BS: Tensor | None = None) -> Tensor:
        """Return the final `hidden_BSH` of token vectors under `model.network.packing`'s mask and positions.

        Where `read_BS` marks the tokens that are read, others may be zeros: a Qwen2 skips them in its last layer.
        """
        if read_BS is not None and is_supported(self.decoder):
            # Every sequence gets the columns of the one with the most; its tokens that are read come first.
            columns_BK = (~read_BS).to(torch.int8).argsort(dim=1, stable=True)[:, : int(read_BS.sum(1).max())]
            row_B1 = torch.arange(len(columns_BK), device=self.device)[:, None]

            def select(tensor: Tensor, axis: int) -> Tensor:
                return tensor[row_B1, columns_BK] if axis == 1 else tensor[row_B1, :, columns_BK].transpose(1, 2)

            hidden_BKH = hidden_at(self.decoder, tokens_BSH, mask, positions_BS, select)
            columns_BKH = columns_BK[:, :, None].expand_as(hidden_BKH)
            return torch.zeros_like(tokens_BSH, dtype=hidden_BKH.dtype).scatter(1, columns_BKH, hidden_BKH)
        output = self.decoder(inputs_embeds=tokens_BSH, attention_mask=mask, position_ids=positions_BS, use_cache=False)
        hidden_BSH: Tensor = output.last_hidden_state
        return hidden_BSH

    def _as_tokens(self, part: SourceBatch, ids: TokenIds) -> tuple[Tensor, Tensor]:
        """Return the token vectors of each user's one text, and their mask."""
        texts_T = np.append(part.texts_T, -1)[part.text_BN[:, 0]]
        ids_BN, mask_BN = ids.padded(np.maximum(texts_T, 0))
        mask_BN = mask_BN * (texts_T >= 0)[:, None]  # a user without a text
        return self.token_vectors(self._tensor(ids_BN)), self._tensor(mask_BN)

    def _pooled(self, profile: ProfileTensors) -> tuple[list[Tensor], list[Tensor]]:
        """Return a token for each source, of the mean of its event vectors, and one of the mean of all."""
        sums_BE = [events_BNE.sum(1) for events_BNE in profile.events_BNE]
        counts_B1 = [mask_BN.sum(1, keepdim=True) for mask_BN in profile.masks_BN]
        tokens_BH = [
            adapter(sum_BE / count_B1.clamp(min=1))
            for adapter, sum_BE, count_B1 in zip(self.source_adapters, sums_BE, counts_B1, strict=True)
        ]
        events_B1 = torch.stack(counts_B1).sum(0).clamp(min=1)
        tokens_BH.append(self.user_adapter(torch.stack(sums_BE).sum(0) / events_B1))
        one_B1 = torch.ones_like(events_B1)
        return [token_BH[:, None] for token_BH in tokens_BH], [one_B1] * len(tokens_BH)

    def tabular_features(self, profile: ProfileTensors) -> Tensor:
        """Return the codes of the numbers and the vectors of the categories, concatenated, for `tabular_adapter`."""
        parts = []
        if profile.numbers_BFW is not None:
            parts.append(profile.numbers_BFW.flatten(1).to(self.boundaries.weight.dtype))
        if profile.categories_BC is not None:
            parts.append(self.categories(profile.categories_BC + self.first_category_C).flatten(1))
        return torch.cat(parts, dim=1)

    def _by_length(self, read: Callable[[Tensor, Tensor], Tensor], ids: TokenIds, texts_T: Ints) -> Tensor:
        """Apply `read` to batches of texts of similar length; return its vectors in the order of `texts_T`."""
        batches = batches_of_size(ids.lengths[texts_T], TEXTS_PER_BATCH, classes_per_octave=5)
        vectors = [read(*map(self._tensor, ids.padded(texts_T[batch]))) for batch in batches]
        if not vectors:
            return self.boundaries.weight.new_zeros(0, self.config.encoder.width)
        return torch.cat(vectors)[self._tensor(original_order(batches))]

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)
