"""Static columns without `known_from`, and the questions and labels that they may leak into."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from jobs.userqa.questions import Questions
from jobs.userqa.static_leaks import static_leaks
from tests.support.userqa_lake import question

YES = {"yes_from": 1, "text": "Yes.", "none": "No."}
QUESTIONS = [
    question("past", "attribute", "count", YES, days=30),
    question("age", "attribute", "value", {"bands": [30], "text": "{band}."}, source="tabular", value="age"),
    *[question(name, "future", "count", YES, days=30) for name in ("a", "b", "c", "d")],
    question("early", "future", "count", YES, days=30, last_as_of="2024-12-01"),
]
ATTRIBUTES = {
    "table": "attributes",
    "static": True,
    "numbers": ["age"],
    "categories": [{"name": "risk", "column": "risk", "known_from": "2025-06-01"}, "city"],
}
SCENARIOS = [{"name": "food", "instruction": "Food?", "labels": "labels"}, {"name": "film", "instruction": "Films?"}]


@pytest.fixture
def questions(tmp_path: Any) -> Questions:
    path = tmp_path / "questions.yaml"
    path.write_text(yaml.safe_dump({"questions": QUESTIONS}))
    return Questions.read(path)


def test_each_undeclared_column_is_named_with_what_it_may_leak_into(deployment: Any, questions: Questions) -> None:
    leaks = static_leaks(deployment(attributes=ATTRIBUTES, scenarios=SCENARIOS), questions)
    assert [(leak.column, leak.questions, leak.scenarios) for leak in leaks] == [
        ("age", ("a", "b", "c", "d"), ("food",)),
        ("city", ("a", "b", "c", "d"), ("food",)),
    ]
    assert leaks[0].line() == (
        "attributes.age is static: profiles of earlier days hold today's value, which may leak into questions about "
        "the future (a, b, c, ...) and labels (food); declare `known_from: <day>` for it, or give the table a "
        "valid_from column"
    )


def test_without_the_questions_the_labels_are_named(deployment: Any) -> None:
    leaks = static_leaks(deployment(attributes=ATTRIBUTES, scenarios=SCENARIOS))
    assert [(leak.column, leak.questions, leak.scenarios) for leak in leaks] == [
        ("age", (), ("food",)),
        ("city", (), ("food",)),
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"attributes": {**ATTRIBUTES, "static": False, "valid_from": "since"}},
        {"attributes": {**ATTRIBUTES, "numbers": [], "categories": ATTRIBUTES["categories"][:1]}},
    ],
    ids=["no attributes", "attributes with a time", "every column declared"],
)
def test_nothing_is_found_where_nothing_is_undeclared(changes: Any, deployment: Any, questions: Questions) -> None:
    assert static_leaks(deployment(scenarios=SCENARIOS, **changes), questions) == []


def test_a_question_that_is_never_asked_later_is_no_leak(deployment: Any, questions: Questions) -> None:
    only_early = questions.model_copy(update={"questions": questions.questions[-1:]})
    assert static_leaks(deployment(attributes=ATTRIBUTES), only_early) == []
