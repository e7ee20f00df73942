"""Questions that Spark accepts and that fail when they read a row, and the answers of a sample of the users."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from jobs.userqa.question_errors import question_errors
from jobs.userqa.question_sample import sample_questions
from jobs.userqa.question_values import Span
from jobs.userqa.questions import QuestionError, Questions
from tests.support.deployment import DEPLOYMENT, deploy
from tests.support.error_page import EXPECTED, case

CUT_OFF = date(2025, 1, 1)
SPAN = Span(cut_offs=[CUT_OFF], end=CUT_OFF)
ROWS = [
    (
        f"u{n:02}",
        datetime(2024, 12, 31, 12, tzinfo=UTC) - timedelta(days=n % 5),
        merchant,
        float(n % 4),
        n % 3,
        '{"city": "Oslo"',
    )
    for n in range(40)
    for merchant in ("tea house", "metro")
]
SCHEMA = "user_id string, paid_at timestamp, merchant string, amount double, pieces int, payload string"
FAILING: dict[str, tuple[str, str, str]] = {
    "a condition that casts a word": ("where", "cast(merchant AS INT) > 3", "[CAST_INVALID_INPUT]"),
    "a condition that casts a word to a boolean": ("where", "boolean(merchant)", "[CAST_INVALID_INPUT]"),
    "a number that is divided by zero": ("sum", "amount / pieces", "[DIVIDE_BY_ZERO]"),
    "a number that overflows": ("sum", "(pieces + 2) * 2000000000", "[ARITHMETIC_OVERFLOW]"),
    "a number that is cast beyond its type": ("sum", "cast((amount + 3) * 1e9 AS INT)", "[CAST_OVERFLOW]"),
    "a number in another format": ("sum", "to_number(merchant, '999')", "[INVALID_FORMAT.MISMATCH_INPUT]"),
    "a regular expression that does not close": ("where", "merchant rlike '(tea'", "[INVALID_PARAMETER_VALUE.PATTERN]"),
    "a group that a regular expression lacks": (
        "top",
        "regexp_extract(merchant, '(t)', 2)",
        "[INVALID_PARAMETER_VALUE.REGEX_GROUP_INDEX]",
    ),
    "a part that a text lacks": ("top", "split(merchant, ' ')[1]", "[INVALID_ARRAY_INDEX]"),
    "an element that a text lacks": (
        "top",
        "element_at(split(merchant, ' '), 2)",
        "[INVALID_ARRAY_INDEX_IN_ELEMENT_AT]",
    ),
    "a date in another format": ("top", "to_date(merchant, 'yyyy-MM-dd')", "[CANNOT_PARSE_TIMESTAMP]"),
    "a month that no year has": ("top", "make_date(2025, 13, pieces + 1)", "[DATETIME_FIELD_OUT_OF_BOUNDS"),
    "a pattern of a date that no one reads": ("top", "date_format(paid_at, 'YYYY')", "[INCONSISTENT_BEHAVIOR"),
    "a document that is not JSON": ("top", "parse_json(payload):city::string", "[MALFORMED_RECORD_IN_PARSING"),
    "a path that JSON does not have": (
        "top",
        "variant_get(parse_json('{}'), concat('$.', merchant, '['), 'string')",
        "[INVALID_VARIANT_GET_PATH]",
    ),
    "an address that is none": ("top", "parse_url(concat('http:// ', merchant), 'HOST')", "[INVALID_URL]"),
    "a time zone that is none": ("top", "from_utc_timestamp(paid_at, merchant)", "tea house"),
    "a row that is asserted": ("where", "assert_true(amount > 1) IS NULL", "[USER_RAISED_EXCEPTION]"),
}
ANSWERS = {
    "where": {"measure": "count", "answer": {"bands": [2], "text": "{times}", "none": "Never."}},
    "sum": {"measure": "sum", "answer": {"bands": [2], "text": "{band}"}},
    "top": {"measure": "top", "answer": {"text": "{top}"}},
}


def question(name: str, kind: str, expression: str | None, **more: Any) -> dict[str, Any]:
    key = {} if expression is None else {"where" if kind == "where" else "value": expression}
    common = {"name": name, "axis": "attribute", "instruction": "What?", "source": "bill", "days": 30}
    return common | ANSWERS[kind] | key | more


def read(*questions: dict[str, Any]) -> Questions:
    return Questions.model_validate({"questions": questions})


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Any:
    sources = [{key: value for key, value in DEPLOYMENT["sources"][0].items() if key != "id"}]
    return deploy(tmp_path_factory.mktemp("sample"), sources=sources)


@pytest.fixture(scope="module")
def opened(spark: Any) -> Any:
    bills = spark.createDataFrame(ROWS, SCHEMA).cache()
    yield {"bill": bills}
    bills.unpersist()


@pytest.fixture(scope="module")
def message(spark: Any, shop: Any, opened: Any) -> str:
    failing = [question(f"q{number}", *rest[:2]) for number, rest in enumerate(FAILING.values())]
    questions = read(*failing, question("sound", "where", "amount > 1"))
    # Every one of them fits the tables, as far as Spark says without a row.
    assert question_errors(spark, shop, questions, opened) == []
    with pytest.raises(QuestionError) as refused:
        sample_questions(shop, questions, opened, SPAN, users=40)
    return str(refused.value)


@pytest.mark.parametrize("wrong", FAILING)
def test_a_query_that_fails_on_a_row_is_refused_with_the_others(wrong: str, message: str) -> None:
    number = [*FAILING].index(wrong)
    kind, expression, said = FAILING[wrong]
    [line] = [line for line in message.splitlines() if line.startswith(f"  q{number}.")]
    assert line.startswith(f"  q{number}.{'where' if kind == 'where' else 'value'} = {expression}: fails on a row: ")
    assert said in line


@pytest.mark.parametrize("wrong", [case("a question's query that fails on a row")])
def test_the_message_names_the_question_and_the_cause(wrong: str, message: str) -> None:
    assert EXPECTED[wrong].says(message)
    assert f"{len(FAILING)} errors" in message
    assert "sound" not in message


def test_the_answers_of_the_sample_are_those_of_its_users(shop: Any, opened: Any) -> None:
    questions = read(
        question("often", "where", "merchant = 'metro' AND amount > 1"),
        question("alike", "where", "amount >= 0"),
        question("silent", "top", "get_json_object(payload, '$.nowhere')"),
    )
    everybody = sample_questions(shop, questions, opened, SPAN, users=40)
    assert (everybody.profiles, everybody.part) == (40, 1)
    answers = Counter("1" if amount > 1 else "Never." for _, _, merchant, amount, *_ in ROWS if merchant == "metro")
    often = everybody.questions["often"]
    assert (often.rows, often.answers, often.commonest) == (40, 2, max(answers.values()) / 40)
    assert (everybody.questions["alike"].answers, everybody.questions["silent"].rows) == (1, 0)


def test_of_a_large_company_some_users_are_asked_about_all_their_events(shop: Any, opened: Any) -> None:
    questions = read(question("all", "where", "amount >= 0", answer={"bands": [2, 3], "text": "{band}"}))
    sample = sample_questions(shop, questions, opened, SPAN, users=2000)
    assert sample.part == 4
    assert 3 <= sample.profiles <= 20
    # Each of the users has two events, and both are counted.
    assert (sample.questions["all"].rows, sample.questions["all"].answers) == (sample.profiles, 1)
