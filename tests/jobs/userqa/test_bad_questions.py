"""Questions files with each kind of mistake, those that only the tables can tell among them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.userqa.question_errors import question_errors
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
    case("a question without a name", {"name": GONE}, said="(no name).name: add this key"),
    case(
        "a question's name with a capital",
        {"name": "Bills"},
        said="Bills.name: use lower-case letters, digits and _, starting with a letter",
    ),
    case("a question of a reserved name", {"name": "split"}, said="split: a reserved name; rename the question"),
    case("a misspelt key of a question", {"wher": "amount > 1"}),
    case("a sum without a value", {"measure": "sum"}),
    case("a count of a value", {"value": "amount"}, said="bills: measure count takes no `value`"),
    case("a share of everything", {"measure": "share"}, said="bills: measure share needs a `where`"),
    case("a recency that looks ahead", {"measure": "recency", "axis": "future"}),
    case(
        "days until what was",
        {"measure": "days_until"},
        said="recency looks back and days_until ahead; change the axis or the measure",
    ),
    case(
        "a tabular question with days",
        {"source": "tabular", "measure": "value", "value": "age"},
        said="a tabular question has no where, no days and no future",
    ),
    case("a question without days", {"days": GONE}),
    case("a question without an answer", {"answer": GONE}, said="bills.answer: add this key"),
    case("an answer with numbers and no words for them", {"answer": {"text": "Some."}}),
    case("bands that shrink", {"answer": {"text": "{times}", "bands": [4, 2]}}),
    case(
        "an answer with bands and levels",
        {"answer": {"text": "{times}", "bands": [2], "levels": 3}},
        said="bills.answer: give one of bands, levels, yes_from, yes_share",
    ),
    case(
        "a yes {times}",
        {"answer": {"text": "Paid {times}.", "none": "No.", "yes_share": 0.4}},
        said="bills.answer: yes_share fills no field of text; write plain text, the answer for yes",
    ),
    case(
        "an instruction that is a number",
        {"instruction": 5},
        said="bills.instruction: write a text, or a list of texts",
    ),
    case("a yes without a no", {"answer": {"text": "Yes.", "yes_from": 1}}),
    case(
        "an answer {what}",
        {"answer": {"text": "{what}", "bands": [2]}},
        said="text has unknown fields ['what']; use band, days, level, times, top",
    ),
    case(
        "a none {times}",
        {"answer": {"text": "{times}", "bands": [2], "none": "Paid {times}."}},
        said="none has a field, and where there is nothing it cannot be filled; write plain text",
    ),
    case("each that is a text", {"each": "tea"}, said="bills.each = 'tea': write a list of themes"),
    case("each of no theme", {"each": ["moon"]}),
    case("each of nothing", {"each": []}, said="bills.each = []: write a list of themes, or interests"),
    case("each interest where there is none", {"each": "interests"}),
]
REST = [
    case("an unknown block of questions", {"question": []}),
    case(
        "themes that are a list",
        {"themes": [THEME]},
        said="themes: write a name for each, with its words and its where",
    ),
    case("a theme without words", {"themes": {"tea": {"where": "true"}}}, said="themes.tea.words: add this key"),
    case(
        "interests that are a list",
        {"interests": ["tea"]},
        said="interests: write a name and a pattern for each, such as `games: gems|skin`",
    ),
    case(
        "an interest without a pattern",
        {"interests": {"tea": " "}},
        said="interests.tea.pattern: is blank; write a pattern, such as gems|skin",
    ),
    case(
        "an interest that is a list",
        {"interests": {"tea": ["tea"]}},
        said="interests.tea: write a pattern, such as gems|skin, or a mapping of pattern and words",
    ),
    case(
        "an interest with a key of themes",
        {"interests": {"tea": {"pattern": "tea", "where": "true"}}},
        said="interests.tea.where: unknown key; remove it",
    ),
    case(
        "a general that is no list of lists",
        {"general": ["bills"]},
        said="general: write a list of lists of question names",
    ),
    case("a description of no question", {"general": [["nobody"]]}),
]
FILES = [
    case("a questions file that is empty", b""),
    case("a questions file without questions", b"general: []\n", said="must hold a list `questions`"),
    case("a questions file that is not YAML", b"questions: {\n", said="is not YAML: while parsing a flow node"),
    case(
        "a questions file that is not UTF-8",
        b"questions: []\ngeneral: \xff\n",
        said="is not UTF-8: line 2 has the byte 0xff; save it as UTF-8",
    ),
    case(
        "a question's key that is written twice",
        b"questions:\n  - {name: a, days: 1, days: 2}\n",
        said="the key 'days' is written twice; remove one",
    ),
]
UNFIT = [
    case("a where of no column", {"where": "colour = 'red'"}),
    case("a where that is no condition", {"where": "amount + 1"}),
    case(
        "a where that does not parse",
        {"where": "merchant = 'tea"},
        said="bills.where = merchant = 'tea: ... columns are user_id",
    ),
    case("a where that counts", {"where": "count(*) > 1"}, said="bills.where = count(*) > 1: ... columns are user_id"),
    case("a where by chance", {"where": "rand() < 0.5"}),
    case(
        "a where that calls Java",
        {"where": "java_method('java.lang.System', 'lineSeparator') = 'x'"},
        said="calls what may answer otherwise the next time (rand, uuid, current_date, java_method, ...)",
    ),
    case(
        "a where of today",
        {"where": "paid_at > current_date() - INTERVAL 7 DAYS"},
        said="bills.where = paid_at > current_date() - INTERVAL 7 DAYS: calls what may answer otherwise the next time",
    ),
    case(
        "a where that reads a table",
        {"where": "amount > (SELECT avg(id) FROM range(3))"},
        said="reads a table of its own (a subquery); write it with the columns of the event alone",
    ),
    case(
        "commonest lists",
        {"measure": "top", "value": "array(merchant)", "answer": {"text": "{top}"}},
        said="bills.value = array(merchant): is array<string>; write a single value",
    ),
    case("a sum of texts", {"measure": "sum", "value": "merchant"}),
    case("a question about no source", {"source": "shop"}),
    case(
        "a question about the attributes as events",
        {"source": "attributes"},
        said="bills.source = attributes: no source; use one of bill, search, any, tabular",
    ),
    case(
        "a question about no tabular column",
        {"source": "tabular", "measure": "value", "value": "income", "days": GONE},
        said="bills.value = income: no tabular column; use one of age, city",
    ),
    case(
        "a tabular number without bands",
        {"source": "tabular", "measure": "value", "value": "age", "days": GONE, "answer": {"text": "Is {top}."}},
        said="bills.answer: age is a number; add one of bands, levels, yes_from, yes_share",
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
    ("wrong", "questions"),
    [
        case("two questions of one name", [GOOD, GOOD]),
        case("a question that is a text", ["bills"], said="'bills': Input should be a valid dictionary"),
    ],
)
def test_a_wrong_list_of_questions_is_refused(wrong: str, questions: list[Any], tmp_path: Path) -> None:
    with refused(wrong) as caught:
        read({"questions": questions}, tmp_path)
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
    errors = question_errors(spark, shop, read({"questions": [question(changes)]}, tmp_path), opened)
    assert len(errors) == 1
    says(wrong, "refused", errors[0])


@row("an interest that is no pattern", said="interests.tea = hot (tea: no regular expression (Unclosed group")
def test_an_interest_that_is_no_pattern_is_refused(
    wrong: str, spark: Any, shop: Any, opened: dict[str, Any], tmp_path: Path
) -> None:
    questions = read({"questions": [GOOD], "interests": {"tea": "hot (tea", "han": r"\p{IsHan}"}}, tmp_path)
    errors = question_errors(spark, shop, questions, opened)
    assert len(errors) == 1
    says(wrong, "refused", errors[0])
