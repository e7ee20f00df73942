"""UserQA against answers worked out row by row, and what it must never read."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from copy import deepcopy
from datetime import timedelta
from types import SimpleNamespace

import pytest
import yaml

from jobs.lake.delta import TableError
from jobs.userqa.questions import QuestionError
from jobs.userqa.userqa import userqa
from tests.support.catalog import assert_columns
from tests.support.deployment import deploy
from tests.support.literal_answers import events, expected, require_true
from tests.support.userqa_lake import (
    CHANGES,
    CUT_OFFS,
    LABELLED,
    QUESTIONS,
    make_lake,
    midnight,
    question,
    table,
    write,
    write_labels,
    write_questions,
)


@pytest.fixture(scope="module")
def lived(spark, tmp_path_factory) -> SimpleNamespace:
    """One run; then another after rows at or after the labels' as_of came, and a cut-off was dropped."""
    folder = tmp_path_factory.mktemp("userqa")
    d = deploy(folder, **CHANGES)
    write_questions(folder)
    lake = make_lake()
    write(d, lake)
    write_labels(d)
    seen = SimpleNamespace(d=d, lake=deepcopy(lake), first=userqa(spark, d))
    seen.pairs, seen.profiles, seen.runs = (table(d, name) for name in ("userqa", "training_profiles", "job_runs"))
    for n in range(12):
        lake["bills"][1].append(
            {
                "bill_id": f"x{n}",
                "user_id": f"u{n}",
                "paid_at": LABELLED,
                "merchant": "Leak",
                "kind": "tea",
                "amount": 5.0,
            }
        )
        lake["searches"][1].append({"user_id": f"u{n}", "searched_at": LABELLED, "query": "t-leak"})
        lake["attributes"][1].append({"user_id": f"u{n}", "valid_from": LABELLED, "age": 99, "job": "Leak"})
    write(d, lake)
    seen.again = userqa(spark, d)
    seen.pairs_again, seen.profiles_again = table(d, "userqa"), table(d, "training_profiles")
    fewer = deploy(folder, **{**CHANGES, "userqa": {**CHANGES["userqa"], "as_of": ["2025-01-01"]}})
    userqa(spark, fewer)
    seen.days_left = {row["day"] for name in ("userqa", "training_profiles") for row in table(d, name)}
    return seen


def test_answers_are_true_of_each_user_at_each_cut_off(lived):
    people = {(row["user_id"], row["day"]) for row in lived.profiles}
    assert len(people) > 15
    assert require_true(lived, lived.pairs) == people


def test_an_answer_that_says_nothing_is_marked(lived):
    nones = {q["name"]: q["answer"].get("none") for q in QUESTIONS}
    for pair in lived.pairs:
        assert pair["is_none"] == (pair["answer"] == nones.get(pair["question"])), pair
    assert {pair["question"] for pair in lived.pairs if pair["is_none"]} > {"evening", "last", "kinds", "next_when"}


def test_levels_part_the_training_users_evenly_and_hold_the_value(lived):
    spent = [pair for pair in lived.pairs if pair["question"] == "spent"]
    # A sum over no event is 0.
    assert {(pair["user_id"], pair["day"]) for pair in spent} == {
        (row["user_id"], row["day"]) for row in lived.profiles
    }
    counts = Counter(pair["answer"].split(", ")[-1] for pair in spent if pair["split"] == "train")
    assert set(counts) - {"Nothing."} == {"low.", "middle.", "high."}
    assert max(counts[level] for level in ("low.", "middle.", "high.")) <= 3 * min(
        counts[level] for level in ("low.", "middle.", "high.")
    )
    for pair in spent:
        since = midnight(pair["day"]) - timedelta(days=60)
        amounts = [row["amount"] for row in events(lived, "bills", pair["user_id"], since, midnight(pair["day"]))]
        total = sum(amount for amount in amounts if amount is not None and amount == amount)
        words = pair["answer"].removeprefix("Spent ").split(",")[0].split()
        low, high = {"under": (0, words[-1]), "Nothing.": (0, 1e-9)}.get(words[0], (words[0], words[-1]))
        assert float(low) - 1e-9 <= total < (float("inf") if high == "more" else float(high)), pair


def test_levels_are_those_of_the_cut_offs_at_which_it_is_asked(lived):
    """At the later cut-off most of the 60 days are not read, and the counts there too low."""
    pairs = {pair["user_id"]: pair for pair in lived.pairs if pair["question"] == "far"}
    first, last = midnight(CUT_OFFS[0]), midnight(CUT_OFFS[0]) + timedelta(days=60)
    count = {user: len(events(lived, "bills", user, first, last)) for user in pairs}
    trained = sorted(count[user] for user, pair in pairs.items() if pair["split"] == "train" and count[user])
    half = trained[(len(trained) + 1) // 2 - 1]
    assert {user: pair["answer"] for user, pair in pairs.items()} == {
        user: "No." if not n else "low." if n < half else "high." for user, n in count.items()
    }


def test_the_given_share_of_the_training_users_is_answered_yes(lived):
    def answers(name, chosen):
        """Return the count, the answer and the split of each user and cut-off."""
        result = []
        for pair in lived.pairs:
            if pair["question"] == name:
                at = midnight(pair["day"])
                rows = events(lived, "bills", pair["user_id"], at - timedelta(days=60), at)
                result.append((sum(map(chosen, rows)), pair["answer"], pair["split"]))
        return result

    much = answers("much", lambda row: True)
    trained = sorted(count for count, _, split in much if split == "train")
    edge = trained[math.ceil(0.7 * len(trained)) - 1]
    assert [answer for _, answer, _ in much] == ["Yes." if count > edge else "No." for count, _, _ in much]
    assert 0.1 < sum(count > edge for count in trained) / len(trained) <= 0.3
    # Fewer users than the share have a value above 0, and they alone are answered yes.
    rare = answers("rare", lambda row: row["amount"] == 100)
    assert {answer for _, answer, _ in rare} == {"Yes.", "No."}
    assert [answer for _, answer, _ in rare] == ["Yes." if count else "No." for count, _, _ in rare]


def test_every_row_is_accounted_for_at_each_cut_off(lived):
    [run] = [row for row in lived.runs if row["job"] == "userqa"]
    accounts = json.loads(run["details"])["accounts"]
    assert set(accounts) == {str(day) for day in CUT_OFFS}
    used = sum(account["used"] for at in accounts.values() for account in at.values())
    # Each cut-off reads every row of every source again.
    assert run["rows_in"] == len(CUT_OFFS) * sum(len(rows) for _, rows in lived.lake.values())
    assert run["rows_in"] == used + sum(dict(run["left_out"]).values())


@pytest.mark.parametrize("table", ["training_profiles", "userqa"])
def test_the_tables_have_the_columns_of_the_catalog(table, lived, spark):
    assert_columns(spark, lived.d, table)


def test_descriptions_have_no_question(lived):
    count = Counter()
    for pair in lived.pairs:
        if pair["question"] == "general":
            assert (pair["instruction"], pair["axis"]) == (None, None)
            count[pair["user_id"], pair["day"]] += 1
    assert set(count.values()) == {2}
    u1 = [
        p["answer"]
        for p in lived.pairs
        if p["question"] == "general" and p["user_id"] == "u1" and p["day"] == CUT_OFFS[1]
    ]
    truth = expected(lived, "u1", CUT_OFFS[1])
    assert sorted(u1) == sorted([f"{truth['job']} {truth['why']}", truth["last"]])


def test_a_user_is_on_one_side_of_the_split_and_gets_one_phrasing(lived):
    for pair in lived.pairs:
        draw = int(hashlib.sha256(f"userqa|{pair['user_id']}".encode()).hexdigest()[:8], 16) / 2**32
        assert pair["split"] == ("validation" if draw < 0.3 else "train")
    assert {pair["split"] for pair in lived.pairs} == {"train", "validation"}
    phrased = {}
    for pair in lived.pairs:
        if pair["question"] == "last":
            phrased.setdefault(pair["user_id"], set()).add(pair["instruction"])
    assert {len(texts) for texts in phrased.values()} == {1}
    assert set.union(*phrased.values()) == {"When?", "When last?"}


def test_nothing_at_or_after_the_labels_as_of_is_read(lived):
    def key(row):
        return str(sorted((k, str(v)) for k, v in row.items()))

    assert sorted(map(key, lived.pairs_again)) == sorted(map(key, lived.pairs))
    assert sorted(map(key, lived.profiles_again)) == sorted(map(key, lived.profiles))
    assert (lived.first.replaced, lived.again.replaced) == (4, 0)


def test_the_summary_counts_answers(lived):
    evening = [pair["answer"] for pair in lived.pairs if pair["question"] == "evening"]
    spread = lived.first.questions["evening"]
    assert (spread.rows, spread.answers) == (len(evening), 2)
    assert spread.commonest == pytest.approx(Counter(evening).most_common(1)[0][1] / len(evening))
    unasked = lived.first.questions["unasked"]
    assert (unasked.rows, unasked.answers, unasked.commonest) == (0, 0, 0)
    assert lived.first.pairs == len(lived.pairs)
    assert lived.first.profiles == len(lived.profiles)


def test_a_dropped_cut_off_leaves_the_tables(lived):
    assert lived.days_left == {CUT_OFFS[0]}


def test_questions_that_do_not_fit_are_refused_all_at_once(spark, lived):
    folder = lived.d.path.parent
    write_questions(
        folder,
        [
            question("a", "future", "count", {"bands": [1], "text": "x"}, days=31),
            question("b", "attribute", "count", {"bands": [1], "text": "x"}, days=9, where="colour = 'red'"),
            question("c", "attribute", "count", {"bands": [1], "text": "x"}, days=9, where="amount + 1"),
            question("d", "attribute", "sum", {"bands": [1], "text": "x"}, days=9, value="merchant"),
            question("e", "attribute", "count", {"bands": [1], "text": "x"}, days=9, source="shop"),
            question("f", "attribute", "value", {"bands": [1], "text": "x"}, source="tabular", value="income"),
        ],
        [],
    )
    with pytest.raises(QuestionError) as refused:
        userqa(spark, deploy(folder, **CHANGES))
    message = str(refused.value)
    for words in (
        "6 errors",
        "a.days = 31: asked as of 2025-02-01, its window ends on 2025-03-04, after the "
        "earliest label's as_of 2025-03-03",
        "b.where = colour = 'red'",
        "c.where = amount + 1: is double",
        "d.value = merchant: is string",
        "e.source = shop: no source",
        "f.value = income: no tabular",
    ):
        assert words in message, words


def test_a_cut_off_after_the_labels_is_one_mistake(spark, lived):
    """The windows of its future questions end after the labels too."""
    folder = lived.d.path.parent
    write_questions(folder)
    late = {**CHANGES["userqa"], "as_of": ["2025-01-01", "2025-04-01"]}
    with pytest.raises(QuestionError) as refused:
        userqa(spark, deploy(folder, **CHANGES | {"userqa": late}))
    [_, *lines] = str(refused.value).splitlines()
    assert lines == ["  userqa.as_of = 2025-04-01: after the earliest label's as_of 2025-03-03; name earlier cut-offs"]


def test_a_pattern_that_cannot_be_searched_for_is_refused(spark, tmp_path):
    d = deploy(tmp_path, **CHANGES)
    lake = make_lake()
    write(d, lake)
    write_labels(d)
    content = {"interests": {"tea": "hot (tea", "han": r"\p{IsHan}"}, "questions": QUESTIONS[:1]}
    (tmp_path / "questions.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(QuestionError, match=r"interests.tea = hot \(tea: no regular expression \(Unclosed") as refused:
        userqa(spark, d)
    assert "1 error" in str(refused.value)


def test_labels_that_are_not_there_are_refused(spark, lived):
    """Without their as_of, training could see what it is judged on."""
    folder = lived.d.path.parent
    write_questions(folder)
    scenarios = [*CHANGES["scenarios"], {"name": "film", "instruction": "Film?", "labels": "film_labels"}]
    with pytest.raises(TableError, match=r"scenarios\.film\.labels = film_labels: there is no Delta table at .*remove"):
        userqa(spark, deploy(folder, **CHANGES | {"scenarios": scenarios}))
