"""Every aggregate function, condition, expression, change and peer group against plain Python over shuffled rows.

A case is a user whose events hold one numerical or textual edge; most follow a public bug report of Spark or of another
engine. All users are in one lake, so every aggregate meets every edge.
"""

from __future__ import annotations

import math
import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import deltalake
import pyarrow as pa
import pytest

from jobs.config.deployment import Deployment
from jobs.lake.spark_tables import read_table
from jobs.profiles.build import build_profiles
from jobs.profiles.source_tables import open_sources
from tests.support import literal, literal_aggregates
from tests.support.deployment import DEPLOYMENT, deploy

DAY, BEFORE = date(2025, 3, 1), date(2025, 2, 1)
AS_OF = datetime(2025, 3, 1, tzinfo=UTC)
NAN, INF = float("nan"), float("inf")
BILLS = pa.schema(
    [
        ("bill_id", pa.string()),
        ("user_id", pa.string()),
        ("paid_at", pa.timestamp("us", tz="UTC")),
        ("merchant", pa.string()),
        ("amount", pa.float64()),
        ("price", pa.decimal128(38, 10)),
        ("quantity", pa.int32()),
        ("stock", pa.int32()),
    ]
)
ATTRIBUTES = pa.schema([("user_id", pa.string()), ("city", pa.string())])


def declare(name: str, function: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "source": "bill", "function": function, "window_days": 30, **more}


NUMERIC = ("sum", "mean", "min", "max", "std", "first", "last", "trend")
BIG, TEA = {"where": "amount > 10"}, {"where": "merchant = 'tea'"}
AGGREGATES = [
    declare("bills", "count"),
    *[declare(f"{function}_amount", function, column="amount") for function in NUMERIC],
    *[declare(f"{function}_big", function, column="amount", **BIG) for function in NUMERIC],
    *[declare(f"{function}_price", function, column="price") for function in NUMERIC],
    declare("amounts", "distinct", column="amount"),
    declare("merchants", "distinct", column="merchant"),
    declare("merchants_in_capitals", "distinct", value="upper(merchant)"),
    declare("count_big", "count", **BIG),
    declare("count_weekend", "count", where="weekday IN ('Saturday', 'Sunday')"),
    declare("share_big", "share", **BIG),
    declare("share_tea", "share", **TEA),
    declare("since_big", "days_since_last", **BIG),
    declare("each", "sum", value="try_divide(amount, quantity)"),
    declare("stocked", "sum", value="100 / stock"),
    declare("unit_price", "ratio", column="amount", divisor="quantity"),
    declare(
        "returned",
        "ratio",
        value="CASE WHEN amount < 0 THEN -amount END",
        divisor="CASE WHEN amount > 0 THEN amount END",
    ),
    *[
        declare(f"change_of_{function}", function, change=True, **({} if function == "count" else {"column": "amount"}))
        for function in ("count", *NUMERIC)
    ],
    declare("change_of_share", "share", change=True, **TEA),
    declare("change_of_merchants", "distinct", column="merchant", change=True),
    declare("favourite", "top", column="merchant"),
    declare("favourite_hour", "top", value="daypart"),
    declare("favourite_amount", "top", value="CAST(amount AS INT)", where="abs(amount) < 1000"),
    declare("sum_in_city", "sum", column="amount", per="city"),
    declare("count_in_city", "count", per="city"),
    declare("mean_at_favourite", "mean", column="amount", per="favourite"),
    declare("trend_in_city", "trend", column="amount", per="city"),
]
literal_aggregates.EXPRESSIONS |= {
    "amount > 10": lambda row: None if row["amount"] is None else math.isnan(row["amount"]) or row["amount"] > 10,
    "merchant = 'tea'": lambda row: None if row["merchant"] is None else row["merchant"] == "tea",
    "upper(merchant)": lambda row: row["merchant"] and row["merchant"].upper(),
    "weekday IN ('Saturday', 'Sunday')": lambda row: row["paid_at"].weekday() >= 5,
    "try_divide(amount, quantity)": lambda row: (
        row["amount"] / row["quantity"] if row["amount"] is not None and row["quantity"] else None
    ),
    "100 / stock": lambda row: 100 / row["stock"],
    "quantity": lambda row: row["quantity"],
    "CASE WHEN amount < 0 THEN -amount END": lambda row: -row["amount"] if (row["amount"] or 0) < 0 else None,
    "CASE WHEN amount > 0 THEN amount END": lambda row: (
        row["amount"] if row["amount"] is not None and (math.isnan(row["amount"]) or row["amount"] > 0) else None
    ),
    "daypart": lambda row: literal.daypart(row["paid_at"]),
    "CAST(amount AS INT)": lambda row: None if row["amount"] is None else int(row["amount"]),
    "abs(amount) < 1000": lambda row: None if row["amount"] is None else abs(row["amount"]) < 1000,
}
CHANGES: dict[str, Any] = {
    "sources": [{**DEPLOYMENT["sources"][0], "template": "{merchant}", "window_days": 365}],
    "attributes": {"table": "attributes", "static": True, "categories": ["city"]},
    "aggregates": AGGREGATES,
    "max_reject_share": 0.5,
}


def event(days: float = 5.0, amount: float | None = 1.0, **more: Any) -> dict[str, Any]:
    row = {"paid_at": AS_OF - timedelta(days=days), "merchant": "tea", "amount": amount, "quantity": 2, "stock": 1}
    return row | {"price": None if amount is None or not abs(amount) < 1e9 else Decimal(repr(amount))} | more


def amounts(*values: float | None) -> list[dict[str, Any]]:
    return [event(1 + number, value) for number, value in enumerate(values)]


def merchants(*names: str | None) -> list[dict[str, Any]]:
    return [event(1 + number, 3.0, merchant=name) for number, name in enumerate(names)]


MICROSECOND = 1 / 86_400_000_000
CASES: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "equal values deviate by exactly 0": (amounts(*[0.1] * 7), {"std_amount": 0.0}),
    "equal values of 1e15": (amounts(*[1e15 + 0.25] * 3), {"std_amount": 0.0}),
    "large, close values": (amounts(1e12 - 1, 1e12, 1e12 + 1), {"std_amount": 1.0, "trend_amount": -1.0}),
    "a deviation in the last digits": (amounts(1e9 + 0.01, 1e9 + 0.02, 1e9 + 0.03), {"change_of_count": 3.0}),
    "one value has no deviation": (amounts(5.0), {"std_amount": None, "trend_amount": None, "mean_amount": 5.0}),
    "small values between 0 and 1": (amounts(0.0471, 0.0472, 0.0471, None), {}),
    "values whose squares overflow": (amounts(1e300, -1e300), {"std_amount": None, "max_amount": 1e300}),
    "a value beyond the exact decimals": (
        amounts(1e20, 2.0),
        {"sum_amount": 2.0, "mean_amount": 2.0, "max_amount": 1e20},
    ),
    "nothing but values beyond": (amounts(1e25, -1e25), {"sum_amount": None, "mean_amount": None, "min_amount": -1e25}),
    "a sum that doubles cannot hold": (amounts(*[0.1] * 10, 1e15, -1e15), {"sum_amount": 1.0}),
    "a price of 28 whole digits": (
        [event(1, 1.0, price=Decimal(10) ** 27), event(2, 1.0, price=Decimal("2.5"))],
        {"sum_price": 2.5, "max_price": 1e27},
    ),
    "a price of ten decimals": ([event(1, 1.0, price=Decimal("0.0000000051"))], {"sum_price": 1e-8}),
    "NaN is no value and not the largest": (
        amounts(NAN, 3.0, 1.0),
        {"max_amount": 3.0, "min_amount": 1.0, "std_amount": math.sqrt(2), "amounts": 2.0, "bills": 3.0},
    ),
    "infinite values are no values": (amounts(INF, -INF, 4.0), {"max_amount": 4.0, "min_amount": 4.0}),
    "nothing but NaN": (
        amounts(NAN, NAN),
        {"max_amount": None, "sum_amount": None, "first_amount": None, "amounts": 0.0},
    ),
    "nothing but null": (amounts(None, None), {"max_amount": None, "sum_amount": None, "share_big": 0.0, "bills": 2.0}),
    "negative zero": (amounts(-0.0, 0.0), {"min_amount": 0.0, "max_amount": 0.0, "amounts": 1.0, "std_amount": 0.0}),
    "negative zero alone": (amounts(-0.0), {"min_amount": 0.0, "last_amount": 0.0, "sum_amount": 0.0}),
    "the latest event has no value": (amounts(None, 7.0, 8.0), {"last_amount": 7.0, "first_amount": 8.0}),
    "equal times, the value decides": (
        [event(2, amount) for amount in (5.0, 9.0, 1.0)],
        {"last_amount": 9.0, "first_amount": 1.0, "trend_amount": None},
    ),
    "equal times, one without a value": ([event(2, None), event(2, -1.0)], {"last_amount": -1.0, "first_amount": -1.0}),
    "a tie goes to the first by alphabet": (merchants("b", "a", "a", "b", "c"), {"favourite": "a"}),
    "capitals come first": (merchants("a", "B"), {"favourite": "B"}),
    "the order of bytes, not of UTF-16": (merchants("\U0001f6b2", "\uffee"), {"favourite": "\uffee"}),
    "the most frequent is no null": (merchants(None, None, None, "tea"), {"favourite": "tea", "share_tea": 0.25}),
    "the most frequent is no blank": (merchants(" ", "\u3000", "\t", "x"), {"favourite": "x"}),
    "only blanks": (merchants(" ", None), {"favourite": None, "mean_at_favourite": None}),
    "texts that differ by blanks": (merchants(" a  b", "a\tb", "c"), {"favourite": "a b"}),
    "a text longer than the limit": (merchants("z" * 150, "z" * 120), {"favourite": "z" * 100}),
    "a condition on null is not fulfilled": (amounts(None, 20.0), {"share_big": 0.5, "count_big": 1.0}),
    "a condition that nothing fulfils": (amounts(1.0, 2.0), {"sum_big": 0.0, "mean_big": None, "since_big": None}),
    "a divisor of 0": ([event(1, 5.0, quantity=1), event(2, 5.0, quantity=-1)], {"unit_price": None}),
    "a divisor that is null": ([event(1, 5.0, quantity=None)], {"unit_price": None, "each": None}),
    "each sum of a ratio has its own events": (amounts(-2.0, 8.0), {"returned": 0.25}),
    "a window holds its first moment": (
        [event(30, 1.0), event(30 + MICROSECOND, 2.0), event(60, 4.0), event(60 + MICROSECOND, 8.0)],
        {"sum_amount": 1.0, "change_of_sum": 1.0 - 6.0, "change_of_count": -1.0},
    ),
    "a window ends before as_of": ([event(0, 100.0), event(MICROSECOND, 3.0)], {"sum_amount": 3.0, "last_amount": 3.0}),
    "events in the earlier window alone": (
        [event(40, 5.0), event(50, 6.0)],
        {"bills": 0.0, "share_tea": None, "change_of_count": -2.0, "change_of_sum": -11.0, "change_of_mean": None},
    ),
    "events before both windows": ([event(100, 5.0)], {"change_of_count": 0.0, "max_amount": None, "favourite": None}),
    "a repeat is computed once": (
        [event(3, 5.0, bill_id="twice"), event(2, 50.0, bill_id="twice")],
        {"sum_amount": 5.0, "bills": 1.0},
    ),
    "three times the mean of the city": (amounts(30.0), {"sum_in_city": 3.15}),
    "below the mean of the city": (amounts(1.0), {"sum_in_city": 0.1}),
    "a negative value in a city": (amounts(-4.0), {"sum_in_city": -0.4}),
    "alone in a city": (amounts(17.0), {"sum_in_city": 1.0, "count_in_city": 1.0}),
    "a city of returns": (amounts(-17.0), {"sum_in_city": None, "count_in_city": 1.0}),
    "no city": (amounts(17.0), {"sum_in_city": None}),
    "many events": ([event(n / 20, round(1.01**n, 2), merchant="abc"[n % 3]) for n in range(1, 900)], {}),
}
CITIES = {
    **dict.fromkeys(
        ("three times the mean of the city", "below the mean of the city", "a negative value in a city"), "Ulm"
    ),
    "alone in a city": "Bonn",
    "a city of returns": "Kiel",
    **dict.fromkeys(("nothing but null", "one value has no deviation", "a divisor of 0", "many events"), "Köln"),
}


def make_lake() -> dict[str, list[dict[str, Any]]]:
    bills = [
        {"bill_id": f"{user}-{number}", "user_id": user, **row}
        for user, (rows, _) in CASES.items()
        for number, row in enumerate(rows)
    ]
    # Dividing by the stock of a row without a user, or without a time, would fail the job.
    bills += [{"bill_id": "bad-1", **event(), "user_id": None, "stock": 0}]
    bills += [{"bill_id": "bad-2", "user_id": "no city", **event(), "paid_at": None, "stock": 0}]
    return {"bills": bills, "attributes": [{"user_id": user, "city": city} for user, city in CITIES.items()]}


def write(d: Deployment, lake: dict[str, list[dict[str, Any]]], files: int) -> None:
    """Write each table in some files, whose rows are every so manieth of the table's."""
    for name, schema in (("bills", BILLS), ("attributes", ATTRIBUTES)):
        for number in range(files):
            rows = pa.Table.from_pylist(lake[name][number::files], schema=schema)
            deltalake.write_deltalake(d.table(name), rows, mode="append" if number else "overwrite")


def build(spark: Any, d: Deployment) -> dict[date, dict[str, Any]]:
    profiles = build_profiles(d, open_sources(d, partial(read_table, spark, d)), [BEFORE, DAY])
    rows = profiles.rows.collect()
    profiles.release()
    return {day: {row.user_id: row for row in rows if row.as_of.date() == day} for day in (BEFORE, DAY)}


@pytest.fixture(scope="module")
def lake() -> dict[str, list[dict[str, Any]]]:
    return make_lake()


@pytest.fixture(scope="module")
def d(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    return deploy(tmp_path_factory.mktemp("functions"), **CHANGES)


@pytest.fixture(scope="module")
def built(spark: Any, d: Deployment, lake: dict[str, list[dict[str, Any]]]) -> dict[date, dict[str, Any]]:
    write(d, lake, files=1)
    return build(spark, d)


@pytest.fixture(scope="module")
def expected(d: Deployment, lake: dict[str, list[dict[str, Any]]]) -> dict[date, dict[str, dict[str, Any]]]:
    by_day: dict[date, dict[str, dict[str, Any]]] = {}
    for day in (BEFORE, DAY):
        as_of = datetime(day.year, day.month, day.day, tzinfo=UTC)
        _, kept = literal.split(d.source("bill"), lake["bills"], as_of)
        users: dict[str, dict[str, Any]] = {}
        for user in dict.fromkeys(row["user_id"] for row in kept):
            own = [row for row in kept if row["user_id"] == user]
            if any(row["paid_at"] >= as_of - timedelta(days=365) for row in own):
                city = {"city": CITIES.get(user)}
                users[user] = literal.tabular_values(d, city, {"bill": own}, as_of)
        literal_aggregates.relative_bands(d.aggregates, users)
        by_day[day] = users
    return by_day


def close(value: Any) -> Any:
    return pytest.approx(value, rel=1e-9, abs=1e-12) if isinstance(value, float) else value


@pytest.mark.parametrize("name", [a["name"] for a in AGGREGATES])
def test_an_aggregate_is_what_plain_python_computes(name: str, built: Any, expected: Any) -> None:
    for day, users in expected.items():
        assert {user: row.tabular[name] for user, row in built[day].items()} == {
            user: close(values[name]) for user, values in users.items()
        }, day


@pytest.mark.parametrize("case", CASES)
def test_a_case_has_the_stated_values(case: str, built: Any) -> None:
    tabular = built[DAY][case].tabular
    assert {name: tabular[name] for name in CASES[case][1]} == {
        name: close(value) for name, value in CASES[case][1].items()
    }
    zeros = [name for name, value in tabular.asDict().items() if value == 0 and math.copysign(1, value) < 0]
    assert zeros == []


def test_no_value_depends_on_the_order_or_the_partitions_of_rows(spark: Any, d: Deployment, built: Any) -> None:
    lake = make_lake()
    random.Random(2).shuffle(lake["bills"])
    random.Random(3).shuffle(lake["attributes"])
    write(d, lake, files=5)
    spark.conf.set("spark.sql.shuffle.partitions", "5")
    try:
        again = build(spark, d)
    finally:
        spark.conf.set("spark.sql.shuffle.partitions", "2")
    for day, users in built.items():
        assert {user: row.profile_hash for user, row in again[day].items()} == {
            user: row.profile_hash for user, row in users.items()
        }
