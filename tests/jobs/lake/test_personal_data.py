"""The tables with personal data: each statement removes one user's rows, and no table of the lake is missed."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import deltalake
import pyarrow as pa
import pytest

from jobs.lake.handoff import AskHandoff
from jobs.lake.personal_data import main, personal_tables
from jobs.lake.run_log import RunRecord

DAY = date(2025, 3, 1)
CHANGES = {
    "sources": [
        {"name": "bill", "table": "bills", "user": "client", "time": "paid_at", "template": "{merchant}"},
        {"name": "search", "table": "searches", "time": "searched_at", "template": "{query}"},
        {"name": "click", "table": "clicks", "user": "payload.id", "time": "at", "template": "{page}"},
        {"name": "visit", "table": "visits", "user": "who.id", "time": "at", "template": "{page}"},
    ],
    "scenarios": [{"name": "food", "instruction": "Food?", "labels": "food_labels"}],
}
USERS = ["u1", "u2", "it's"]
OWN = ["user_profiles", "training_profiles", "userqa", "user_embeddings", "user_vectors", "online_users"]
ANSWERS = ["first_answers", "./elsewhere"]


@pytest.fixture
def lake(deployment):
    """A lake of which every table has a row of each user."""
    shop = deployment(**CHANGES)
    for table in [*OWN, *ANSWERS, "searches", "food_labels"]:
        write(shop, table, {"user_id": USERS, "day": [DAY] * 3})
    write(shop, "clicks", {"payload": [{"id": user} for user in USERS], "id": USERS[::-1]})
    write(shop, "visits", {"who.id": USERS, "who": [{"id": user} for user in USERS[::-1]]})
    write(shop, "bills", {"client": ["u1   ", "u2", "it's"]})  # as a CHAR is padded
    write(
        shop,
        "rejected_rows",
        {
            "source": ["bill", "search", "search", "click"],
            "row": ['{"client":"u1 ","user_id":"u2"}', '{"user_id":"u1"}', '{"user_id":"u2"}', '{"payload.id":"u1"}'],
        },
    )
    for table in ANSWERS:
        with RunRecord.kept(shop, "ask", DAY) as run:
            former = run.former.handoff(AskHandoff).tables if run.former else ()
            run.handoff = AskHandoff(tables=(*former, table, "never_written"))
    return shop


def write(deployment, table, columns):
    deltalake.write_deltalake(deployment.table(table), pa.table(columns))


def rows(deployment, table):
    return deltalake.DeltaTable(deployment.table(table)).to_pyarrow_table().to_pylist()


def test_the_statements_remove_the_user_and_nobody_else(lake, spark):
    tables = personal_tables(lake)
    company, own = ["bills", "clicks", "visits", "searches", "food_labels"], [*OWN, "rejected_rows", *ANSWERS]
    assert sorted(table.name for table in tables if table.company) == sorted(company)
    assert sorted(table.name for table in tables if not table.company) == sorted(own)
    for table in tables:
        spark.sql(table.delete_statement("u1"))
    assert [row["row"] for row in rows(lake, "rejected_rows")] == ['{"user_id":"u2"}']
    for name in [*OWN, *ANSWERS, "searches", "food_labels"]:
        assert {row["user_id"] for row in rows(lake, name)} == {"u2", "it's"}, name
    assert {row["client"] for row in rows(lake, "bills")} == {"u2", "it's"}
    assert {row["payload"]["id"] for row in rows(lake, "clicks")} == {"u2", "it's"}
    assert {row["who.id"] for row in rows(lake, "visits")} == {"u2", "it's"}
    spark.sql(next(table for table in tables if table.name == "userqa").delete_statement("it's"))
    assert [row["user_id"] for row in rows(lake, "userqa")] == ["u2"]


def test_the_command_prints_a_statement_for_each_table(lake, capsys):
    main(str(lake.path), "u1")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(personal_tables(lake))
    assert sum(line.startswith("-- the company: DELETE FROM") for line in lines) == 5
    assert f"DELETE FROM delta.`{lake.table('./elsewhere')}` WHERE user_id = 'u1'" in lines


def test_no_table_with_a_user_id_is_missed(lake):
    """Read off the disk: each Delta table of the lake that has a column user_id or a row as JSON."""
    columns = {"user_id", "client", "payload", "who", "row"}
    result = {
        log.parent.name
        for log in Path(lake.resolve(lake.lake)).rglob("_delta_log")
        if columns & {field.name for field in deltalake.DeltaTable(log.parent).schema().fields}
    }
    assert result == {Path(table.path).name for table in personal_tables(lake)} - {"elsewhere"}
