"""Question-answer pairs: read from `userqa`, and sampled for a batch.

Shapes: U profiles of a split, R pairs of a split, W questions of a split, B profiles of a batch, Q pairs of a batch, K
questions of a batch; M candidate pairs, X distinct pairs of numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.data.arrays import Bools, Ints
from model.errors import InstructUEError

KEY = ("user_id", "as_of")
COLUMNS = (*KEY, "instruction", "answer", "split")


class PairError(InstructUEError):
    """Question-answer pairs that cannot be trained on."""


@dataclass(frozen=True, kw_only=True)
class SampledBatch:
    """The profiles of a batch and the pairs sampled for them, in the order of the profiles.

    Attributes
    ----------
    users_B
        The profiles.
    row_Q, pair_Q
        The position of each pair's profile in `users_B`, and of the pair in the split.
    instruction_Q
        The instruction that is read, as an index into the split's.
    is_universal_Q
        Whether the pair's user vector is the profile's universal one, instead of the one under its instruction.
    """

    users_B: Ints
    row_Q: Ints
    pair_Q: Ints
    instruction_Q: Ints
    is_universal_Q: Bools


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """A split's pairs; profile u's are `offsets_U1[u]` to `offsets_U1[u + 1]`.

    Attributes
    ----------
    instructions, answers
        The distinct texts; the instruction None is the universal mode.
    questions
        The names of the questions, by number.
    instruction_R, answer_R
        Indices into the texts.
    question_R
        The number of each pair's question, which may have several instructions; -1 in the universal mode.
    is_none_R
        Whether the answer is the question's `none`: no, or nothing.
    offsets_U1, cut_off_U
        The first pair of each profile, and the number of its `as_of`.
    """

    instructions: list[str | None]
    answers: list[str]
    questions: list[str]
    instruction_R: Ints
    answer_R: Ints
    question_R: Ints
    is_none_R: Bools
    offsets_U1: Ints
    cut_off_U: Ints

    def sample(
        self,
        users_B: Ints,
        *,
        instructed: int,
        general: int,
        universal: int = 0,
        shared_questions: bool = False,
        rng: np.random.Generator,
    ) -> SampledBatch:
        """Sample pairs for each profile without replacement.

        Parameters
        ----------
        users_B
            The profiles.
        instructed, general
            The most pairs of a profile with and without an instruction.
        universal
            The most pairs of a profile whose user is the universal vector. All profiles get the same questions.
        shared_questions
            All profiles get the same questions in the same words; a profile without an answer has fewer pairs.
            Otherwise the same instructions are preferred, as far as each profile has them.
        """
        count_B = self.offsets_U1[users_B + 1] - self.offsets_U1[users_B]
        row_M = np.repeat(np.arange(len(users_B)), count_B)
        before_M = np.repeat(np.cumsum(count_B) - count_B, count_B)
        pair_M = self.offsets_U1[users_B][row_M] + np.arange(len(row_M)) - before_M
        shared = instructed if shared_questions else 0
        row, pair = self._preferred(row_M, pair_M, instructed - shared, general, rng)
        parts = [(row, pair, self.instruction_R[pair], False)]
        if shared or universal:
            number, row, pair, instruction = self._of_same_questions(row_M, pair_M, max(shared, universal), rng)
            for count, is_universal in ((shared, False), (universal, True)):
                first = number < count
                parts.append((row[first], pair[first], instruction[first], is_universal))
        row_Q, pair_Q, instruction_Q = (np.concatenate([part[column] for part in parts]) for column in range(3))
        is_universal_Q = np.repeat([part[3] for part in parts], [len(part[0]) for part in parts])
        order_Q = np.argsort(row_Q, kind="stable")
        return SampledBatch(
            users_B=users_B,
            row_Q=row_Q[order_Q],
            pair_Q=pair_Q[order_Q],
            instruction_Q=instruction_Q[order_Q],
            is_universal_Q=is_universal_Q[order_Q],
        )

    @cached_property
    def has_one_answer_R(self) -> Bools:
        """Whether the pair's question has one answer that is not its `none`; False in the universal mode."""
        of_question = (self.question_R >= 0) & ~self.is_none_R
        question_X, _ = np.unique(np.stack([self.question_R, self.answer_R])[:, of_question], axis=1)
        answers_W = np.bincount(question_X, minlength=len(self._instructions_W) + 1)
        return answers_W[self.question_R] == 1

    @cached_property
    def _instructions_W(self) -> list[Ints]:
        """The instructions of each question."""
        questions = range(self.question_R.max(initial=-1) + 1)
        question_X, instruction_X = np.unique(np.stack([self.question_R, self.instruction_R]), axis=1)
        return np.split(instruction_X, np.searchsorted(question_X, questions))[1:]

    def _preferred(
        self, row_M: Ints, pair_M: Ints, instructed: int, general: int, rng: np.random.Generator
    ) -> tuple[Ints, Ints]:
        """Return the rows and pairs of instructions in an order of preference, which is the same for every profile.

        Otherwise the negatives of a pair would answer other questions. Their wording alone would tell them apart, and
        the vectors would learn little about the users.
        """
        is_general_M = self.question_R[pair_M] < 0
        preference_M = rng.random(len(self.instructions))[self.instruction_R[pair_M]]
        order_M = np.lexsort((rng.random(len(row_M)), preference_M, is_general_M, row_M))
        row_M, pair_M, is_general_M = row_M[order_M], pair_M[order_M], is_general_M[order_M]
        group_M = 2 * row_M + is_general_M
        rank_M = np.arange(len(group_M)) - np.searchsorted(group_M, group_M)
        is_sampled_M = rank_M < np.where(is_general_M, general, instructed)
        return row_M[is_sampled_M], pair_M[is_sampled_M]

    def _of_same_questions(
        self, row_M: Ints, pair_M: Ints, count: int, rng: np.random.Generator
    ) -> tuple[Ints, Ints, Ints, Ints]:
        """Return numbers, rows, pairs and instructions of the pairs of `count` questions, numbered as they are sampled.

        A question is sampled by the number of its pairs, and one of its instructions for all profiles.
        """
        is_instructed_M = self.question_R[pair_M] >= 0
        row_M, pair_M = row_M[is_instructed_M], pair_M[is_instructed_M]
        question_M = self.question_R[pair_M]
        pairs_W = np.bincount(question_M, minlength=len(self._instructions_W))
        count = min(count, int(np.count_nonzero(pairs_W)))
        number_W, instruction_W = np.full((2, len(pairs_W)), count)
        if count:
            for number, question in enumerate(rng.choice(len(pairs_W), count, replace=False, p=pairs_W / len(pair_M))):
                number_W[question] = number
                instruction_W[question] = rng.choice(self._instructions_W[question])
        # One pair where a profile has several answers to a question.
        order_M = rng.permutation(len(row_M))
        first_M = order_M[np.unique((row_M * len(pairs_W) + question_M)[order_M], return_index=True)[1]]
        first_M = first_M[number_W[question_M[first_M]] < count]
        question_M = question_M[first_M]
        return number_W[question_M], row_M[first_M], pair_M[first_M], instruction_W[question_M]


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
    pairs = _with_questions(pairs).filter(pc.equal(pairs["split"], split))
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
    ordered = pairs.select(["question", "instruction", "answer", "is_none"])
    ordered = ordered.append_column("user", pa.array(user_of_row[joined["row"].to_numpy()]))
    ordered = ordered.sort_by([(name, "ascending") for name in ("user", "instruction", "answer", "question")])
    instructions, instruction_R = _encoded(ordered["instruction"])
    answers, answer_R = _encoded(ordered["answer"])
    questions, question_R = _encoded(ordered["question"])
    as_of_U = _keys(profiles)["as_of"].take(pa.array(used_row_U)).cast(pa.int64()).to_numpy()
    counts_U = np.bincount(ordered["user"].to_numpy(), minlength=len(used_row_U))
    return profiles.take(pa.array(used_row_U)), Pairs(
        instructions=instructions,
        answers=answers,
        questions=questions,
        instruction_R=instruction_R,
        answer_R=answer_R,
        question_R=np.where(ordered["instruction"].is_null().to_numpy(), -1, question_R),
        is_none_R=ordered["is_none"].to_numpy(),
        offsets_U1=np.concatenate([[0], np.cumsum(counts_U)]).astype(np.int64),
        cut_off_U=np.unique(as_of_U, return_inverse=True)[1],
    )


def _keys(table: pa.Table) -> pa.Table:
    for name in KEY:
        if name not in table.column_names:
            raise PairError(f"the profiles have no column {name!r}, only {', '.join(table.column_names)}: pass it too")
    time = table["as_of"].cast(pa.timestamp("us", "UTC"))
    return pa.table({"user_id": table["user_id"].cast(pa.large_string()), "as_of": time})


def _with_questions(pairs: pa.Table) -> pa.Table:
    """Return the pairs with `question` and `is_none`.

    Without these columns, each instruction is a question that has no `none`.
    """
    columns = {name: pairs[name] for name in COLUMNS}
    columns["question"] = pairs["question"] if "question" in pairs.column_names else pairs["instruction"]
    no_none = pa.array(np.zeros(len(pairs), dtype=bool))
    columns["is_none"] = pc.fill_null(pairs["is_none"], False) if "is_none" in pairs.column_names else no_none
    return pa.table(columns)


def _encoded(column: pa.ChunkedArray) -> tuple[list[Any], Ints]:
    """Return the distinct values of a column, and each row's as an index into them."""
    encoded = column.combine_chunks().dictionary_encode(null_encoding="encode")
    encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int64)
