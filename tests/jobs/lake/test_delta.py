"""Tables as Arrow: tables of bug reports, and the latest row of each key against a literal computation."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import deltalake
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from jobs.lake import catalog, delta
from jobs.lake.delta import latest_per_key, open_path, read_rows

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


USERS = ["A/A", "B B", "R&D", "x:y", "2023-11-05 00:00:00", "(beta)", "50%", "a%2Fb", "é", "a=b", "'q\"", "{}|<>~"]
DAYS = [date(2025, 1, 1), None]


def partitioned_by(**columns: list[Any]) -> Callable[[Path], None]:
    """Return a function that writes a table with a partition for each value of the first column."""

    def write(path: Path) -> None:
        rows = {name: [*values] for name, values in columns.items()}
        [key, *_] = rows
        deltalake.write_deltalake(str(path), pa.table(rows | {"label": [*range(len(rows[key]))]}), partition_by=[key])

    return write


def with_statistics(statistics: dict[str, Any]) -> Callable[[Path], None]:
    """Return a function that writes a row whose file has these least and greatest values in the log."""

    def write(path: Path) -> None:
        rows = {"user_id": ["u1"], "amount": [1.5], "at": [datetime(202, 10, 21, tzinfo=UTC)]}
        deltalake.write_deltalake(str(path), pa.table(rows))
        commit = path / "_delta_log" / f"{0:020}.json"
        actions = [json.loads(line) for line in commit.read_text().splitlines()]
        [add] = [action["add"] for action in actions if "add" in action]
        stored = json.loads(add["stats"])
        add["stats"] = json.dumps(stored | {key: stored[key] | statistics for key in ("minValues", "maxValues")})
        commit.write_text("".join(f"{json.dumps(action)}\n" for action in actions))

    return write


def statistics_of_days_alone(path: Path) -> None:
    for day in range(1, 3):
        rows = pa.table({"user_id": ["u1", "u2"], "day": [date(2025, 1, day)] * 2})
        settings = {"delta.dataSkippingStatsColumns": "day"}
        deltalake.write_deltalake(str(path), rows, mode="append", configuration=settings if day == 1 else None)
        deltalake.DeltaTable(str(path)).create_checkpoint()


def statistics_before_a_struct_alone(path: Path) -> None:
    rows = pa.table({"place": [{"x": 1}, {"x": 2}], "user_id": ["u1", "u2"]})
    deltalake.write_deltalake(str(path), rows, configuration={"delta.dataSkippingNumIndexedCols": "1"})


REPORTED: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "delta-rs #3201": (statistics_of_days_alone, ["u1", "u1", "u2", "u2"]),
    "delta-rs #3173": (statistics_before_a_struct_alone, ["u1", "u2"]),
    "delta-rs #1411": (with_statistics({"amount": float("inf")}), ["u1"]),
    "delta-rs #3782": (with_statistics({"at": "0202-10-21T00:00:00.000+00:53:28"}), ["u1"]),
    "delta-rs #433, #1228, #1299, #1896, #3577": (partitioned_by(user_id=USERS), USERS),
    "delta-rs #563": (partitioned_by(day=DAYS, user_id=["u1", "u2"]), ["u1", "u2"]),
    "delta-rs #4503": (partitioned_by(at=[datetime(1960, 1, 1), None], user_id=["u1", "u2"]), ["u1", "u2"]),
}
"""By report of lost rows or of tables that do not open: such a table, and the users of its rows."""


@pytest.mark.parametrize("report", REPORTED)
def test_a_table_of_a_bug_report_is_read_whole(report: str, tmp_path: Path) -> None:
    write, users = REPORTED[report]
    write(tmp_path / "t")
    opened = open_path(str(tmp_path / "t"))
    assert sorted(read_rows(opened)["user_id"].to_pylist()) == sorted(users)
    for user in users:
        rows = read_rows(opened, filters=pc.field("user_id") == user, columns=["user_id"])
        assert rows["user_id"].to_pylist() == [user] * users.count(user)


def test_a_table_whose_columns_the_deployment_names_has_no_fixed_schema():
    with pytest.raises(TypeError, match="user_profiles depend on the deployment"):
        delta.arrow_schema(catalog.TABLES["user_profiles"])
    assert delta.arrow_schema(catalog.ANSWERS).field("embedding").type == pa.list_(pa.float32())
