"""Templates: every filter against a plain Python reading of the same cell."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pyspark.sql import functions as F

from jobs.config.functions import TEMPLATE_FILTERS, FilterCall
from jobs.config.sections import EventSource
from jobs.lake.times import parse_time
from jobs.profiles import templates
from tests.support import literal

AMOUNTS = [
    0.0,
    -0.0,
    0.99,
    1.0,
    1.999,
    2.0,
    9.99,
    10.0,
    19.999,
    20.0,
    999_999.99,
    1_000_000.0,
    3e12,
    -0.5,
    -10.0,
    None,
    float("nan"),
]


def source(template: str) -> EventSource:
    return EventSource(name="bill", table="bills", time="at", template=template)


def rendered(spark, template: str, rows: list[tuple], schema: str) -> list[str]:
    df = spark.createDataFrame([(n, *row) for n, row in enumerate(rows)], f"n int, {schema}").coalesce(1)
    time = parse_time(F.col("at"), df.schema["at"].dataType, None) if "at" in df.columns else F.lit(None)
    out = df.select("n", templates.text(source(template), df.schema, time).alias("text")).collect()
    return [row.text for row in sorted(out)]


def test_amount_bands(spark):
    texts = rendered(spark, "{amount:amount_band}", [(amount,) for amount in AMOUNTS], "amount double")
    assert texts == [literal.amount_band(amount) for amount in AMOUNTS]
    assert texts[:4] == ["under 1", "under 1", "under 1", "1 to 2"]
    assert texts[-4:] == ["refund under 1", "refund 10 to 20", "unknown amount", "unknown amount"]


SCORES = [*AMOUNTS, 49.999999999, 50.0, 100.0, -1e-9, -20.0, -19.9, -1e6, -1e7, float("inf"), -float("inf"), 0.1, 0.3]


@pytest.mark.parametrize(
    "filter_text",
    ["band", "band(0,50,60,70,80,90,100)", "band(-0.5, 0.10,0.3)", "band(0)", "band(-100,-50,-20)", "band(1000000.5)"],
)
def test_bands_with_a_sign_and_with_own_edges(spark, filter_text):
    call = FilterCall.parse(filter_text)
    texts = rendered(spark, f"{{score:{filter_text}}}", [(score,) for score in SCORES], "score double")
    assert texts == [literal.band_of(score, *call.edges) for score in SCORES]


def test_bands_say_where_a_number_is(spark):
    template, cells = "{score:band}|{score:band(0,50,60,100)}|{score:amount_band}", [-15, 0, 55, 250, None]
    assert rendered(spark, template, [(cell,) for cell in cells], "score int") == [
        "-20 to -10|under 0|refund 10 to 20",
        "0 to 1|0 to 50|under 1",
        "50 to 100|50 to 60|50 to 100",
        "200 to 500|100 or more|200 to 500",
        "unknown|unknown|unknown amount",
    ]
    assert rendered(spark, "{score:band(0,0.5)}", [("0.50",), ("-1",), ("many",)], "score string") == [
        "0.5 or more",
        "under 0",
        "unknown",
    ]


def test_amounts_that_are_texts(spark):
    cells = ["12.5", " 7 ", "1e3", "", None, "free", "Infinity"]
    assert rendered(spark, "{amount:amount_band}", [(cell,) for cell in cells], "amount string") == [
        "10 to 20",
        "5 to 10",
        "1000 to 2000",
        *["unknown amount"] * 4,
    ]


NUMBERS = [
    (0.0, "0"),
    (-0.0, "0"),
    (5.0, "5"),
    (5.25, "5.3"),
    (0.012345, "0.012"),
    (9.96, "10"),
    (-56.7, "-57"),
    (999.4, "1000"),
    (1234.5, "1200"),
    (10.0, "10"),
    (3e12, "3000000000000"),
    (1e-9, "0.000000001"),
    (None, "unknown"),
    (float("nan"), "unknown"),
]


def test_numbers_of_two_digits(spark):
    values, expected = zip(*NUMBERS, strict=True)
    texts = rendered(spark, "{amount:number}", [(value,) for value in values], "amount double")
    assert texts == [*expected] == [literal.two_digits(value) for value in values]
    cells = ["12.5", " 1999 ", "1.2e30", "", "free", None]
    texts = rendered(spark, "{amount:number}", [(cell,) for cell in cells], "amount string")
    assert texts == ["13", "2000", "1.2e+30", "unknown", "unknown", "unknown"]
    assert rendered(spark, "{amount:number}", [(1250,), (-7,)], "amount int") == ["1300", "-7"]


def test_every_declared_filter_has_a_spark_part():
    assert list(templates.FILTERS) == list(TEMPLATE_FILTERS)


def test_times_as_weekday_hour_daypart_and_month(spark):
    cells = [
        datetime(2025, 1, 5, 0, 0, tzinfo=UTC),
        datetime(2025, 2, 28, 5, 59, 59, tzinfo=UTC),
        datetime(2024, 12, 31, 12, 0, tzinfo=UTC),
        datetime(2025, 7, 4, 23, 59, tzinfo=UTC),
        None,
    ]
    texts = rendered(
        spark, "{at:weekday}|{at:hour}|{at:daypart}|{at:month}", [(cell,) for cell in cells], "at timestamp"
    )
    assert texts == [
        "Sunday|00:00|night|January",
        "Friday|05:00|night|February",
        "Tuesday|12:00|afternoon|December",
        "Friday|23:00|evening|July",
        "unknown|unknown|unknown|unknown",
    ]


@pytest.mark.parametrize(
    ("cell", "meaning"),
    [
        ("2025-03-01T10:00:00Z", "2025-03-01 10:00:00"),
        ("2025-03-01T10:00:00+08:00", "2025-03-01 02:00:00"),
        ("2025-03-01 10:00", "2025-03-01 10:00:00"),
        ("2025-03-01", "2025-03-01 00:00:00"),
        ("12:30", None),
        ("yesterday", None),
        ("", None),
        ("2025-02-30", None),
        ("31/12/2025", None),
        ("20250301", None),
    ],
)
def test_texts_as_times(cell, meaning, spark):
    df = spark.createDataFrame([(cell,)], "at string")
    [row] = df.select(parse_time(F.col("at"), df.schema["at"].dataType, None).cast("string").alias("t")).collect()
    assert row.t == meaning


def test_texts_are_cleaned_filled_and_cut(spark):
    rows = [
        ("  a \t b\n", 3, True),
        (None, None, None),
        ("   ", 0, False),
        ("面　馆\u00a0x\u0007y", 7, True),
        ("z" * 2000, 1, True),
        ("y" * 999 + " tail", 1, True),
    ]
    texts = rendered(spark, "{{{name}}} {count} {flag}", rows, "name string, count int, flag boolean")
    assert texts[:4] == ["{ a b } 3 true", "{unknown} unknown unknown", "{unknown} 0 false", "{面 馆 x y} 7 true"]
    assert texts[4] == "{" + "z" * 999
    assert texts[5] == "{" + "y" * 999


def test_a_column_named_with_an_odd_case_or_a_dot_free_name(spark):
    assert rendered(spark, "{Name}", [("x",)], "Name string") == ["x"]
