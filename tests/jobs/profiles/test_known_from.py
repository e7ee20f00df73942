"""Static attributes: used at every cut-off, or from the day on which they became known."""

from __future__ import annotations

from datetime import UTC, date, datetime
from functools import partial
from typing import Any

import deltalake
import pyarrow as pa
import pytest

from jobs.lake.spark_tables import read_table
from jobs.profiles.build import build_profiles
from jobs.profiles.source_tables import open_sources
from tests.support.changed_deployment import changed, read
from tests.support.error_page import case, refused

DAYS = [date(2025, 5, 31), date(2025, 6, 1), date(2025, 6, 2)]
TABLE = pa.table({"user_id": ["u"], "age": [30], "income": [5.5], "risk": ["high"], "city": ["Ulm"]})
CHANGES: dict[str, Any] = {
    "attributes": {
        "table": "attributes",
        "static": True,
        "numbers": ["age", {"name": "income", "column": "income", "known_from": "2025-05-31"}],
        "categories": [{"name": "risk", "column": "risk", "known_from": "2025-06-01"}, "city"],
    },
    "aggregates": [{"name": "bills_in_class", "source": "bill", "function": "count", "per": "risk"}],
    "eligible": {"min_events": 0},
}


def test_a_column_is_null_as_of_the_day_on_which_it_became_known_and_before(spark: Any, deployment: Any) -> None:
    d = deployment(**CHANGES)
    bill = {
        "bill_id": "1",
        "user_id": "u",
        "paid_at": datetime(2025, 5, 30, tzinfo=UTC),
        "merchant": "m",
        "amount": 1.0,
    }
    search = {"user_id": "u", "searched_at": datetime(2020, 1, 1, tzinfo=UTC), "query": "q"}
    for name, rows in (
        ("bills", pa.Table.from_pylist([bill])),
        ("searches", pa.Table.from_pylist([search])),
        ("attributes", TABLE),
    ):
        deltalake.write_deltalake(d.table(name), rows)
    profiles = build_profiles(d, open_sources(d, partial(read_table, spark, d)), DAYS)
    rows = {row.as_of.date(): row for row in profiles.rows.collect()}
    profiles.release()
    assert [tuple(rows[day].tabular) for day in DAYS] == [
        (30.0, None, None, None, "Ulm"),
        (30.0, 5.5, None, None, "Ulm"),
        (30.0, 5.5, 1.0, "high", "Ulm"),
    ]
    assert len({row.profile_hash for row in rows.values()}) == 3


def test_known_from_stays_out_of_the_vector_spec(deployment: Any) -> None:
    """It says when a value became known, as `valid_from` does, and changes no vector of a given profile."""
    spec = deployment(**CHANGES).vector_spec()
    attributes = {**CHANGES["attributes"], "numbers": ["age", "income"], "categories": ["risk", "city"]}
    assert deployment(**CHANGES | {"attributes": attributes}).vector_spec() == spec


@pytest.mark.parametrize(
    ("wrong", "value"),
    [
        case("a column known from no day", "soon", said="attributes.numbers[0].known_from = 'soon': Input should be"),
        case(
            "a column known from a number",
            20250601,
            said="attributes.numbers[0].known_from = 20250601: write a day as 2025-01-31",
        ),
        case("a column known before 1970", "1969-01-01", said="name a day from 1970-01-01 to 2099-12-31"),
    ],
)
def test_a_wrong_day_is_refused(wrong: str, value: Any, tmp_path: Any) -> None:
    column = {"name": "age", "column": "age", "known_from": value}
    with refused(wrong) as caught:
        read(changed("attributes.numbers", [column]), tmp_path)
    assert ": 1 error\n" in str(caught.value)
