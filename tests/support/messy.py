"""Messy rows of a few users in two event sources and a table of attributes, with functions that write and read them."""

from __future__ import annotations

import random
from copy import deepcopy
from datetime import UTC, date, datetime, timedelta
from typing import Any

import deltalake
import pyarrow as pa

from tests.support.deployment import DEPLOYMENT

DAY1, DAY2 = date(2025, 3, 1), date(2025, 3, 2)
START = datetime(2025, 3, 1, tzinfo=UTC)
TIME = pa.timestamp("us", tz="UTC")
BILLS = pa.schema(
    [
        ("bill_id", pa.string()),
        ("user_id", pa.string()),
        ("paid_at", TIME),
        ("merchant", pa.string()),
        ("amount", pa.float64()),
        ("ignored", pa.string()),
    ]
)
SEARCHES = pa.schema([("user_id", pa.string()), ("searched_at", pa.string()), ("query", pa.string())])
ATTRIBUTES = pa.schema([("user_id", pa.string()), ("valid_from", TIME), ("age", pa.int32()), ("city", pa.string())])
SCHEMAS = {"bills": BILLS, "searches": SEARCHES, "attributes": ATTRIBUTES}
CHANGES: dict[str, Any] = {
    "sources": [
        {**DEPLOYMENT["sources"][0], "template": "{merchant}: {amount:amount_band}, {paid_at:daypart}"},
        DEPLOYMENT["sources"][1],
    ],
    "attributes": {"table": "attributes", "valid_from": "valid_from", "numbers": ["age"], "categories": ["city"]},
    "aggregates": [
        {"name": "bills_7d", "source": "bill", "function": "count", "window_days": 7},
        {"name": "spent_90d", "source": "bill", "function": "sum", "column": "amount", "window_days": 90},
        {"name": "mean_30d", "source": "bill", "function": "mean", "column": "amount", "window_days": 30},
        {"name": "merchants_30d", "source": "bill", "function": "distinct", "column": "merchant", "window_days": 30},
        {"name": "since_search", "source": "search", "function": "days_since_last", "window_days": 60},
    ],
    "eligible": {"min_events": 2},
    "max_reject_share": 0.6,
}


def make_lake() -> dict[str, list[dict]]:
    """Return rows with repeats, ties, gaps of every length, and malformed users, times and amounts."""
    rng = random.Random(7)
    users = [f"u{number}" for number in range(14)]
    return {"bills": _bills(rng, users), "searches": _searches(rng, users), "attributes": _attributes(rng, users)}


def _bills(rng: random.Random, users: list[str]) -> list[dict]:
    merchants = ["Lu", "Ha  ke", "天雨　面馆", "{Moo}", None, "  ", 'a "b"\n\tc', "x" * 1200]
    bills = []
    for number in range(160):
        back = timedelta(
            days=rng.choice([0, 1, 2, 3, 6, 7, 14, 29, 30, 31, 80, 89, 90, 400]),
            hours=rng.randrange(24),
            seconds=rng.randrange(3600),
        )
        bills.append(
            {
                "bill_id": f"b{number}",
                "user_id": rng.choice(users),
                "paid_at": START - back,
                "merchant": rng.choice(merchants),
                "ignored": None,
                "amount": rng.choice([None, float("nan"), 0.0, 0.1, 0.2, 9.99, 10.0, -25.5, 1234.56]),
            }
        )
    at = START - timedelta(days=5)
    # Equal times: the id decides, and a limit of three cuts through them.
    bills += [
        {"bill_id": f"t{n}", "user_id": "u1", "paid_at": at, "merchant": f"tie {n}", "amount": 5.0, "ignored": None}
        for n in (4, 2, 9, 3)
    ]
    bills += [deepcopy(row) for row in rng.sample(bills, 12)]
    bills += [{**rng.choice(bills), "bill_id": None} for _ in range(4)]
    bills += [{**rng.choice(bills), "bill_id": f"after{n}", "paid_at": START + timedelta(hours=n)} for n in range(9)]
    bills += [
        {**rng.choice(bills), "bill_id": f"far{n}", "paid_at": datetime(2090 + 5 * n, 1, 1, tzinfo=UTC)}
        for n in range(4)
    ]
    bills += [
        {**rng.choice(bills), "bill_id": f"old{n}", "paid_at": datetime(1969, 12, 31, tzinfo=UTC)} for n in range(2)
    ]
    bills += [
        {**rng.choice(bills), "bill_id": f"bad{n}", **broken}
        for n, broken in enumerate(
            [{"user_id": None}, {"user_id": ""}, {"user_id": "  "}, {"paid_at": None}, {"user_id": None}]
        )
    ]
    return bills


def _searches(rng: random.Random, users: list[str]) -> list[dict]:
    searches = []
    for _ in range(90):
        time = START - timedelta(days=rng.choice([0, 1, 3, 40, 59, 60, 61]), seconds=rng.randrange(86_400))
        shapes = [
            time.isoformat(),
            time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S"),
            (time + timedelta(hours=8)).strftime("%Y-%m-%dT%H:%M:%S+08:00"),
        ]
        searches.append(
            {
                "user_id": rng.choice(users),
                "searched_at": rng.choice(shapes),
                "query": rng.choice(["tea", "奶茶 near me", None, "map"]),
            }
        )
    searches += [deepcopy(row) for row in searches[:5]]
    searches += [
        {"user_id": "u2", "searched_at": bad, "query": "tea"}
        for bad in ("yesterday", "", "12:30", "2025-13-40", None, "3025-01-01")
    ]
    # Alone in one source, and outside every window but one second.
    searches.append({"user_id": "lonely", "searched_at": "2024-12-31T00:00:01", "query": "one"})
    searches += [{"user_id": "leaving", "searched_at": "2024-12-31T10:00:00Z", "query": q} for q in ("a", "b")]
    return searches


def _attributes(rng: random.Random, users: list[str]) -> list[dict]:
    attributes = [
        {"user_id": user, "valid_from": START + timedelta(days=shift, seconds=1), "age": age, "city": city}
        for user in users
        for shift, age, city in rng.sample(
            [(-300, 30, "A"), (-20, None, " B "), (-1, 31, None), (0, 32, "D"), (5, 99, "E")], 3
        )
    ]
    attributes += [
        {"user_id": None, "valid_from": START, "age": 1, "city": "x"},
        {"user_id": "u3", "valid_from": None, "age": 1, "city": "x"},
    ]
    return attributes


def write(d, lake) -> None:
    for name, rows in lake.items():
        deltalake.write_deltalake(d.table(name), pa.Table.from_pylist(rows, schema=SCHEMAS[name]), mode="overwrite")


def day_rows(d, table, day):
    rows = deltalake.DeltaTable(d.table(table)).to_pyarrow_table(partitions=[("day", "=", str(day))]).to_pylist()
    return {row["user_id"]: row for row in rows} if table == "user_profiles" else rows


def as_literal(row, d):
    """Return a stored row in the form of `literal.profiles`."""
    kept = {s.name: [(e["event_time"], e["text"], e["gap"]) for e in row[s.name]] for s in d.sources}
    return {**kept, "ages": row["ages"], "tabular": row["tabular"], "profile_hash": row["profile_hash"]}
