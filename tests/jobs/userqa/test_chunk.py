"""Rows of whole users, however many come at a time."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
import pytest

from jobs.userqa.chunk import PROFILE, Chunk, whole_users
from jobs.userqa.question import Question
from jobs.userqa.questions import Questions

DAY = 86_400_000_000
CUT_OFF = 20_000 * DAY
COUNTS = {"a": 1, "b": 0, "c": 25, "d": 3, "e": 7}
ANSWER = {"bands": [2], "text": "{times}"}
COMMON = {"axis": "attribute", "instruction": "How often?", "measure": "count", "days": 30, "answer": ANSWER}
QUESTIONS = Questions(
    questions=(
        Question(name="bills", source="bill", **COMMON),
        Question(name="searches", source="search", where="query = 'tea'", **COMMON),
        Question(name="events", source="any", **COMMON),
    )
)

LISTS = {"tabular": pa.float64(), "conditions": pa.bool_(), "numbers": pa.decimal128(28, 8), "words": pa.string()}
SCHEMA = pa.schema(
    [("user_id", pa.string()), ("time", pa.int64()), ("source", pa.int8())]
    + [(name, pa.list_(dtype)) for name, dtype in LISTS.items()]
)


def batches(rows_per_batch, times=None):
    """Return a profile of each user and events at these times, in batches; None: so many as `COUNTS` says."""
    times = times or {user: [CUT_OFF - n * DAY for n in range(1, count + 1)] for user, count in COUNTS.items()}
    rows = [
        {"user_id": user, "time": time, "source": source, "conditions": []}
        for user, of_user in times.items()
        for time, source in [(CUT_OFF, PROFILE), *((time, 0) for time in of_user)]
    ]
    return pa.Table.from_pylist(rows, SCHEMA).to_batches(max_chunksize=rows_per_batch)


@pytest.mark.parametrize("rows_per_batch", [1, 2, 5, 100])
@pytest.mark.parametrize("rows_at_a_time", [1, 4, 10, 1_000])
def test_no_user_is_parted(rows_per_batch, rows_at_a_time):
    tables = [*whole_users(batches(rows_per_batch), rows_at_a_time)]
    users = [sorted(set(table["user_id"].to_pylist())) for table in tables]
    assert [user for of_table in users for user in of_table] == [*COUNTS]
    values = [row for table in tables for row in Chunk.of(table, QUESTIONS, ["bill", "search"]).values().to_pylist()]
    assert {row["user_id"]: row["numbers"] for row in values} == {user: [n, 0, n] for user, n in COUNTS.items()}
    if rows_at_a_time < 10 and rows_per_batch < 10:
        assert len(tables) > 1


def test_windows_have_their_first_and_last_microsecond():
    month = 30 * DAY
    windows = ((-month, 0), (0, month))
    around = [-month - 1, -month, -1, 0, month - 1, month]
    future = Question(name="next", source="bill", **COMMON | {"axis": "future"})
    questions = Questions(questions=(QUESTIONS.questions[0], future))
    [table] = whole_users(batches(100, {str(micros): [CUT_OFF + micros] for micros in around}))
    counts = {row["user_id"]: row["numbers"] for row in Chunk.of(table, questions, ["bill"]).values().to_pylist()}
    assert counts == {str(micros): [first <= micros < end for first, end in windows] for micros in around}


def test_a_question_reads_its_own_condition_number_and_text():
    measures = {
        "a": {"measure": "sum", "value": "amount", "where": "kind = 'tea'"},
        "b": {"measure": "sum", "value": "tip", "where": "kind = 'film'"},
        "c": {"measure": "distinct", "value": "merchant"},
        "d": {"measure": "distinct", "value": "kind"},
    }
    questions = Questions(
        questions=tuple(Question(name=name, source="bill", **COMMON | keys) for name, keys in measures.items())
    )
    event = {"user_id": "u", "time": CUT_OFF - 1, "source": 0}
    rows = [
        {"user_id": "u", "time": CUT_OFF, "source": PROFILE},
        event | {"conditions": [True, False], "numbers": [Decimal(1), Decimal(10)], "words": ["x", "tea"]},
        event | {"conditions": [False, True], "numbers": [Decimal(2), Decimal(20)], "words": ["y", "film"]},
        event | {"conditions": [False, True], "numbers": [Decimal(4), Decimal(40)], "words": ["z", "film"]},
    ]
    [values] = Chunk.of(pa.Table.from_pylist(rows, SCHEMA), questions, ["bill"]).values().to_pylist()
    assert values["numbers"] == [1, 60, 3, 2]


def test_no_rows_are_no_chunk():
    assert [*whole_users([])] == []
