"""A batch of question-answer pairs: their suffixes, packed behind their profiles.

Shapes: B profiles of a batch, Q pairs of it, L tokens of the suffixes of a profile, A distinct answers of a batch, I
distinct instructions of a batch; S pairs with a suffix of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from model.data.arrays import Ints
from model.data.pairs import Pairs, SampledBatch
from model.data.profiles import ProfileBatch, Profiles
from model.data.segments import PADDING
from model.data.text import PAD, TokenIds


@dataclass(frozen=True, kw_only=True)
class PairBatch:
    """Profiles and the pairs sampled for them.

    Attributes
    ----------
    ids_BL, segments_BL
        Instruction, `<USER>` and answer of every pair of a profile, end to end; each token's suffix, 1 to K, or -1
        for padding. Where pairs are answered by universal vectors, the first suffix is `<USER>` alone.
    targets_BL
        The answer token that follows, the last one `<end>`; -1 where none follows.
    user_row_Q, user_column_Q
        Position of each pair's `<USER>`.
    answers_A, answer_Q
        The batch's distinct answers, as indices into the split's, and each pair's answer, as an index into `answers_A`.
    instructions_I, instruction_Q
        The same of instructions.
    """

    profiles: ProfileBatch
    ids_BL: Ints
    segments_BL: Ints
    targets_BL: Ints
    user_row_Q: Ints
    user_column_Q: Ints
    answers_A: Ints
    answer_Q: Ints
    instructions_I: Ints
    instruction_Q: Ints


def pair_batch(
    profiles: Profiles, pairs: Pairs, instruction_ids: TokenIds, answer_ids: TokenIds, sampled: SampledBatch
) -> PairBatch:
    """Pack the sampled pairs behind their profiles.

    Suffixes are concatenated, since padding each to the longest answer would double the number of tokens.
    """
    universal = int(sampled.is_universal_Q.any())  # 1 where a suffix of one token, <USER>, precedes the others
    own_S = np.flatnonzero(~sampled.is_universal_Q)
    row_S, instruction_S = sampled.row_Q[own_S], sampled.instruction_Q[own_S]
    answer_S = pairs.answer_R[sampled.pair_Q[own_S]]
    prefix_S = instruction_ids.lengths[instruction_S]
    # The last answer token, <end>, is predicted and never read: a suffix is one token shorter than its parts.
    length_S = prefix_S + answer_ids.lengths[answer_S] - 1
    first_of_row = np.searchsorted(row_S, row_S)
    start_S = np.cumsum(length_S) - length_S
    column_S = start_S - start_S[first_of_row] + universal
    tokens_B = np.bincount(row_S, weights=length_S, minlength=len(sampled.users_B)).astype(np.int64)
    shape = (len(sampled.users_B), max(1, universal + int(tokens_B.max(initial=0))))
    ids_BL, segments_BL, targets_BL = np.full(shape, PAD), np.full(shape, PADDING), np.full(shape, PADDING)
    if universal:
        ids_BL[:, 0], segments_BL[:, 0] = instruction_ids.ids[-1], 1  # every instruction ends with <USER>
    suffix_S = np.arange(len(own_S)) - first_of_row + 1 + universal
    for row, column, prefix, length, suffix, instruction, answer in zip(
        row_S, column_S, prefix_S, length_S, suffix_S, instruction_S, answer_S, strict=True
    ):
        tokens = answer_ids[answer]
        ids_BL[row, column : column + prefix] = instruction_ids[instruction]
        ids_BL[row, column + prefix : column + length] = tokens[:-1]
        segments_BL[row, column : column + length] = suffix
        targets_BL[row, column + prefix - 1 : column + length] = tokens
    user_column_Q = np.zeros(len(sampled.row_Q), dtype=np.int64)
    user_column_Q[own_S] = column_S + prefix_S - 1
    answers_A, answer_Q = np.unique(pairs.answer_R[sampled.pair_Q], return_inverse=True)
    instructions_I, instruction_Q = np.unique(sampled.instruction_Q, return_inverse=True)
    return PairBatch(
        profiles=profiles.batch(sampled.users_B),
        ids_BL=ids_BL,
        segments_BL=segments_BL,
        targets_BL=targets_BL,
        user_row_Q=sampled.row_Q,
        user_column_Q=user_column_Q,
        answers_A=answers_A,
        answer_Q=answer_Q,
        instructions_I=instructions_I,
        instruction_Q=instruction_Q,
    )
