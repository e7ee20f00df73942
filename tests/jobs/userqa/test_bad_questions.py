"""Questions files with each kind of mistake, those that only the tables can tell among them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.userqa.question_values import question_errors
from jobs.userqa.questions import Questions
from tests.support.deployment import deploy
from tests.support.error_page import case, refused, row, says

GONE = object()
GOOD: dict[str, Any] = {
    "name": "bills",
    "axis": "attribute",
    "instruction": "How often does this user pay?",
    "source": "bill",
    "measure": "count",
    "days": 30,
    "answer": {"bands": [2, 4], "text": "The user paid {times}.", "none": "The user did not pay."},
}
THEME = {"words": "hot tea", "where": "merchant = 'tea'"}

CHANGES = [
    case("a question without a name", {"name": GONE}),
    case("a question's name with a capital", {"name": "Bills"}),
    case("a question of a reserved name", {"name": "split"}),
    case("a misspelt key of a question", {"wher": "amount > 1"}),
    case("an unknown axis", {"axis": "past"}),
    case("an unknown measure", {"measure": "median"}),
    case("a sum without a value", {"measure": "sum"}),
    case("a count of a value", {"value": "amount"}),
    case("a share of everything", {"measure": "share"}),
    case("a recency that looks ahead", {"measure": "recency", "axis": "future"}),
    case("days until what was", {"measure": "days_until"}),
    case("a tabular question with days", {"source": "tabular", "measure": "value", "value": "age"}),
    case("a question without days", {"days": GONE}),
    case("a question over no day", {"days": 0}),
    case("yes for days", {"days": True}),
    case("an empty list of instructions", {"instruction": []}),
    case("a question of blanks", {"instruction": "  "}),
    case("six commonest values", {"measure": "top", "value": "merchant", "top": 6, "answer": {"text": "{top}."}}),
    case("a number for the last day to ask at", {"last_as_of": 20250101}),
    case("a question without an answer", {"answer": GONE}),
    case("an answer with numbers and no words for them", {"answer": {"text": "Some."}}),
    case("bands that shrink", {"answer": {"text": "{times}", "bands": [4, 2]}}),
    case("a band that is not a number", {"answer": {"text": "{times}", "bands": [float("nan")]}}),
    case("an answer with bands and levels", {"answer": {"text": "{times}", "bands": [2], "levels": 3}}),
    case("nine levels", {"answer": {"text": "{level}", "levels": 9}}),
    case("a yes without a no", {"answer": {"text": "Yes.", "yes_from": 1}}),
    case("an answer {what}", {"answer": {"text": "{what}", "bands": [2]}}),
    case("an answer {times.__class__}", {"answer": {"text": "{times.__class__}", "bands": [2]}}),
    case("an answer {times!r}", {"answer": {"text": "{times!r}", "bands": [2]}}),
    case("an answer {times:>10}", {"answer": {"text": "{times:>10}", "bands": [2]}}),
    case("an answer {times", {"answer": {"text": "{times", "bands": [2]}}),
    case("a none {times}", {"answer": {"text": "{times}", "bands": [2], "none": "Paid {times}."}}),
    case("each that is a text", {"each": "tea"}),
    case("each of no theme", {"each": ["moon"]}),
]
REST = [
    case("an unknown block of questions", {"question": []}),
    case("themes that are a list", {"themes": [THEME]}),
    case("a theme without words", {"themes": {"tea": {"where": "true"}}}),
    case("interests that are a list", {"interests": ["tea"]}),
    case("an interest without a pattern", {"interests": {"tea": " "}}),
    case("a general that is no list of lists", {"general": ["bills"]}),
    case("a description of no question", {"general": [["nobody"]]}),
]
FILES = [
    case("a questions file that is empty", b""),
    case("a questions file without questions", b"general: []\n"),
    case("a questions file that is not YAML", b"questions: {\n"),
    case("a questions file that is not UTF-8", b"questions: []\ngeneral: \xff\n"),
    case("a question's key that is written twice", b"questions:\n  - {name: a, days: 1, days: 2}\n"),
]
UNFIT = [
    case("a where of no column", {"where": "colour = 'red'"}),
    case("a where that is no condition", {"where": "amount + 1"}),
    case("a where that does not parse", {"where": "merchant = 'tea"}),
    case("a where that counts", {"where": "count(*) > 1"}),
    case("a where by chance", {"where": "rand() < 0.5"}),
    case("a where that calls Java", {"where": "java_method('java.lang.System', 'lineSeparator') = 'x'"}),
    case("a sum of texts", {"measure": "sum", "value": "merchant"}),
    case("a question about no source", {"source": "shop"}),
    case(
        "a question about no tabular column", {"source": "tabular", "measure": "value", "value": "income", "days": GONE}
    ),
    case(
        "a tabular number without bands",
        {"source": "tabular", "measure": "value", "value": "age", "days": GONE, "answer": {"text": "Is {top}."}},
    ),
]


def question(changes: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in (GOOD | changes).items() if value is not GONE}


def read(content: Any, folder: Path) -> Questions:
    path = folder / "questions.yaml"
    path.write_bytes(content if isinstance(content, bytes) else yaml.safe_dump(content).encode())
    return Questions.read(path)


def test_the_file_without_a_mistake_is_read(tmp_path: Path) -> None:
    assert [q.name for q in read({"questions": [GOOD]}, tmp_path).questions] == ["bills"]


@pytest.mark.parametrize(("wrong", "changes"), CHANGES)
def test_a_wrong_question_is_refused(wrong: str, changes: dict[str, Any], tmp_path: Path) -> None:
    with refused(wrong) as caught:
        read({"questions": [question(changes)], "themes": {"tea": THEME}}, tmp_path)
    assert ": 1 error\n" in str(caught.value)


@pytest.mark.parametrize(("wrong", "rest"), REST)
def test_a_wrong_block_beside_the_questions_is_refused(wrong: str, rest: dict[str, Any], tmp_path: Path) -> None:
    with refused(wrong) as caught:
        read({"questions": [GOOD], **rest}, tmp_path)
    assert ": 1 error\n" in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "asked"), [case("two questions of one name", [GOOD, GOOD]), case("a question that is a text", ["bills"])]
)
def test_a_wrong_list_of_questions_is_refused(wrong: str, asked: list[Any], tmp_path: Path) -> None:
    with refused(wrong) as caught:
        read({"questions": asked}, tmp_path)
    assert ": 1 error\n" in str(caught.value)


@pytest.mark.parametrize(("wrong", "content"), FILES)
def test_a_file_that_holds_no_questions_is_refused(wrong: str, content: bytes, tmp_path: Path) -> None:
    with refused(wrong):
        read(content, tmp_path)


@row("a questions file that is not there")
def test_a_questions_file_that_is_not_there_is_refused(wrong: str, tmp_path: Path) -> None:
    with refused(wrong):
        Questions.read(tmp_path / "nowhere.yaml")


@pytest.fixture(scope="module")
def opened(spark: Any) -> dict[str, Any]:
    return {"bill": spark.createDataFrame([], "user_id string, paid_at timestamp, merchant string, amount double")}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return deploy(
        tmp_path_factory.mktemp("questions"),
        attributes={"table": "attributes", "static": True, "numbers": ["age"], "categories": ["city"]},
    )


@pytest.mark.parametrize(("wrong", "changes"), UNFIT)
def test_a_question_that_does_not_fit_the_tables_is_refused(
    wrong: str, changes: dict[str, Any], spark: Any, shop: Any, opened: dict[str, Any], tmp_path: Path
) -> None:
    """`userqa` raises these lines, all at once, before it reads a row."""
    found = question_errors(spark, shop, read({"questions": [question(changes)]}, tmp_path), opened)
    assert len(found) == 1
    says(wrong, "refused", found[0])


@row("an interest that is no pattern")
def test_an_interest_that_is_no_pattern_is_refused(
    wrong: str, spark: Any, shop: Any, opened: dict[str, Any], tmp_path: Path
) -> None:
    asked = read({"questions": [GOOD], "interests": {"tea": "hot (tea", "han": r"\p{IsHan}"}}, tmp_path)
    found = question_errors(spark, shop, asked, opened)
    assert len(found) == 1
    says(wrong, "refused", found[0])
