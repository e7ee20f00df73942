"""The registry of aggregate functions, and `trend` against a slope in rational numbers."""

from __future__ import annotations

import random
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from jobs.config.functions import AGGREGATE_FUNCTIONS, TEMPLATE_FILTERS
from jobs.lake.spark_tables import read_table
from jobs.profiles.aggregates import AGGREGATES
from jobs.profiles.build import build_profiles
from jobs.profiles.source_tables import open_sources
from tests.support import literal
from tests.support.messy import CHANGES, DAY1, START, make_lake, write

DEPLOYMENT_PAGE = Path(__file__).parents[3] / "docs" / "deployment.md"
TREND = {"name": "amount_trend", "source": "bill", "function": "trend", "column": "amount", "window_days": 90}


def test_every_declared_function_has_a_spark_part():
    assert list(AGGREGATES) == list(AGGREGATE_FUNCTIONS)


@pytest.mark.parametrize("name", [*AGGREGATE_FUNCTIONS, *TEMPLATE_FILTERS])
def test_the_page_names_every_function_and_filter(name):
    assert f"`{name}`" in DEPLOYMENT_PAGE.read_text(encoding="utf-8")


def bill(user, number, days, amount):
    row = {"bill_id": f"{user}-{number}", "user_id": user, "merchant": "Lu", "amount": amount, "ignored": None}
    return row | {"paid_at": START - timedelta(days=days)}


def test_trend_is_the_least_squares_slope_whatever_the_order_of_rows(spark, deployment):
    d = deployment(**{**CHANGES, "aggregates": [TREND], "eligible": {"min_events": 1}})
    lake = make_lake()
    lake["bills"] += [bill("line", n, days, 7.25 - 0.5 * days) for n, days in enumerate((80, 41, 40.5, 1))]
    lake["bills"] += [bill("close", n, 89.5 - n / 86_400, amount) for n, amount in enumerate((0.1, 0.3, 0.2))]
    lake["bills"] += [bill("once", 0, 5, 3.0), bill("once", 1, 100, 9.0)]
    lake["bills"] += [bill("together", n, 5, amount) for n, amount in enumerate((1.0, 2.0))]
    lake["bills"] += [bill("empty", 0, 5, None), bill("empty", 1, 4, float("nan")), bill("empty", 2, 3, 1.0)]
    write(d, lake)
    profiles = build_profiles(d, open_sources(d, partial(read_table, spark, d)), [DAY1])
    rows = {row.user_id: (row.tabular.amount_trend, row.profile_hash) for row in profiles.rows.collect()}
    profiles.release()

    expected, _ = literal.profiles(d, lake, DAY1)
    slopes = {user: profile["tabular"]["amount_trend"] for user, profile in expected.items()}
    assert {user: slope for user, (slope, _) in rows.items()} == {
        user: None if slope is None else pytest.approx(slope, rel=1e-9, abs=1e-12) for user, slope in slopes.items()
    }
    assert rows["line"][0] == pytest.approx(0.5, rel=1e-12)
    assert [rows[user][0] for user in ("once", "together", "empty")] == [None, None, None]
    assert sum(slope is not None for slope, _ in rows.values()) > 10

    random.Random(1).shuffle(lake["bills"])
    write(d, lake)
    again = build_profiles(d, open_sources(d, partial(read_table, spark, d)), [DAY1])
    assert {row.user_id: (row.tabular.amount_trend, row.profile_hash) for row in again.rows.collect()} == rows
    again.release()
