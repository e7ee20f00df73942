"""Tables as Arrow: the latest row of each key, against a literal computation."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from jobs.lake import catalog, delta
from jobs.lake.delta import latest_per_key

FIRST = datetime(2025, 1, 1, tzinfo=UTC)


def table(seed, keys):
    rng = random.Random(seed)
    rows = [
        {"user_id": f"u{user}", "scenario": scenario, "as_of": FIRST + timedelta(days=day)}
        for user in range(9)
        for scenario in (("food", "film") if "scenario" in keys else ("food",))
        for day in range(7)
        if rng.random() < 0.4
    ]
    rng.shuffle(rows)
    return pa.Table.from_pylist(rows).set_column(
        2, "as_of", pa.array([row["as_of"] for row in rows], pa.timestamp("us", "UTC"))
    )


@pytest.mark.parametrize("keys", [["user_id"], ["user_id", "scenario"]])
@pytest.mark.parametrize("day", [None, 0, 3, 6])
def test_the_latest_row_of_each_key(keys, day):
    rows, at = table(1, keys), None if day is None else FIRST + timedelta(days=day)
    latest: dict = {}
    for position, row in enumerate(rows.to_pylist()):
        key = tuple(row[name] for name in keys)
        if (at is None or row["as_of"] <= at) and (key not in latest or row["as_of"] > latest[key][0]):
            latest[key] = (row["as_of"], position)
    assert latest or day == 0
    assert sorted(latest_per_key(rows, keys, at)) == sorted(position for _, position in latest.values())


def test_no_rows_have_no_latest():
    rows = table(1, ["user_id"])
    assert latest_per_key(rows.slice(0, 0), ["user_id"]) == []
    assert latest_per_key(rows, ["user_id"], FIRST - timedelta(days=1)) == []


def test_a_table_whose_columns_the_deployment_names_has_no_fixed_schema():
    with pytest.raises(TypeError, match="user_profiles depend on the deployment"):
        delta.arrow_schema(catalog.TABLES["user_profiles"])
    assert delta.arrow_schema(catalog.ANSWERS).field("embedding").type == pa.list_(pa.float32())
