"""How answerable each question is, from the tables of Spark to the printed table."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jobs.config.deployment import Deployment
from jobs.console.output import print_summary
from jobs.userqa import answer_sample
from jobs.userqa.answer_sample import question_aucs, useless_questions
from jobs.userqa.pairs import Spread
from jobs.userqa.userqa import UserQAResult
from tests.support.made_up import yes_no_tables
from tests.support.shop import company

USERS = 260


@pytest.fixture(scope="module")
def tables(spark: Any) -> tuple[Any, Any]:
    """Profiles and pairs; `likes_0` is answered by chance, and the other questions by the user's interest."""
    profiles, pairs = yes_no_tables(USERS)
    rng, yes, no = np.random.default_rng(0), "Yes, they like coffee.", "No, they do not."
    rows = [
        row | {"answer": yes if (liked := bool(rng.integers(2))) else no, "is_none": not liked}
        if row["question"] == "likes_0"
        else row
        for row in pairs.to_pylist()
    ]
    return (
        spark.createDataFrame(profiles.drop_columns(["interest"])).cache(),
        spark.createDataFrame(pa.Table.from_pylist(rows, pairs.schema)).cache(),
    )


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    return company(tmp_path_factory.mktemp("shop"))


def test_questions_that_profiles_answer_stand_out(tables: tuple[Any, Any], shop: Deployment) -> None:
    aucs = question_aucs(shop, *tables, USERS)
    assert aucs.keys() == {f"likes_{number}" for number in range(6)}
    assert min(auc for name, auc in aucs.items() if name != "likes_0") > 0.9
    assert abs(aucs["likes_0"] - 0.5) < 0.12


def test_a_large_company_is_sampled_by_user(
    tables: tuple[Any, Any], shop: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """About 65 users of 260 are read, which are too few until the limit allows them."""
    monkeypatch.setattr(answer_sample, "MOST_PROFILES", USERS // 4)
    assert question_aucs(shop, *tables, USERS) == {}
    read: list[int] = []
    words = answer_sample.profile_words
    monkeypatch.setattr(answer_sample, "MIN_USERS", 30)
    monkeypatch.setattr(answer_sample, "profile_words", lambda profiles: read.append(len(profiles)) or words(profiles))
    assert question_aucs(shop, *tables, USERS)
    assert 40 < read[0] < 90


def test_a_useless_question_is_named_in_the_page_and_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    spreads = {
        "age": Spread(rows=9, answers=2, commonest=0.6, auc=0.513),
        "games": Spread(rows=9, answers=2, commonest=0.6, auc=0.781),
        "general": Spread(rows=9, answers=9, commonest=0.1),
    }
    warning = useless_questions(spreads)
    assert warning
    assert "age (0.51)" in warning
    assert "games" not in warning
    assert useless_questions({"games": spreads["games"], "general": spreads["general"]}) is None
    result = UserQAResult(as_of=(), profiles=9, pairs=27, replaced=1, warning=warning, questions=spreads, seconds=1.0)
    print_summary("userqa", result)
    page = capsys.readouterr().out
    assert "of no use to train on" in " ".join(page.split())
    assert [line.split()[-1] for line in page.splitlines() if line.strip().startswith("games")] == ["0.781"]
    print_summary("userqa", result, as_json=True)
    written = json.loads(capsys.readouterr().out)
    assert {name: row["auc"] for name, row in written["questions"].items()} == {
        "age": 0.513,
        "games": 0.781,
        "general": None,
    }
    assert written["warning"] == warning
