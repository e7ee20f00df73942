"""Question-answer pairs: read from `userqa`, sampled for a batch, and packed behind their profiles.

Shapes: U profiles of a split, R pairs of a split, B profiles of a batch, Q pairs of a batch, L tokens of the suffixes
of a profile, A distinct answers of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.data.arrays import Ints
from model.data.profiles import ProfileBatch, Profiles
from model.data.segments import PADDING
from model.data.text import PAD, TokenIds
from model.errors import InstructUEError

KEY = ("user_id", "as_of")
COLUMNS = (*KEY, "instruction", "answer", "split")


class PairError(InstructUEError):
    """Question-answer pairs that cannot be trained on."""


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """A split's pairs; profile u's are `offsets_U1[u]` to `offsets_U1[u + 1]`.

    `instruction_R` and `answer_R` are indices into the distinct `instructions` (None: the universal mode) and
    `answers`.
    """

    instructions: list[str | None]
    answers: list[str]
    instruction_R: Ints
    answer_R: Ints
    offsets_U1: Ints

    def sample(self, users_B: Ints, *, instructed: int, general: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """Sample pairs for each profile without replacement.

        The same instructions are preferred for every profile, as far as each has them. Otherwise the negatives of a
        pair would answer other questions. Their wording alone would tell them apart, and the vectors would learn
        little about the users.

        Parameters
        ----------
        users_B
            The profiles.
        instructed, general
            The most pairs of a profile with and without an instruction.

        Returns
        -------
        row_Q, pair_Q
            The position of each pair's profile in `users_B`, ascending, and the position of the pair in the split.
        """
        count_B = self.offsets_U1[users_B + 1] - self.offsets_U1[users_B]
        row = np.repeat(np.arange(len(users_B)), count_B)
        pair = np.arange(len(row)) - np.repeat(np.cumsum(count_B) - count_B, count_B) + self.offsets_U1[users_B][row]
        is_general = np.array([text is None for text in self.instructions], dtype=bool)
        kind = is_general[self.instruction_R[pair]]
        preference_R = rng.random(len(self.instructions))[self.instruction_R[pair]]
        order = np.lexsort((rng.random(len(row)), preference_R, kind, row))
        row, pair, kind = row[order], pair[order], kind[order]
        group = 2 * row + kind
        rank = np.arange(len(group)) - np.searchsorted(group, group)
        is_sampled = rank < np.where(kind, general, instructed)
        return row[is_sampled], pair[is_sampled]


@dataclass(frozen=True, kw_only=True)
class PairBatch:
    """Profiles and the pairs sampled for them.

    Attributes
    ----------
    ids_BL, segments_BL
        Instruction, `<USER>` and answer of every pair of a profile, end to end; each token's suffix, 1 to K, or -1
        for padding.
    targets_BL
        The answer token that follows, the last one `<end>`; -1 where none follows.
    user_row_Q, user_column_Q
        Position of each pair's `<USER>`.
    answers_A, answer_Q
        The batch's distinct answers, as indices into the split's, and each pair's answer, as an index into `answers_A`.
    """

    profiles: ProfileBatch
    ids_BL: Ints
    segments_BL: Ints
    targets_BL: Ints
    user_row_Q: Ints
    user_column_Q: Ints
    answers_A: Ints
    answer_Q: Ints


def read_pairs(profiles: pa.Table, pairs: pa.Table, split: str) -> tuple[pa.Table, Pairs]:
    """Return the split's profiles that have pairs, in order of user and time, and their pairs.

    Neither depends on the order of the rows, so that a resumed training sees the same batches.

    Raises
    ------
    PairError
        When a column is missing, an answer is null or empty, two profiles have the same user and time, or a
        pair has no profile.
    """
    for name in COLUMNS:
        if name not in pairs.column_names:
            raise PairError(f"the pairs have no column {name!r}, only {', '.join(pairs.column_names)}: read userqa")
    pairs = pairs.select(COLUMNS).filter(pc.equal(pairs["split"], split))
    if pairs["answer"].null_count or pc.any(pc.equal(pairs["answer"], "")).as_py():
        raise PairError(f"a pair of the split {split!r} has no answer: leave such pairs out of userqa")
    rows = _keys(profiles).append_column("row", pa.array(np.arange(len(profiles))))
    if len(rows.group_by(list(KEY)).aggregate([])) < len(rows):
        raise PairError("two profiles have the same user_id and as_of: pass each once")
    keyed = _keys(pairs).append_column("pair", pa.array(np.arange(len(pairs))))
    joined = keyed.join(rows, list(KEY), join_type="left outer").sort_by("pair")
    if joined["row"].null_count:
        unmatched = joined.filter(joined["row"].is_null()).slice(0, 1).to_pylist()[0]
        raise PairError(
            f"{joined['row'].null_count} of {len(joined)} pairs have no profile, such as user "
            f"{unmatched['user_id']!r} as of {unmatched['as_of']}: pass the profiles that userqa was written with"
        )
    used = joined.group_by(list(KEY)).aggregate([("row", "min")]).sort_by([(name, "ascending") for name in KEY])
    used_row_U = used["row_min"].to_numpy()
    user_of_row = np.full(len(profiles), -1)
    user_of_row[used_row_U] = np.arange(len(used_row_U))
    ordered = pa.table(
        {"user": user_of_row[joined["row"].to_numpy()], "instruction": pairs["instruction"], "answer": pairs["answer"]}
    ).sort_by([("user", "ascending"), ("instruction", "ascending"), ("answer", "ascending")])
    instruction = ordered["instruction"].combine_chunks().dictionary_encode(null_encoding="encode")
    answer = ordered["answer"].combine_chunks().dictionary_encode()
    counts_U = np.bincount(ordered["user"].to_numpy(), minlength=len(used_row_U))
    return profiles.take(pa.array(used_row_U)), Pairs(
        instructions=_flat(instruction).dictionary.to_pylist(),
        answers=_flat(answer).dictionary.to_pylist(),
        instruction_R=_flat(instruction).indices.to_numpy().astype(np.int64),
        answer_R=_flat(answer).indices.to_numpy().astype(np.int64),
        offsets_U1=np.concatenate([[0], np.cumsum(counts_U)]).astype(np.int64),
    )


def pair_batch(
    profiles: Profiles,
    pairs: Pairs,
    instruction_ids: TokenIds,
    answer_ids: TokenIds,
    users_B: Ints,
    row_Q: Ints,
    pair_Q: Ints,
) -> PairBatch:
    """Pack the sampled pairs behind their profiles.

    Suffixes are concatenated, since padding each to the longest answer would double the number of tokens.
    """
    instruction_Q, answer_Q = pairs.instruction_R[pair_Q], pairs.answer_R[pair_Q]
    prefix_Q = instruction_ids.lengths[instruction_Q]
    # The last answer token, <end>, is predicted and never read: a suffix is one token shorter than its parts.
    length_Q = prefix_Q + answer_ids.lengths[answer_Q] - 1
    first_of_row = np.searchsorted(row_Q, row_Q)
    start_Q = np.cumsum(length_Q) - length_Q
    column_Q = start_Q - start_Q[first_of_row]
    tokens_B = np.bincount(row_Q, weights=length_Q, minlength=len(users_B)).astype(np.int64)
    shape = (len(users_B), max(1, int(tokens_B.max(initial=0))))
    ids_BL, segments_BL, targets_BL = np.full(shape, PAD), np.full(shape, PADDING), np.full(shape, PADDING)
    suffix_Q = np.arange(len(row_Q)) - first_of_row + 1
    for row, column, prefix, length, suffix, instruction, answer in zip(
        row_Q, column_Q, prefix_Q, length_Q, suffix_Q, instruction_Q, answer_Q, strict=True
    ):
        tokens = answer_ids[answer]
        ids_BL[row, column : column + prefix] = instruction_ids[instruction]
        ids_BL[row, column + prefix : column + length] = tokens[:-1]
        segments_BL[row, column : column + length] = suffix
        targets_BL[row, column + prefix - 1 : column + length] = tokens
    answers_A, answer_of_Q = np.unique(answer_Q, return_inverse=True)
    return PairBatch(
        profiles=profiles.batch(users_B),
        ids_BL=ids_BL,
        segments_BL=segments_BL,
        targets_BL=targets_BL,
        user_row_Q=row_Q,
        user_column_Q=column_Q + prefix_Q - 1,
        answers_A=answers_A,
        answer_Q=answer_of_Q,
    )


def _keys(table: pa.Table) -> pa.Table:
    for name in KEY:
        if name not in table.column_names:
            raise PairError(f"the profiles have no column {name!r}, only {', '.join(table.column_names)}: pass it too")
    time = table["as_of"].cast(pa.timestamp("us", "UTC"))
    return pa.table({"user_id": table["user_id"].cast(pa.large_string()), "as_of": time})


def _flat(column: pa.Array | pa.ChunkedArray) -> pa.DictionaryArray:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
