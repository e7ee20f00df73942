"""Training data: the profiles, pairs and tokens of a split, and the batch of every training step.

A batch is a function of the seed and the step, so a resumed training sees the batches that it would have seen.

Shapes: U profiles of a split, B profiles of a batch, Q question-answer pairs of a batch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import numpy as np
import pyarrow as pa

from model.data.arrays import Ints
from model.data.batching import batches_of_size
from model.data.config import NetworkConfig
from model.data.pair_batch import PairBatch, pair_batch
from model.data.pairs import PairError, Pairs, SampledBatch, read_pairs
from model.data.profiles import Profiles, read_profiles, text_ids
from model.data.tabular import fit_tabular
from model.data.text import TokenIds, Tokenizers
from model.network.backbones import with_tokenizers
from model.network.pretrained import pretrained_identities
from model.training.training_config import TrainingConfig

# Batches of profiles of similar length are cut from the shuffled profiles of this many batches.
WINDOW = 16
WITHIN_QUESTION = {"within_question", "instruction_text"}
"""Losses that need to know which answer is a question's `none`."""


@dataclass(frozen=True, kw_only=True)
class TrainingDataset:
    """A split as the network reads it: profiles, pairs and the tokens of all their distinct texts."""

    profiles: Profiles
    pairs: Pairs
    event_ids: tuple[TokenIds, ...]
    instruction_ids: TokenIds
    answer_ids: TokenIds
    instruction_text_ids: TokenIds
    """The instructions, tokenised as answers are, for their text embeddings."""

    def sample(self, users_B: Ints, training: TrainingConfig, rng: np.random.Generator) -> SampledBatch:
        """Sample pairs for these profiles."""
        return self.pairs.sample(
            users_B,
            instructed=training.instructed_pairs,
            general=training.general_pairs,
            universal=training.universal_pairs,
            shared_questions=training.shared_questions,
            rng=rng,
        )

    def collate(self, batch: SampledBatch, first: int = 0, last: int | None = None) -> PairBatch:
        """Return the arrays of the batch's profiles from `first` to before `last` and of their pairs."""
        users_B = batch.users_B[first:last]
        pairs = slice(*np.searchsorted(batch.row_Q, [first, first + len(users_B)]))
        part = SampledBatch(
            users_B=users_B,
            row_Q=batch.row_Q[pairs] - first,
            pair_Q=batch.pair_Q[pairs],
            instruction_Q=batch.instruction_Q[pairs],
            is_universal_Q=batch.is_universal_Q[pairs],
        )
        return pair_batch(self.profiles, self.pairs, self.instruction_ids, self.answer_ids, part)


def prepare_dataset(
    profiles: pa.Table, pairs: pa.Table, config: NetworkConfig, training: TrainingConfig
) -> tuple[NetworkConfig, Tokenizers, TrainingDataset, TrainingDataset]:
    """Fit tokenizers and statistics on the training split; return the completed config, the tokenizers and both splits.

    Raises
    ------
    PairError, ProfileError
        When the tables cannot be trained on.
    PretrainedError
        When a pretrained model cannot be loaded.
    """
    if training.loss_weights.keys() & WITHIN_QUESTION and "is_none" not in pairs.column_names:
        raise PairError(
            "the pairs have no column 'is_none', which weight_within_question and weight_instruction_text read: "
            "run userqa again"
        )
    table, train_pairs = read_pairs(profiles, pairs, "train")
    if not len(table):
        raise PairError("no pair has the split 'train': write userqa again with a share for training")
    if training.weight_instruction_text and not train_pairs.has_one_answer_R.any():
        raise PairError(
            "weight_instruction_text reads questions with one answer beside their `none`, and there is none: "
            "add questions with yes_from or yes_share, or set it to 0"
        )
    config = replace(config, tabular=fit_tabular(table, config.tabular, training.quantile_bins))
    train_profiles = read_profiles(table, config)
    config, tokenizers = with_tokenizers(
        config,
        {text for source in train_profiles.sources for text in source.texts},
        {text for text in [*train_pairs.instructions, *train_pairs.answers] if text is not None},
    )
    held_out_table, held_out_pairs = read_pairs(profiles, pairs, "validation")
    held_out_profiles = read_profiles(held_out_table, config)

    def dataset(split_profiles: Profiles, split_pairs: Pairs) -> TrainingDataset:
        return TrainingDataset(
            profiles=split_profiles,
            pairs=split_pairs,
            event_ids=text_ids(split_profiles, config, tokenizers),
            instruction_ids=tokenizers.instruction_ids(split_pairs.instructions),
            answer_ids=tokenizers.answer_ids(split_pairs.answers, training.max_answer_tokens),
            instruction_text_ids=tokenizers.answer_ids([text or "" for text in split_pairs.instructions]),
        )

    return config, tokenizers, dataset(train_profiles, train_pairs), dataset(held_out_profiles, held_out_pairs)


class Batches:
    """The batch of every step. An epoch has every profile once, beside profiles of similar length."""

    def __init__(self, dataset: TrainingDataset, training: TrainingConfig, seed: int) -> None:
        self.size = min(training.profiles_per_step, len(dataset.profiles))
        self._dataset, self._training, self._seed = dataset, training, seed
        self._lengths_U = dataset.profiles.lengths_U
        self._epoch, self._batches = -1, [np.zeros(0, dtype=np.int64)]

    def batch(self, step: int) -> SampledBatch:
        """Return the profiles and pairs of a step, counted from 0."""
        epoch, number = divmod(step, len(self._lengths_U) // self.size)
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._shuffled(np.random.default_rng([self._seed, 0, epoch]))
        rng = np.random.default_rng([self._seed, 1, step])
        return self._dataset.sample(self._batches[number], self._training, rng)

    def _shuffled(self, rng: np.random.Generator) -> list[Ints]:
        users = rng.permutation(len(self._lengths_U))
        users = users[: len(users) // self.size * self.size]  # another epoch has the rest
        batches = []
        for start in range(0, len(users), WINDOW * self.size):
            window = users[start : start + WINDOW * self.size]
            batches += [window[batch_B] for batch_B in batches_of_size(self._lengths_U[window], self.size)]
        return [batches[number] for number in rng.permutation(len(batches))]


def fingerprint(config: NetworkConfig, training: TrainingConfig, seed: int, *splits: TrainingDataset) -> str:
    """Return a hash of all that decides a training: network, pretrained weights, settings, seed and both splits."""
    settings = [config.to_json(), asdict(training), seed, *pretrained_identities(config).values()]
    digest = hashlib.sha256(json.dumps(settings).encode())
    for array in (array for split in splits for array in _arrays(split)):
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _arrays(split: TrainingDataset) -> Iterator[np.ndarray]:
    yield from (split.profiles.ages_SU, split.profiles.numbers_UF, split.profiles.categories_UC)
    pairs = split.pairs
    yield from (pairs.instruction_R, pairs.answer_R, pairs.question_R, pairs.is_none_R)
    yield from (pairs.offsets_U1, pairs.cut_off_U)
    for source in split.profiles.sources:
        yield from (source.text_E, source.gaps_E, source.offsets_U1)
    for tokens in (*split.event_ids, split.instruction_ids, split.answer_ids):
        yield from (tokens.ids, tokens.offsets)
