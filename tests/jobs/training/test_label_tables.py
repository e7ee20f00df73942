"""Tables of labels as platforms write them: the reader gets the rows that plain PySpark gets."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import deltalake
import pyarrow as pa
import pytest
from pyspark.sql import Row

from jobs.config.deployment import Deployment
from jobs.lake.errors import ExpressionError
from jobs.training.label_tables import LabelError, read_label_table
from jobs.training.labels import first_as_of
from tests.support.company_files import write_text
from tests.support.deployment import deploy

COLUMNS = ["user_id", "as_of", "scenario", "label"]


def labelled(folder, table: str = "labels", **more: Any) -> Deployment:
    return deploy(folder, scenarios=[{"name": "food", "instruction": "Food?", "labels": {"table": table, **more}}])


def read(deployment: Deployment, spark=None) -> list[tuple]:
    table = read_label_table(deployment, deployment.scenarios[0].labels, spark)
    assert [why for name in table.why.column_names for why in table.why[name].drop_null().to_pylist()] == []
    return sorted(tuple(row.values()) for row in table.rows.to_pylist())


def literal(rows: list[Row]) -> list[tuple]:
    """Return rows of PySpark with the user id, the time and the label as a person reads them."""

    def time(value: Any) -> datetime:
        if isinstance(value, str):
            value = datetime.fromisoformat(value.strip())
        if not isinstance(value, datetime):
            value = datetime(value.year, value.month, value.day)
        return value.replace(tzinfo=value.tzinfo or UTC).astimezone(UTC)

    def user(value: Any) -> str:
        return value.rstrip(" ") if isinstance(value, str) else format(Decimal(value).normalize(), "f")

    return sorted((user(row[0]), time(row[1]), row[2].rstrip(" "), int(row[3])) for row in rows)


SETUPS: dict[str, list[str]] = {
    "column mapping, columns renamed and dropped": [
        "CREATE TABLE {t} (user_id CHAR(8), as_of TIMESTAMP, scenario CHAR(6), label INT, verified BOOLEAN, "
        "at_raw TIMESTAMP) USING delta TBLPROPERTIES ('delta.columnMapping.mode' = 'name')",
        "INSERT INTO {t} VALUES ('u1', TIMESTAMP'2025-03-03', 'food', 0, true, TIMESTAMP'2025-01-01'), "
        "('u2', TIMESTAMP'2025-03-04 12:30:00', 'food', 1, false, TIMESTAMP'2025-01-02')",
        "ALTER TABLE {t} RENAME COLUMN label TO label_raw",
        "ALTER TABLE {t} RENAME COLUMN verified TO label",
        "ALTER TABLE {t} RENAME COLUMN as_of TO as_of_raw",
        "ALTER TABLE {t} RENAME COLUMN at_raw TO as_of",
        "ALTER TABLE {t} DROP COLUMN scenario",
        "ALTER TABLE {t} ADD COLUMN scenario CHAR(6)",
        "UPDATE {t} SET scenario = 'food'",
        "INSERT INTO {t} (user_id, as_of, scenario, label) VALUES ('u3', TIMESTAMP'2025-01-03', 'film', true)",
    ],
    "deletion vectors and type widening": [
        "CREATE TABLE {t} (user_id INT, as_of DATE, scenario STRING, label BYTE) USING delta "
        "TBLPROPERTIES ('delta.enableDeletionVectors' = 'true', 'delta.enableTypeWidening' = 'true', "
        "'delta.feature.timestampNtz' = 'supported')",
        "INSERT INTO {t} SELECT /*+ COALESCE(1) */ id, DATE'2025-03-03', 'food', id % 2 FROM RANGE(6)",
        "DELETE FROM {t} WHERE user_id IN (1, 4)",
        "ALTER TABLE {t} ALTER COLUMN user_id TYPE BIGINT",
        "ALTER TABLE {t} ALTER COLUMN as_of TYPE TIMESTAMP_NTZ",
        "ALTER TABLE {t} ALTER COLUMN label TYPE INT",
        "INSERT INTO {t} VALUES (9007199254740993, TIMESTAMP_NTZ'2025-03-04 12:00:00', 'food', 1)",
    ],
    "v2 checkpoints, row tracking, partitions, decimals, ISO texts": [
        "CREATE TABLE {t} (user_id DECIMAL(38, 2), as_of STRING, scenario VARCHAR(8), label DECIMAL(3, 1)) USING delta "
        "PARTITIONED BY (scenario) TBLPROPERTIES ('delta.checkpointPolicy' = 'v2', 'delta.checkpointInterval' = '1', "
        "'delta.enableRowTracking' = 'true')",
        "INSERT INTO {t} VALUES (9007199254740993.00, '2025-03-03', 'food', 1.0)",
        "INSERT INTO {t} VALUES (12.00, '2025-03-04T08:00:00+08:00', 'food', 0.0), (7, ' 2025-03-04 ', 'f ilm', 0)",
    ],
}


@pytest.mark.parametrize("features", SETUPS)
def test_every_reader_sees_the_rows_of_spark(spark, tmp_path, features):
    deployment = labelled(tmp_path)
    path = deployment.table("labels")
    for statement in SETUPS[features]:
        spark.sql(statement.format(t=f"delta.`{path}`"))
    expected = literal(spark.read.format("delta").load(path).select(*COLUMNS).collect())
    assert read(deployment) == read(deployment, spark) == expected
    spark.conf.set("spark.sql.readSideCharPadding", "false")
    try:
        assert read(deployment, spark) == expected
    finally:
        spark.conf.unset("spark.sql.readSideCharPadding")
    first, version = first_as_of(deployment, deployment.scenarios[0].labels)
    assert first == min(as_of for _, as_of, _, _ in expected)
    assert version == newest_version(spark, path)


def write(deployment: Deployment, **columns: Any) -> None:
    """Write two plain rows with these columns changed."""
    plain = {"user_id": ["u1", "u2"], "as_of": ["2025-03-03"] * 2, "scenario": ["food"] * 2, "label": [0, 1]}
    deltalake.write_deltalake(deployment.table("labels"), pa.table(plain | columns))


EPOCH = datetime(1970, 1, 1)
NAIVE = datetime(2025, 3, 30, 2, 30)
"""In Berlin this time does not exist: clocks go from 2:00 to 3:00."""
TWICE = datetime(2025, 10, 26, 2, 30)
"""In Berlin this time exists twice."""


@pytest.mark.parametrize(
    "times",
    [
        pa.array([NAIVE, TWICE], pa.timestamp("us")),
        pa.array([date(2025, 3, 30), date(2025, 10, 27)]),
        ["2025-03-30 02:30:00", "2025-10-26T02:30:00"],
        ["2025-03-30T02:30:00Z", "2025-10-26 02:30:00+02:00"],
        pa.array([NAIVE.replace(tzinfo=UTC), TWICE.replace(tzinfo=UTC)], pa.timestamp("us", "UTC")),
    ],
    ids=["timestamp_ntz", "date", "text", "text with an offset", "timestamp"],
)
def test_a_time_without_an_offset_is_one_of_the_declared_zone(spark, tmp_path, times):
    deployment = labelled(tmp_path, timezone="Europe/Berlin")
    write(deployment, as_of=times)
    spark.conf.set("spark.sql.session.timeZone", "Europe/Berlin")
    try:
        rows = spark.read.format("delta").load(deployment.table("labels"))
        expected = rows.selectExpr("unix_micros(CAST(as_of AS TIMESTAMP)) AS at").collect()
    finally:
        spark.conf.set("spark.sql.session.timeZone", "UTC")
    at = [(as_of.replace(tzinfo=None) - EPOCH).total_seconds() * 1e6 for _, as_of, _, _ in read(deployment)]
    assert sorted(at) == sorted(row["at"] for row in expected)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"label": [0.5, 1.0]}, "1 row: label is no whole number of 64 bits, such as 0.5"),
        ({"label": [float("inf"), 1.0]}, "label is no whole number of 64 bits, such as inf"),
        ({"label": [float("nan"), 1.0]}, "1 row: no label; correct"),
        ({"label": ["0", "1"]}, "column label is string; write whole numbers, 0 and 1"),
        ({"label": [date(2025, 1, 1)] * 2}, "column label is date32"),
        ({"user_id": [1.5, 2.0]}, "1 row: user id is not a whole number, such as 1.5"),
        ({"user_id": [" ", "\u200b"]}, "2 rows: empty user id, such as ' '"),
        ({"user_id": [True, False]}, "column user_id is bool; write texts, whole numbers or decimals"),
        ({"as_of": ["yesterday", "2025-03-03"]}, "1 row: as_of is no ISO time, such as 'yesterday'"),
        ({"as_of": ["20250303", "2025-03-03"]}, "1 row: as_of is no ISO time, such as '20250303'"),
        (
            {"as_of": ["2025-03-03 00:00:00 CST", "2025-03-03"]},
            "as_of is no ISO time, such as '2025-03-03 00:00:00 CST'",
        ),
        ({"as_of": ["2025-02-30", "2025-03-03"]}, "1 row: as_of is no ISO time, such as '2025-02-30'"),
        ({"as_of": ["3025-03-03", "2025-03-03"]}, "1 row: as_of before 1970 or after 2099, such as '3025-03-03'"),
        (
            {"as_of": pa.array([2**60, 0], pa.timestamp("us"))},
            "1 row: as_of before 1970 or after 2099, such as '<value out of range",
        ),
        ({"as_of": [20250303, 20250304]}, "column as_of is int64; write timestamps, dates or ISO texts"),
        ({"as_of": pa.array(["2025-03-03", None])}, "1 row: no as_of; correct"),
        ({"scenario": [1, 2]}, "column scenario is int64; write texts"),
    ],
    ids=lambda value: value[:50] if isinstance(value, str) else ",".join(value),
)
def test_values_that_are_refused(tmp_path, columns, said):
    deployment = labelled(tmp_path)
    write(deployment, **columns)
    try:
        table = read_label_table(deployment, deployment.scenarios[0].labels)
    except LabelError as error:
        message = str(error)
    else:
        every = pa.chunked_array([pa.array([True] * 2)])
        message = "\n".join(table.problems(every, "", table.why.column_names))
    assert said in message


def test_missing_columns_are_all_named(tmp_path):
    deployment = labelled(tmp_path, latest_by="version")
    deltalake.write_deltalake(deployment.table("labels"), pa.table({"user_id": ["u1"], "Label": [1]}))
    with pytest.raises(LabelError) as caught:
        read_label_table(deployment, deployment.scenarios[0].labels)
    assert [line.split(";")[0] for line in str(caught.value).splitlines()] == [
        f"there is no column {name}" for name in ("as_of", "scenario", "label", "version")
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("u2,2025-03-03,food", "1 line cannot be read, such as 'u2,2025-03-03,food': line does not have the fields"),
        ("u2,2025-03-03,food,half", "such as 'u2,2025-03-03,food,half': label is not int; correct or remove them"),
        ("u2,soon,food,1\nu3,2025-02-30,food,1", "2 lines cannot be read, such as "),
    ],
    ids=["a field is missing", "a label in words", "days that do not exist"],
)
def test_a_line_of_a_csv_file_that_is_no_label_is_refused(spark, tmp_path, line, said):
    schema = "user_id STRING, as_of DATE, scenario STRING, label INT"
    deployment = labelled(tmp_path, "./labels.csv", format="csv", schema=schema)
    header, good = "user_id,as_of,scenario,label", "u1,2025-03-03,food,1"
    write_text(tmp_path / "labels.csv", f"{header}\n{good}\n")
    assert read(deployment) == [("u1", datetime(2025, 3, 3, tzinfo=UTC), "food", 1)]
    write_text(tmp_path / "labels.csv", f"{header}\n{good}\n{line}\n")
    with pytest.raises(LabelError) as caught:
        read(deployment)
    assert said in str(caught.value)


def test_a_view_that_cannot_be_computed_is_to_be_corrected(spark, tmp_path):
    """Labels have no `where`."""
    spark.sql(f"CREATE DATABASE raw LOCATION '{tmp_path}/raw'")
    try:
        spark.sql(
            "CREATE VIEW raw.labels AS SELECT 'u1' AS user_id, DATE'2025-03-03' AS as_of, 'food' AS scenario, "
            "CAST(concat('ye', scenario) AS INT) AS label FROM VALUES ('s') AS t(scenario)"
        )
        with pytest.raises(ExpressionError) as caught:
            read(labelled(tmp_path, "raw.labels"))
    finally:
        spark.sql("DROP DATABASE raw CASCADE")
    assert (
        "the SQL expression `CAST(concat('ye', scenario) AS INT)` of the view spark_catalog.raw.labels cannot be"
        in str(caught.value)
    )
    assert str(caught.value).endswith("or exclude the row in the view")


@pytest.mark.slow
def test_a_session_is_started_for_a_table_that_needs_it_and_ends(spark, tmp_path):
    """In a process without a session: a table with column mapping, then a plain one."""
    deployment = labelled(tmp_path)
    path = deployment.table("labels")
    for statement in SETUPS["column mapping, columns renamed and dropped"]:
        spark.sql(statement.format(t=f"delta.`{path}`"))
    program = f"""
from pyspark import SparkContext
from jobs.config.deployment import Deployment
from jobs.training.labels import read_labels

deployment = Deployment.read({str(deployment.path)!r})
labels = read_labels(deployment, deployment.scenarios)["food"]
print(labels.rows['user_id'].to_pylist(), labels.version, SparkContext._active_spark_context)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)
    version = newest_version(spark, path)
    assert ran.stdout.splitlines()[-1] == f"['u1', 'u2'] {version} None", ran.stderr


def newest_version(spark, path: str) -> int:
    return max(int(row["version"]) for row in spark.sql(f"DESCRIBE HISTORY delta.`{path}`").collect())
