"""Check of the questions: what it says of each, on a messy lake of which it asks every user."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from jobs.cli import main
from jobs.cli.pages.check import check_page
from jobs.config.deployment import Deployment
from jobs.console import terminal
from jobs.operations.check import check
from jobs.userqa.questions import QuestionError
from tests.support import literal
from tests.support.deployment import DEPLOYMENT, deploy
from tests.support.messy import make_lake, write
from tests.support.userqa_lake import FEW_QUESTIONS, question, with_questions

NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)
CUT_OFF = date(2025, 2, 20)
BILLS = {"sources": DEPLOYMENT["sources"][:1], "userqa": {"questions": "questions.yaml", "as_of": [str(CUT_OFF)]}}


@pytest.fixture(scope="module")
def lived(spark, tmp_path_factory) -> SimpleNamespace:
    d = with_questions(deploy(tmp_path_factory.mktemp("check"), **BILLS))
    lake = {"bills": make_lake()["bills"]}
    write(d, lake)
    return SimpleNamespace(d=d, lake=lake, first=check(spark, d, now=NOON))


def test_every_question_is_asked_of_the_users(lived, capsys):
    """The messy company is small, so that each of its users is asked."""
    profiles, _ = literal.profiles(lived.d, lived.lake, CUT_OFF)
    source, end = lived.d.source("bill"), literal.when(f"{CUT_OFF}T00:00:00Z")
    _, rows = literal.split(source, lived.lake["bills"], end)
    bills = Counter(row["user_id"] for row in rows if row["paid_at"] >= end - timedelta(days=365))
    answers = Counter(
        "Paid nothing." if not bills[user] else "1 or 2" if bills[user] < 3 else "3 or more" for user in profiles
    )
    sample = lived.first.questions
    assert (sample.part, sample.profiles) == (1, len(profiles))
    pays = sample.questions["pays"]
    assert (pays.rows, pays.answers) == (len(profiles), len(answers))
    assert pays.commonest == pytest.approx(max(answers.values()) / len(profiles))
    assert (sample.questions["pays_all"].answers, sample.questions["gold"].rows) == (1, 0)
    terminal.out.print(check_page(lived.first))
    page = " ".join(capsys.readouterr().out.split())
    for words in (
        f"Questions, asked of every user at every cut-off: {len(profiles)} profiles",
        f"pays {pays.rows} {pays.answers} {pays.commonest:.1%}",
        "Nobody has an answer to gold: correct or remove these questions.",
        "Everybody has the same answer to pays_all: such a question teaches nothing.",
    ):
        assert words in page, words


def test_a_question_that_fails_is_refused(spark, deployment):
    d = with_questions(
        deployment(**BILLS),
        [
            *FEW_QUESTIONS,
            question("cast", "attribute", "sum", {"bands": [1], "text": "{band}"}, value="int(merchant)", days=60),
        ],
    )
    write(d, {"bills": [row for row in make_lake()["bills"] if row["merchant"]]})
    with pytest.raises(QuestionError, match=r"1 error\n  cast.value = int\(merchant\): fails on a row: \[CAST_INVALID"):
        check(spark, d, now=NOON)


def test_a_wrong_questions_file_is_refused_before_spark_starts(deployment, monkeypatch):
    def started(d: Deployment) -> Any:
        raise AssertionError("Spark was started")

    monkeypatch.setattr("jobs.cli.commands.data.spark_session", started)
    path = with_questions(deployment(), [{**FEW_QUESTIONS[0], "wher": "true"}]).path
    for command in ("check", "userqa"):
        finished = CliRunner().invoke(main.app, [command, "-c", str(path)])
        assert isinstance(finished.exception, QuestionError)
        assert "pays.wher: unknown key; did you mean 'where'?" in str(finished.exception)
