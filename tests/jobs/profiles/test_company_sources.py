"""Profiles of sources that are no plain Delta tables: files, nested and oddly named columns, declared time zones."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import deltalake
import pyarrow as pa
import pytest
from pyspark.sql import functions as F

from jobs.lake import run_log
from jobs.lake.errors import TableError
from jobs.lake.spark_tables import SourceError
from jobs.lake.sql.query import run_sql
from jobs.profiles.assemble import assemble
from jobs.profiles.source_tables import open_sources
from tests.support.company_files import write_parquet, write_text
from tests.support.deployment import deploy
from tests.support.error_page import case, says

DAY = date(2025, 2, 1)
SHANGHAI, NEW_YORK = "Asia/Shanghai", "America/New_York"
BILLS = """user_id,paid_at,merchant,amount
007,2025-01-10 08:30:00,tea,9.5
7,2025-01-10 23:30:00,bus,2
7,2025-01-10T23:30:00Z,night bus,3
7,2025-01-11 07:00:00 CST,train,30
7,2025-01-12 07:00:00 PST,ferry,40
8,2025-01-12,all day,50
8,2025-01-12 10:00:00,tea,fifty
8,2025-01-12 10:00:00
9,2025-02-01 07:59:59,before midnight UTC,1
9,2025-02-01 08:00:00,at midnight UTC,1
"""
PAYMENT = pa.struct({"unit price": pa.float64(), "net": pa.struct({"a.b": pa.int64()})})
VISITS = [
    # Clocks in New York were put back on 2024-11-03: 01:30 occurred twice, and the first one counts.
    ("007", datetime(2024, 11, 3, 1, 30), {"unit price": 5.0, "net": {"a.b": 1}}, "Ä"),
    ("7", datetime(2025, 1, 5, 18, 0), {"unit price": None, "net": None}, None),
    ("8", datetime(2025, 1, 6, 6, 0), None, "Ö"),
]
SOURCES = [
    {
        "name": "bill",
        "table": "./in/bills",
        "format": "csv",
        "schema": "user_id STRING, paid_at STRING, merchant STRING, amount DOUBLE",
        "time": "paid_at",
        "timezone": SHANGHAI,
        "template": "{merchant} at {paid_at:hour} on {paid_at:weekday}",
        "window_days": 365,
    },
    {
        "name": "visit",
        "table": "./in/visits",
        "format": "parquet",
        "user": "who.id",
        "time": "besucht am",
        "timezone": NEW_YORK,
        "template": "{straße} {payment.unit price:number} {payment.net.`a.b`} {`besucht am`:hour} {dt}",
        "window_days": 365,
    },
]
ATTRIBUTES = {
    "table": "./in/people",
    "format": "parquet",
    "user": "id",
    "valid_from": "seit",
    "timezone": SHANGHAI,
    "numbers": [{"name": "age", "column": "person.age"}],
    "categories": [{"name": "city", "column": "person.städte name"}],
}


@pytest.fixture(scope="module")
def assembled(spark, tmp_path_factory):
    """The deployment, and what assembling its day said."""
    folder = tmp_path_factory.mktemp("company")
    write_text(folder / "in" / "bills" / "a.csv", BILLS)
    for user, at, payment, street in VISITS:
        write_parquet(
            folder / "in" / "visits" / f"dt=00{user}" / f"{user}.parquet",
            **{
                "who": [{"id": user}],
                "besucht am": pa.array([at], pa.timestamp("us")),
                "payment": pa.array([payment], PAYMENT),
                "straße": pa.array([street], pa.string()),
            },
        )
    write_parquet(
        folder / "in" / "people" / "a.parquet",
        id=["007", "7", "7"],
        seit=pa.array([date(2025, 1, 1), date(2025, 1, 1), date(2025, 2, 2)], pa.date32()),
        person=[
            {"age": 30, "städte name": "東京"},
            {"age": 40, "städte name": "Köln"},
            {"age": 99, "städte name": "later"},
        ],
    )
    aggregates = [
        {"name": "spent", "source": "bill", "function": "sum", "column": "amount", "window_days": 365},
        {"name": "net", "source": "visit", "function": "sum", "column": "payment.net.`a.b`", "window_days": 365},
        {"name": "evening", "source": "visit", "function": "count", "where": "hour >= '18:00'", "window_days": 365},
    ]
    deployment = deploy(folder, sources=SOURCES, attributes=ATTRIBUTES, aggregates=aggregates, max_reject_share=1)
    return deployment, assemble(spark, deployment, DAY)


def profiles(deployment):
    rows = deltalake.DeltaTable(deployment.table("user_profiles")).to_pyarrow_table().to_pylist()
    return {row["user_id"]: row for row in rows}


def test_texts_and_times_are_those_of_another_reader(assembled):
    deployment, _ = assembled
    expected = defaultdict(list)
    for row in csv.DictReader(io.StringIO(BILLS)):
        text, amount = row["paid_at"], row["amount"]
        if text.endswith("PST") or amount in (None, "fifty"):
            continue
        local = datetime.fromisoformat(text.removesuffix(" CST"))
        at = local if local.tzinfo else local.replace(tzinfo=ZoneInfo(SHANGHAI))
        if at < datetime(2025, 2, 1, tzinfo=UTC):
            shown = at.astimezone(ZoneInfo(SHANGHAI))
            expected[row["user_id"]].append((at, f"{row['merchant']} at {shown:%H}:00 on {shown:%A}"))
    rows = profiles(deployment)
    got = {user: [(event["event_time"], event["text"]) for event in row["bill"]] for user, row in rows.items()}
    assert got == {user: sorted(expected[user]) for user in rows}
    assert set(rows) == {"007", "7", "8", "9"}


def test_nested_and_oddly_named_columns_are_read(assembled):
    rows = profiles(assembled[0])
    texts = {user: [event["text"] for event in row["visit"]] for user, row in rows.items()}
    assert texts == {
        "007": ["Ä 5 1 01:00 00007"],
        "7": ["unknown unknown unknown 18:00 007"],
        "8": ["Ö unknown unknown 06:00 008"],
        "9": [],
    }
    for user, at, _, _ in VISITS:
        [event] = rows[user]["visit"]
        assert event["event_time"] == at.replace(tzinfo=ZoneInfo(NEW_YORK)).astimezone(UTC)
    tabular = {user: tuple(row["tabular"].values()) for user, row in rows.items()}
    assert tabular == {
        "007": (30, 9.5, 1, 0, "東京"),
        "7": (40, 35, None, 1, "Köln"),
        "8": (None, 50, None, 0, None),
        "9": (None, 1, 0, 0, None),
    }


def test_every_row_is_accounted_for(assembled):
    deployment, result = assembled
    account = result.accounts["bill"]
    assert (account.rows_in, account.used, account.rejected, account.after) == (10, 6, 3, 1)
    assert all(account.balanced for account in result.accounts.values())
    assert result.rejected["bill"] == {
        "time zone is an abbreviation": 1,
        "amount is not double": 1,
        "line does not have the fields of the schema": 1,
    }
    stored = deltalake.DeltaTable(deployment.table("rejected_rows")).to_pyarrow_table().to_pylist()
    assert any('"line":"8,2025-01-12 10:00:00"' in row["row"] for row in stored)


def test_tables_without_versions_have_none_in_job_runs(spark, assembled):
    deployment, _ = assembled
    [run] = run_log.read_runs(deployment, "assemble")
    assert not {"./in/bills", "./in/visits", "./in/people"} & {*run.versions}
    with pytest.raises(TableError, match=r"\./in/bills cannot be read at an earlier version: files of format csv"):
        assemble(spark, deployment, DAY, source_versions=True)


def test_sql_finds_the_files_by_the_names_of_their_sources(spark, assembled):
    query = "SELECT (SELECT count(*) FROM bill), (SELECT count(*) FROM visit), (SELECT max(seit) FROM attributes)"
    assert tuple(run_sql(spark, assembled[0], query).collect()[0]) == (10, 3, date(2025, 2, 2))


NAMED = (
    "items array<struct<price: double>>, more map<string, int>, "
    "pay struct<net: double, `Net`: double, gross: double>, at timestamp, user_id string"
)
COLUMNS = [
    case("a column within an array", "items.price"),
    case(
        "a column within a map",
        "more.key",
        said="more is a map, of which a row has several values; name a view that has one",
    ),
    case("a field that a struct lacks", "pay.tax"),
    case(
        "a field of a column that is no struct",
        "user_id.x",
        said="has no such column; use one of items, more, pay.net, pay.Net, pay.gross",
    ),
    case("a struct for a value", "pay", said="column of ./bills is struct<net:double,Net:double,gross:double>"),
    case(
        "two fields that differ in case",
        "pay.net",
        said="two fields are named net but for case; name a view that has one",
    ),
    case("a field in other case", "pay.Gross", said="has no such column; use one of"),
]


@pytest.mark.parametrize(("wrong", "column"), COLUMNS)
def test_a_column_that_leads_to_no_value_is_refused(spark, tmp_path, wrong, column):
    table = spark.createDataFrame([], NAMED)
    source = {"name": "bill", "table": "./bills", "time": "at", "template": "{" + column + "}"}
    with pytest.raises(SourceError) as caught:
        open_sources(deploy(tmp_path, sources=[source]), lambda _: table)
    says(wrong, "refused", caught.value)


def test_an_exact_name_comes_before_a_path(spark, tmp_path):
    table = spark.createDataFrame([("1", 1.0, (2.0,))], "user_id string, `pay.net` double, pay struct<net: double>")
    table = table.withColumn("at", F.current_timestamp())
    source = {"name": "bill", "table": "./bills", "time": "at", "template": "{pay.net:number} {pay.`net`:number}"}
    opened = open_sources(deploy(tmp_path, sources=[source]), lambda _: table)["bill"]
    row = opened.collect()[0]
    assert (row["pay.net"], row["pay.`net`"]) == (1.0, 2.0)
