"""Pairs joined to their profiles, drawn without repeats and laid out as each pair says."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from model.data.pair_batch import pair_batch
from model.data.pairs import PairError, Pairs, read_pairs
from model.data.profiles import read_profiles
from model.data.text import Tokenizers, train_event_tokenizer, train_language_tokenizer
from tests.support.made_up import made_up_pairs, made_up_profiles, network_config, yes_no_tables


@pytest.fixture(scope="module")
def profiles() -> pa.Table:
    return made_up_profiles(40)


def triples(table: pa.Table, pairs: Pairs) -> list[tuple[str, str | None, str]]:
    users = table["user_id"].to_pylist()
    return [
        (user, pairs.instructions[pairs.instruction_R[pair]], pairs.answers[pairs.answer_R[pair]])
        for row, user in enumerate(users)
        for pair in range(pairs.offsets_U1[row], pairs.offsets_U1[row + 1])
    ]


@pytest.mark.parametrize("split", ["train", "validation"])
def test_pairs_join_their_profiles_whatever_the_order_of_rows(profiles: pa.Table, split: str) -> None:
    written = made_up_pairs(profiles)
    expected = {
        (row["user_id"], row["instruction"], row["answer"]) for row in written.to_pylist() if row["split"] == split
    }
    table, pairs = read_pairs(profiles, written, split)
    assert set(triples(table, pairs)) == expected
    assert len(triples(table, pairs)) == len(expected)

    turn = np.random.default_rng(0)
    table_2, pairs_2 = read_pairs(
        profiles.take(turn.permutation(len(profiles))), written.take(turn.permutation(len(written))), split
    )
    assert table_2.equals(table)
    assert triples(table_2, pairs_2) == triples(table, pairs)


def test_the_same_user_at_two_times_keeps_pairs_apart(profiles: pa.Table) -> None:
    late = profiles.slice(5, 1)
    early = late.set_column(1, "as_of", pc.subtract(late["as_of"], pa.scalar(10**6 * 86_400, pa.duration("us"))))
    pairs = made_up_pairs(late, validation=0)
    of_early = pairs.set_column(
        pairs.column_names.index("as_of"), "as_of", pa.chunked_array([early["as_of"].chunk(0).take([0, 0, 0])])
    ).set_column(pairs.column_names.index("answer"), "answer", pa.array(["then"] * 3))
    table, read = read_pairs(pa.concat_tables([late, early]), pa.concat_tables([pairs, of_early]), "train")
    assert table["as_of"].to_pylist() == [early["as_of"][0].as_py(), late["as_of"][0].as_py()]
    assert [answer for _, _, answer in triples(table, read)[:3]] == ["then"] * 3
    assert "then" not in [answer for _, _, answer in triples(table, read)[3:]]


def plain_pairs(instructions: list[str | None], instruction: np.ndarray, offsets: list[int]) -> Pairs:
    """Pairs of one answer; each instruction is a question, and the first one is the universal mode."""
    return Pairs(
        instructions=instructions,
        answers=["a"],
        questions=[str(text) for text in instructions[1:]],
        instruction_R=instruction,
        answer_R=np.zeros(len(instruction), dtype=np.int64),
        question_R=instruction - 1,
        is_none_R=np.zeros(len(instruction), dtype=bool),
        offsets_U1=np.array(offsets),
        cut_off_U=np.zeros(len(offsets) - 1, dtype=np.int64),
    )


def test_drawn_pairs_are_the_profiles_own_and_never_twice() -> None:
    instruction = np.array([0, 1, 1, 1, 0, 1, 1, 0, 0, 0])
    pairs = plain_pairs([None, "?"], instruction, [0, 5, 7, 7, 10])
    seen = set()
    for seed in range(30):
        sampled = pairs.sample(np.array([3, 0, 1]), instructed=2, general=1, rng=np.random.default_rng(seed))
        row, pair = sampled.row_Q, sampled.pair_Q
        assert np.array_equal(sampled.instruction_Q, instruction[pair])
        assert row.tolist() == [0, 1, 1, 1, 2, 2]
        assert len(set(pair)) == len(pair)
        assert pair[0] in (7, 8, 9)
        assert sorted(instruction[pair[1:4]].tolist()) == [0, 1, 1]
        assert set(pair[4:]) == {5, 6}
        seen.update(pair)
    assert seen == set(range(10))


def test_a_batch_asks_each_user_several_things_and_many_users_each_of_them() -> None:
    """Five users have ten questions each, a sixth only four of them, and each one general answer."""
    few = [2, 5, 7, 8]
    instruction = np.array([*[*range(1, 11), 0] * 5, *few, 0])
    pairs = plain_pairs([None, *(f"{number}?" for number in range(10))], instruction, [0, 11, 22, 33, 44, 55, 60])
    used = set()
    for seed in range(40):
        sampled = pairs.sample(np.arange(6), instructed=3, general=1, rng=np.random.default_rng(seed))
        row, pair = sampled.row_Q, sampled.pair_Q
        drawn = [sorted(instruction[pair[row == user]]) for user in range(6)]
        assert [len({*instruction_text}) for instruction_text in drawn] == [4] * 6  # several questions of one user
        assert drawn[:5] == [drawn[0]] * 5  # and each over many users
        assert {*drawn[0]} & {0, *few} <= {*drawn[5]} <= {0, *few}
        used.update(drawn[0])
    assert used == set(range(11))


def test_a_batch_of_shared_questions_asks_all_profiles_the_same_in_the_same_words() -> None:
    profiles, written = yes_no_tables(30)
    table, pairs = read_pairs(profiles, written, "train")
    rows = {(row["user_id"], row["question"]): row for row in written.to_pylist()}
    questions = {row["instruction"]: row["question"] for row in written.to_pylist()}
    names, users = table["user_id"].to_pylist(), np.arange(len(table))
    words = set()
    for seed in range(20):
        sampled = pairs.sample(
            users, instructed=2, general=1, universal=4, shared_questions=True, rng=np.random.default_rng(seed)
        )
        batch: dict[tuple[bool, str | None], dict[str, str]] = {}
        for row, pair, instruction, is_universal in zip(
            sampled.row_Q, sampled.pair_Q, sampled.instruction_Q, sampled.is_universal_Q, strict=True
        ):
            text = pairs.instructions[instruction]
            answers = batch.setdefault((bool(is_universal), text), {})
            assert names[row] not in answers
            answers[names[row]] = pairs.answers[pairs.answer_R[pair]]
            question = rows[names[row], questions[text]]
            assert (answers[names[row]], pairs.is_none_R[pair]) == (question["answer"], question["is_none"])
            assert pairs.offsets_U1[row] <= pair < pairs.offsets_U1[row + 1]
        assert sampled.row_Q.tolist() == sorted(sampled.row_Q.tolist())
        assert {*batch.pop((False, None))} == {*names}
        universal = {text for is_universal, text in batch if is_universal}
        assert len({questions[text] for text in universal}) == len(universal) == 4
        assert len(batch) == 6
        assert {text for is_universal, text in batch if not is_universal} <= universal
        for (_, text), answers in batch.items():  # of all who were asked, whatever the words they have in the table
            assert {*answers} == {name for name in names if (name, questions[text]) in rows}
        words |= universal
    assert words == {text for text in pairs.instructions if text}
    assert pairs.has_one_answer_R.tolist() == [text >= 0 for text in pairs.question_R]
    split = np.unique(table["as_of"].to_numpy(), return_inverse=True)[1]
    assert pairs.cut_off_U.tolist() == split.tolist()
    assert len(set(split)) == 2


def test_a_shared_question_is_sampled_by_its_pairs_with_one_answer_of_each_profile() -> None:
    """Nine profiles have three answers to one question, and the last of them an answer to another."""
    pairs = plain_pairs([None, "?", "!"], np.array([1] * 27 + [2]), [*range(0, 27, 3), 28])
    seen, rare = set(), 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        sampled = pairs.sample(np.arange(9), instructed=1, general=0, shared_questions=True, rng=rng)
        is_rare = sampled.pair_Q.tolist() == [27]
        assert sampled.row_Q.tolist() == ([8] if is_rare else [*range(9)])
        rare += is_rare
        seen.update(sampled.pair_Q.tolist())
    assert seen == set(range(28))
    assert 0 < rare < 15


def test_pairs_of_a_table_without_is_none_have_no_none() -> None:
    profiles, written = yes_no_tables(20)
    empty = pa.nulls(len(written), pa.bool_())
    for older in (written.drop(["is_none"]), written.drop(["is_none"]).append_column("is_none", empty)):
        assert not read_pairs(profiles, older, "train")[1].is_none_R.any()


def test_a_question_with_several_answers_beside_its_none_is_known() -> None:
    """The second question has an answer, another one and its `none`; the first one an answer and its `none`."""
    pairs = replace(
        plain_pairs([None, "?", "!"], np.array([0, 1, 1, 2, 2, 2]), [0, 3, 6]),
        answer_R=np.array([0, 1, 2, 1, 3, 2]),
        is_none_R=np.array([False, False, True, False, False, True]),
    )
    assert pairs.has_one_answer_R.tolist() == [False, True, True, False, False, False]


def test_suffixes_lie_end_to_end_and_predict_the_answer() -> None:
    table, pairs = read_pairs(*yes_no_tables(40), "train")
    config = network_config()
    profiles_read = read_profiles(table, config)
    tokenizers = Tokenizers(
        event=train_event_tokenizer(["x"], 260), language=train_language_tokenizer(pairs.answers, 300)
    )
    instruction_text, answered = tokenizers.instruction_ids(pairs.instructions), tokenizers.answer_ids(pairs.answers)
    for universal in (0, 3):
        sampled = pairs.sample(
            np.array([3, 0, 9]),
            instructed=2,
            general=1,
            universal=universal,
            shared_questions=universal > 0,  # the words of a question are then not those of each pair
            rng=np.random.default_rng(0),
        )
        batch = pair_batch(profiles_read, pairs, instruction_text, answered, sampled)
        assert len(sampled.row_Q) == 3 * (3 + universal)
        first = 1 if universal else 0
        column, suffix, before = first, first, -1
        for q, (at, number, instruction, is_universal) in enumerate(
            zip(sampled.row_Q, sampled.pair_Q, sampled.instruction_Q, sampled.is_universal_Q, strict=True)
        ):
            assert batch.answers_A[batch.answer_Q[q]] == pairs.answer_R[number]
            assert batch.instructions_I[batch.instruction_Q[q]] == instruction
            if at != before:
                column, suffix, before = first, first, at
            if is_universal:  # one <USER> for all of them
                assert (batch.user_row_Q[q], batch.user_column_Q[q]) == (at, 0)
                assert (batch.ids_BL[at, 0], batch.targets_BL[at, 0]) == (tokenizers.user, -1)
                assert (batch.segments_BL[at] == 1).tolist() == [True] + [False] * (batch.ids_BL.shape[1] - 1)
                continue
            suffix += 1
            question = instruction_text[instruction].tolist()
            answer = answered[pairs.answer_R[number]].tolist()
            read = question + answer[:-1]
            assert batch.ids_BL[at, column : column + len(read)].tolist() == read
            assert set(batch.segments_BL[at, column : column + len(read)]) == {suffix}
            targets = [-1] * (len(question) - 1) + answer
            assert batch.targets_BL[at, column : column + len(read)].tolist() == targets
            assert (batch.user_row_Q[q], batch.user_column_Q[q]) == (at, column + len(question) - 1)
            assert batch.ids_BL[at, batch.user_column_Q[q]] == tokenizers.user
            assert targets[-1] == tokenizers.end
            column += len(read)
        real = (batch.segments_BL > 0).sum(1)
        assert batch.ids_BL.shape[1] == real.max()
        own = sampled.pair_Q[~sampled.is_universal_Q]
        assert (batch.targets_BL != -1).sum() == answered.lengths[pairs.answer_R[own]].sum()


def test_pairs_that_cannot_be_trained_on_say_why(profiles: pa.Table) -> None:
    pairs = made_up_pairs(profiles, validation=0)
    with pytest.raises(PairError, match="no column 'answer'"):
        read_pairs(profiles, pairs.drop(["answer"]), "train")
    with pytest.raises(PairError, match=r"3 of 120 pairs have no profile.*user-00000"):
        read_pairs(profiles.slice(1), pairs, "train")
    with pytest.raises(PairError, match="same user_id and as_of"):
        read_pairs(pa.concat_tables([profiles, profiles.slice(0, 1)]), pairs, "train")
    empty = pairs.set_column(pairs.column_names.index("answer"), "answer", pa.array([""] * len(pairs)))
    with pytest.raises(PairError, match="has no answer"):
        read_pairs(profiles, empty, "train")
