"""Bad cells for each source table: what a row holds, what happens to it, and what the profile or the reason says."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa

from tests.support.deployment import DEPLOYMENT
from tests.support.error_page import case

SECOND = 1_000_000
TIME = pa.timestamp("us", "UTC")


def micros(year: int, month: int, day: int, hour: int = 0) -> int:
    return int(datetime(year, month, day, hour, tzinfo=UTC).timestamp()) * SECOND


GOOD_TIME, BAD_TIME = micros(2025, 2, 19, 12), micros(2025, 2, 20, 12)
CHANGES: dict[str, Any] = {
    "sources": [
        {**DEPLOYMENT["sources"][0], "template": "{merchant}: {amount:amount_band}"},
        {**DEPLOYMENT["sources"][1], "template": "{query} at {searched_at:hour} on {searched_at:weekday}"},
        {
            "name": "visit",
            "table": "visits",
            "user": "member",
            "time": "seen_on",
            "template": "{page}: {dwell:amount_band}",
            "max_events": 3,
            "window_days": 60,
        },
    ],
    "attributes": {"table": "attributes", "valid_from": "since", "numbers": ["age"], "categories": ["city"]},
    "aggregates": [{"name": "spent", "source": "bill", "function": "sum", "column": "amount", "window_days": 30}],
    "max_reject_share": 1,
    "model": {
        "network": {
            "shared_encoder": True,
            "backbone": {"layers": 1},
            "encoder": {"layers": 1, "width": 32, "heads": 2, "feedforward": 32},
        }
    },
}
COLUMNS: dict[str, dict[str, pa.DataType]] = {
    "bills": {
        "bill_id": pa.string(),
        "user_id": pa.string(),
        "paid_at": TIME,
        "merchant": pa.string(),
        "amount": pa.float64(),
        "nr": pa.int64(),
        "odd`name": pa.string(),
    },
    "searches": {"user_id": pa.string(), "searched_at": pa.string(), "query": pa.string(), "nr": pa.int64()},
    "visits": {
        "member": pa.float64(),
        "seen_on": pa.date32(),
        "page": pa.string(),
        "dwell": pa.string(),
        "nr": pa.int64(),
    },
    "attributes": {
        "user_id": pa.string(),
        "since": pa.string(),
        "age": pa.string(),
        "city": pa.string(),
        "nr": pa.int64(),
    },
}
DELTA_TYPES = {
    pa.string(): "string",
    pa.float64(): "double",
    pa.int64(): "long",
    pa.date32(): "date",
    TIME: "timestamp",
}
GOOD: dict[str, dict[str, Any]] = {
    "bills": {"paid_at": GOOD_TIME, "merchant": "good", "amount": 5.0},
    "searches": {"searched_at": "2025-02-19T12:00:00Z", "query": "good"},
    "visits": {"seen_on": 20138, "page": "good", "dwell": "5"},
    "attributes": {"since": "2025-02-01", "age": "30", "city": "Ulm"},
}
WORST = 2**63 - 1
"""Microseconds, or days in 32 bits, at the end of what a column holds."""
NOON = "2025-02-20T12:00:00Z"

BILLS = [
    case("no user id", {"user_id": None}),
    case("an empty user id", {"user_id": ""}),
    case("a user id of blanks", {"user_id": " \t\u3000"}, happens="rejected", said="empty user id"),
    case("a user id that is not UTF-8", {"user_id": b"u\xff"}),
    case("a user id of format characters", {"user_id": "\ufeff\u200b"}, happens="rejected", said="empty user id"),
    case("a user id with blanks around it", {"user_id": " u 1 "}, happens="used", said="Lu: 5 to 10"),
    case("a user id that a CHAR pads", {"user_id": "padded          "}, happens="used", said="Lu: 5 to 10"),
    case("a user id of 10,000 characters", {"user_id": "u" * 10_000}, happens="used", said="Lu: 5 to 10"),
    case("a user id of emoji", {"user_id": "🚲外卖"}, happens="used", said="Lu: 5 to 10"),
    case("a user id with a NUL in it", {"user_id": "u\0x"}, happens="used", said="Lu: 5 to 10"),
    case("no time", {"paid_at": None}),
    case("a time before 1970", {"paid_at": -1}),
    case(
        "a time after 2099", {"paid_at": micros(2100, 1, 1)}, happens="rejected", said="time before 1970 or after 2099"
    ),
    case(
        "the first time that 64 bits hold",
        {"paid_at": -WORST},
        happens="rejected",
        said="time before 1970 or after 2099",
    ),
    case(
        "the last time that 64 bits hold", {"paid_at": WORST}, happens="rejected", said="time before 1970 or after 2099"
    ),
    case(
        "a time in the last hour of 2099",
        {"paid_at": micros(2099, 12, 31, 23)},
        happens="left out",
        said="at or after as_of",
    ),
    case("a time at the midnight of the day", {"paid_at": micros(2025, 3, 1)}),
    case("a time in 1970", {"paid_at": 0}),
    case("an event id that is not UTF-8", {"bill_id": b"\xff\xfe"}, happens="used", said="Lu: 5 to 10, spent 10.0"),
    case("an event without its id", {"bill_id": None}, happens="used", said="Lu: 5 to 10, spent 10.0"),
    case("a text that is missing", {"merchant": None}),
    case("a text of blanks", {"merchant": " \u3000\t"}, happens="used", said="unknown: 5 to 10, spent 10.0"),
    case("a text of 100,000 characters", {"merchant": "x" * 100_000}, happens="used", said="xxxxxxxxxx"),
    case(
        "a text with tabs and line ends", {"merchant": "a\tb\r\nc"}, happens="used", said="a b c: 5 to 10, spent 10.0"
    ),
    case(
        "a text with control characters",
        {"merchant": "a\x00b\x07c\x85d"},
        happens="used",
        said="a b c d: 5 to 10, spent 10.0",
    ),
    case(
        "a text that would colour a terminal",
        {"merchant": "\x1b[31mred"},
        happens="used",
        said="[31mred: 5 to 10, spent 10.0",
    ),
    case(
        "a text of emoji and Chinese",
        {"merchant": "🚲 Café 外卖"},
        happens="used",
        said="🚲 Café 外卖: 5 to 10, spent 10.0",
    ),
    case(
        "a text with a byte that is not UTF-8",
        {"merchant": b"caf\xe9"},
        happens="used",
        said="caf�: 5 to 10, spent 10.0",
    ),
    case(
        "a text cut inside a character",
        {"merchant": "外卖".encode()[:5]},
        happens="used",
        said="外�: 5 to 10, spent 10.0",
    ),
    case(
        "a text of half a surrogate pair",
        {"merchant": b"a\xed\xa0\x80b"},
        happens="used",
        said="a���b: 5 to 10, spent 10.0",
    ),
    case(
        "a text of bytes alone",
        {"merchant": bytes(range(128, 256))},
        happens="used",
        said="����������...: 5 to 10, spent 10.0",
    ),
    case("a text {merchant}", {"merchant": "{merchant}"}, happens="used", said="{merchant}: 5 to 10, spent 10.0"),
    case(
        "a text {0.__class__}", {"merchant": "{0.__class__}"}, happens="used", said="{0.__class__}: 5 to 10, spent 10.0"
    ),
    case("a text %s%n", {"merchant": "%s%n"}, happens="used", said="%s%n: 5 to 10, spent 10.0"),
    case(
        "a text ${jndi:ldap://host}",
        {"merchant": "${jndi:ldap://host}"},
        happens="used",
        said="${jndi:ldap://host}: 5 to 10, spent 10.0",
    ),
    case("a text $(rm -rf /)", {"merchant": "$(rm -rf /)"}, happens="used", said="$(rm -rf /): 5 to 10, spent 10.0"),
    case("a text {{7*7}}", {"merchant": "{{7*7}}"}, happens="used", said="{{7*7}}: 5 to 10, spent 10.0"),
    case(
        "a text '; DROP TABLE bills; --",
        {"merchant": "'; DROP TABLE bills; --"},
        happens="used",
        said="'; DROP TABLE bills; --: 5 to 10, spent 10.0",
    ),
    case(
        "a text <USER></bill><pad>",
        {"merchant": "<USER></bill><pad>"},
        happens="used",
        said="<USER></bill><pad>: 5 to 10, spent 10.0",
    ),
    case(
        "a text <script>",
        {"merchant": "<script>alert(1)</script>"},
        happens="used",
        said="<script>alert(1)</script>: 5 to 10, spent 10.0",
    ),
    case("no amount", {"amount": None}),
    case("an amount that is NaN", {"amount": float("nan")}, happens="used", said="Lu: unknown amount, spent 5.0"),
    case("an infinite amount", {"amount": float("inf")}, happens="used", said="Lu: unknown amount, spent 5.0"),
    case("a negative infinite amount", {"amount": float("-inf")}, happens="used", said="Lu: unknown amount, spent 5.0"),
    case("an amount of 1e308", {"amount": 1e308}, happens="used", said="Lu: 1000000 or more, spent 5.0"),
    case("an amount of -0.0", {"amount": -0.0}, happens="used", said="Lu: under 1, spent 5.0"),
    case("a negative amount", {"amount": -25.5}, happens="used", said="Lu: refund 20 to 50, spent -20.5"),
]
SEARCHES = [
    case("a time text with Z", {"searched_at": NOON}, happens="used", said="tea at 12:00 on Thursday"),
    case("a time text without an offset", {"searched_at": "2025-02-20 12:00:00"}),
    case(
        "a time text of another offset",
        {"searched_at": "2025-02-20T12:00:00+08:00"},
        happens="used",
        said="tea at 04:00 on Thursday",
    ),
    case(
        "a time text of a named zone",
        {"searched_at": "2025-02-20 12:00:00 America/New_York"},
        happens="used",
        said="tea at 17:00 on Thursday",
    ),
    case("a time text of a day alone", {"searched_at": "2025-02-20"}, happens="used", said="tea at 00:00 on Thursday"),
    case(
        "a time text with nanoseconds",
        {"searched_at": "2025-02-20T12:00:00.123456789Z"},
        happens="used",
        said="tea at 12:00 on Thursday",
    ),
    case(
        "a time text with blanks around it",
        {"searched_at": f"  {NOON} "},
        happens="used",
        said="tea at 12:00 on Thursday",
    ),
    case("an empty time text", {"searched_at": ""}, happens="rejected", said="time does not parse"),
    case("a time text in words", {"searched_at": "yesterday"}),
    case("a time text with an abbreviated zone", {"searched_at": "2025-02-20 12:00:00 CST"}),
    case("a time text without a day", {"searched_at": "12:30"}, happens="rejected", said="time does not parse"),
    case(
        "a time text of the 30th of February",
        {"searched_at": "2025-02-30"},
        happens="rejected",
        said="time does not parse",
    ),
    case(
        "a time text of the 13th month", {"searched_at": "2025-13-01"}, happens="rejected", said="time does not parse"
    ),
    case("a time text of another order", {"searched_at": "20/02/2025"}, happens="rejected", said="time does not parse"),
    case("a time text of a number", {"searched_at": "1740052800"}, happens="rejected", said="time does not parse"),
    case(
        "a time text with an offset of 25 hours",
        {"searched_at": "2025-02-20T12:00:00+25:00"},
        happens="rejected",
        said="time does not parse",
    ),
    case("a time text with a tail", {"searched_at": f"{NOON} or so"}, happens="rejected", said="time does not parse"),
    case(
        "a time text of the year 12000", {"searched_at": "+12000-02-20"}, happens="rejected", said="time does not parse"
    ),
    case(
        "a time text of the year 3025",
        {"searched_at": "3025-02-20"},
        happens="rejected",
        said="time before 1970 or after 2099",
    ),
    case(
        "a time text of the year 0",
        {"searched_at": "0000-02-20"},
        happens="rejected",
        said="time before 1970 or after 2099",
    ),
    case(
        "a time text that is not UTF-8",
        {"searched_at": b"2025-02-20\xff"},
        happens="rejected",
        said="time does not parse",
    ),
    case(
        "a time text of 100,000 characters",
        {"searched_at": NOON + "0" * 100_000},
        happens="rejected",
        said="time does not parse",
    ),
]
VISITS = [
    case("a user id of a whole number", {"member": 7_000_001.0}, happens="used", said="home: 5 to 10"),
    case("a user id of a negative number", {"member": -3.0}, happens="used", said="home: 5 to 10"),
    case("a user id of half a number", {"member": 12.5}),
    case("a user id that is NaN", {"member": float("nan")}, happens="rejected", said="no user id"),
    case("an infinite user id", {"member": float("inf")}, happens="rejected", said="user id is not a whole number"),
    case("a user id beyond 53 bits", {"member": 2.0**53}),
    case(
        "a user id of 1e300",
        {"member": 1e300},
        happens="rejected",
        said="user id is too large for a floating-point number",
    ),
    case("a day of an event before 1970", {"seen_on": -1}, happens="rejected", said="time before 1970 or after 2099"),
    case(
        "a day of an event after 2099",
        {"seen_on": (date(2100, 1, 1) - date(1970, 1, 1)).days},
        happens="rejected",
        said="time before 1970 or after 2099",
    ),
    case(
        "the first day that 32 bits hold",
        {"seen_on": -(2**31)},
        happens="rejected",
        said="time before 1970 or after 2099",
    ),
    case(
        "the last day that 32 bits hold",
        {"seen_on": 2**31 - 1},
        happens="rejected",
        said="time before 1970 or after 2099",
    ),
    case("a number with a decimal comma", {"dwell": "12,5"}, happens="rejected", said="dwell is not a number"),
    case("a number in words", {"dwell": "many"}),
    case("a number with an underscore", {"dwell": "1_000"}, happens="rejected", said="dwell is not a number"),
    case("a number that is not UTF-8", {"dwell": b"1\xff"}, happens="rejected", said="dwell is not a number"),
    case("a number that is an empty text", {"dwell": ""}, happens="used", said="home: unknown amount"),
    case("a number text NaN", {"dwell": "NaN"}, happens="used", said="home: unknown amount"),
    case("a number text of 1e400", {"dwell": "1e400"}, happens="used", said="home: unknown amount"),
    case("a number text with blanks around it", {"dwell": " 12.5 "}, happens="used", said="home: 10 to 20"),
]
ATTRIBUTES = [
    case("attributes of nobody", {"user_id": None}, happens="rejected", said="no user id"),
    case("attributes since no time", {"since": None}, happens="rejected", said="no time"),
    case("attributes since a word", {"since": "birth"}, happens="rejected", said="time does not parse"),
    case("attributes since 1969", {"since": "1969-12-31"}, happens="rejected", said="time before 1970 or after 2099"),
    case("attributes with a word for a number", {"age": "old"}),
    case("attributes with a number that is NaN", {"age": "NaN"}, happens="used", said="age None, city Ulm"),
    case("attributes with an infinite number", {"age": "Infinity"}, happens="used", said="age None, city Ulm"),
    case("attributes with a category of blanks", {"city": " \u3000 "}, happens="used", said="age 30.0, city None"),
    case(
        "attributes with a category of control characters",
        {"city": "New\x00\tYork"},
        happens="used",
        said="age 30.0, city New York",
    ),
    case(
        "attributes with a category that is not UTF-8", {"city": b"K\xf6ln"}, happens="used", said="age 30.0, city K�ln"
    ),
    case(
        "attributes with a category of 100,000 characters",
        {"city": "y" * 100_000},
        happens="used",
        said="age 30.0, city yyyyyyyyyy",
    ),
]
CASES = {"bills": BILLS, "searches": SEARCHES, "visits": VISITS, "attributes": ATTRIBUTES}
SOURCES = {"bills": "bill", "searches": "search", "visits": "visit", "attributes": "attributes"}
