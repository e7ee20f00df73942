"""Every bad row in one lake, each beside good ones: what became of it, and that it cost nobody else anything.

One run of assemble, embed and publish goes over all of them.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import deltalake
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from jobs.cli.pages.check import check_page
from jobs.config.deployment import Deployment
from jobs.operations.check import check as run_check
from jobs.profiles.assemble import AssembleResult, assemble
from jobs.serving.embed import embed
from jobs.serving.lookup import lookup
from jobs.serving.publish import publish
from jobs.training.registry import promote, releases_folder, scenario_instructions
from jobs.training.train import network_config
from model.serving.export import export
from model.training.training import initialise
from tests.support.deployment import DEPLOYMENT, deploy
from tests.support.error_page import ROWS, case, row, says

DAY = date(2025, 3, 1)
SECOND = 1_000_000
TIME = pa.timestamp("us", "UTC")
MANY = 200_000


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
    case("a user id of blanks", {"user_id": " \t\u3000"}),
    case("a user id that is not UTF-8", {"user_id": b"u\xff"}),
    case("a user id with blanks around it", {"user_id": " u 1 "}),
    case("a user id of 10,000 characters", {"user_id": "u" * 10_000}),
    case("a user id of emoji", {"user_id": "🚲外卖"}),
    case("a user id with a NUL in it", {"user_id": "u\0x"}),
    case("no time", {"paid_at": None}),
    case("a time before 1970", {"paid_at": -1}),
    case("a time after 2099", {"paid_at": micros(2100, 1, 1)}),
    case("the first time that 64 bits hold", {"paid_at": -WORST}),
    case("the last time that 64 bits hold", {"paid_at": WORST}),
    case("a time in the last hour of 2099", {"paid_at": micros(2099, 12, 31, 23)}),
    case("a time at the midnight of the day", {"paid_at": micros(2025, 3, 1)}),
    case("a time in 1970", {"paid_at": 0}),
    case("an event id that is not UTF-8", {"bill_id": b"\xff\xfe"}),
    case("an event without its id", {"bill_id": None}),
    case("a text that is missing", {"merchant": None}),
    case("a text of blanks", {"merchant": " \u3000\t"}),
    case("a text of 100,000 characters", {"merchant": "x" * 100_000}),
    case("a text with tabs and line ends", {"merchant": "a\tb\r\nc"}),
    case("a text with control characters", {"merchant": "a\x00b\x07c\x85d"}),
    case("a text that would colour a terminal", {"merchant": "\x1b[31mred"}),
    case("a text of emoji and Chinese", {"merchant": "🚲 Café 外卖"}),
    case("a text with a byte that is not UTF-8", {"merchant": b"caf\xe9"}),
    case("a text cut inside a character", {"merchant": "外卖".encode()[:5]}),
    case("a text of half a surrogate pair", {"merchant": b"a\xed\xa0\x80b"}),
    case("a text of bytes alone", {"merchant": bytes(range(128, 256))}),
    case("a text {merchant}", {"merchant": "{merchant}"}),
    case("a text {0.__class__}", {"merchant": "{0.__class__}"}),
    case("a text %s%n", {"merchant": "%s%n"}),
    case("a text ${jndi:ldap://host}", {"merchant": "${jndi:ldap://host}"}),
    case("a text $(rm -rf /)", {"merchant": "$(rm -rf /)"}),
    case("a text {{7*7}}", {"merchant": "{{7*7}}"}),
    case("a text '; DROP TABLE bills; --", {"merchant": "'; DROP TABLE bills; --"}),
    case("a text <USER></bill><pad>", {"merchant": "<USER></bill><pad>"}),
    case("a text <script>", {"merchant": "<script>alert(1)</script>"}),
    case("no amount", {"amount": None}),
    case("an amount that is NaN", {"amount": float("nan")}),
    case("an infinite amount", {"amount": float("inf")}),
    case("a negative infinite amount", {"amount": float("-inf")}),
    case("an amount of 1e308", {"amount": 1e308}),
    case("an amount of -0.0", {"amount": -0.0}),
    case("a negative amount", {"amount": -25.5}),
]
SEARCHES = [
    case("a time text with Z", {"searched_at": NOON}),
    case("a time text without an offset", {"searched_at": "2025-02-20 12:00:00"}),
    case("a time text of another offset", {"searched_at": "2025-02-20T12:00:00+08:00"}),
    case("a time text of a named zone", {"searched_at": "2025-02-20 12:00:00 America/New_York"}),
    case("a time text of a day alone", {"searched_at": "2025-02-20"}),
    case("a time text with nanoseconds", {"searched_at": "2025-02-20T12:00:00.123456789Z"}),
    case("a time text with blanks around it", {"searched_at": f"  {NOON} "}),
    case("an empty time text", {"searched_at": ""}),
    case("a time text in words", {"searched_at": "yesterday"}),
    case("a time text without a day", {"searched_at": "12:30"}),
    case("a time text of the 30th of February", {"searched_at": "2025-02-30"}),
    case("a time text of the 13th month", {"searched_at": "2025-13-01"}),
    case("a time text of another order", {"searched_at": "20/02/2025"}),
    case("a time text of a number", {"searched_at": "1740052800"}),
    case("a time text with an offset of 25 hours", {"searched_at": "2025-02-20T12:00:00+25:00"}),
    case("a time text with a tail", {"searched_at": f"{NOON} or so"}),
    case("a time text of the year 12000", {"searched_at": "+12000-02-20"}),
    case("a time text of the year 3025", {"searched_at": "3025-02-20"}),
    case("a time text of the year 0", {"searched_at": "0000-02-20"}),
    case("a time text that is not UTF-8", {"searched_at": b"2025-02-20\xff"}),
    case("a time text of 100,000 characters", {"searched_at": NOON + "0" * 100_000}),
]
VISITS = [
    case("a user id of a whole number", {"member": 7_000_001.0}),
    case("a user id of a negative number", {"member": -3.0}),
    case("a user id of half a number", {"member": 12.5}),
    case("a user id that is NaN", {"member": float("nan")}),
    case("an infinite user id", {"member": float("inf")}),
    case("a user id beyond 53 bits", {"member": 2.0**53}),
    case("a user id of 1e300", {"member": 1e300}),
    case("a day of an event before 1970", {"seen_on": -1}),
    case("a day of an event after 2099", {"seen_on": (date(2100, 1, 1) - date(1970, 1, 1)).days}),
    case("the first day that 32 bits hold", {"seen_on": -(2**31)}),
    case("the last day that 32 bits hold", {"seen_on": 2**31 - 1}),
    case("a number with a decimal comma", {"dwell": "12,5"}),
    case("a number in words", {"dwell": "many"}),
    case("a number with an underscore", {"dwell": "1_000"}),
    case("a number that is not UTF-8", {"dwell": b"1\xff"}),
    case("a number that is an empty text", {"dwell": ""}),
    case("a number text NaN", {"dwell": "NaN"}),
    case("a number text of 1e400", {"dwell": "1e400"}),
    case("a number text with blanks around it", {"dwell": " 12.5 "}),
]
ATTRIBUTES = [
    case("attributes of nobody", {"user_id": None}),
    case("attributes since no time", {"since": None}),
    case("attributes since a word", {"since": "birth"}),
    case("attributes since 1969", {"since": "1969-12-31"}),
    case("attributes with a word for a number", {"age": "old"}),
    case("attributes with a number that is NaN", {"age": "NaN"}),
    case("attributes with an infinite number", {"age": "Infinity"}),
    case("attributes with a category of blanks", {"city": " \u3000 "}),
    case("attributes with a category of control characters", {"city": "New\x00\tYork"}),
    case("attributes with a category that is not UTF-8", {"city": b"K\xf6ln"}),
    case("attributes with a category of 100,000 characters", {"city": "y" * 100_000}),
]
CASES = {"bills": BILLS, "searches": SEARCHES, "visits": VISITS, "attributes": ATTRIBUTES}
SOURCES = {"bills": "bill", "searches": "search", "visits": "visit", "attributes": "attributes"}


@dataclass(kw_only=True)
class Lived:
    """What one run left behind."""

    deployment: Deployment
    done: AssembleResult
    number: dict[str, int] = field(default_factory=dict)
    """Of each case: its user is u<number>, or the number itself."""
    profiles: dict[str, dict[str, Any]]
    rejected: list[dict[str, Any]]
    left_out: dict[str, int]


@pytest.fixture(scope="module")
def lived(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> Lived:
    deployment = deploy(tmp_path_factory.mktemp("rows"), **CHANGES)
    rows: dict[str, list[dict[str, Any]]] = {table: [] for table in COLUMNS}
    number = {}
    for table, cases in CASES.items():
        for nr, one in enumerate(cases, start=1000 * (1 + [*CASES].index(table))):
            wrong, changes = one.values
            number[wrong] = nr
            rows["bills"].append(good("bills", nr))
            rows[table] += [good(table, nr)] * (table not in ("bills", "attributes"))
            rows[table].append(bad(table, nr) | changes)
    rows["bills"].append(bad("bills", number["an event without its id"]) | {"bill_id": "again", "user_id": "u-again"})
    rows["bills"].append(bad("bills", 1) | {"bill_id": "again", "user_id": "u-again"})
    for table, some in rows.items():
        write(Path(deployment.table(table)), table, [*some, *busy()] if table == "bills" else some)
    done = assemble(spark, deployment, DAY)
    [run] = read(deployment, "job_runs")
    return Lived(
        deployment=deployment,
        done=done,
        number=number,
        left_out=dict(run["left_out"]),
        profiles={profile["user_id"]: profile for profile in read(deployment, "user_profiles")},
        rejected=read(deployment, "rejected_rows"),
    )


def user(table: str, nr: int) -> dict[str, Any]:
    return {"member": float(nr)} if table == "visits" else {"user_id": f"u{nr}"}


def good(table: str, nr: int) -> dict[str, Any]:
    return {**GOOD[table], **user(table, nr), "nr": 0, "bill_id": f"good{nr}"}


def bad(table: str, nr: int) -> dict[str, Any]:
    """A good row of the next day, until a case changes it."""
    later = {
        "bills": {"paid_at": BAD_TIME, "merchant": "Lu"},
        "searches": {"searched_at": NOON, "query": "tea"},
        "visits": {"seen_on": 20139, "page": "home"},
        "attributes": {"since": "2025-02-20"},
    }
    return {**GOOD[table], **later[table], **user(table, nr), "nr": nr, "bill_id": f"bad{nr}"}


def busy() -> list[dict[str, Any]]:
    return [
        {
            "bill_id": f"m{n}",
            "user_id": "busy",
            "paid_at": GOOD_TIME + n * SECOND,
            "merchant": f"shop {n}",
            "amount": 1.0,
            "nr": 0,
        }
        for n in range(MANY)
    ]


def write(path: Path, name: str, rows: list[dict[str, Any]]) -> None:
    """A Delta table of one file, written without a look at its bytes."""
    columns = COLUMNS[name]
    (path / "_delta_log").mkdir(parents=True)
    arrays = {column: array([one.get(column) for one in rows], kind) for column, kind in columns.items()}
    pq.write_table(pa.table(arrays), path / "part.parquet")
    fields = [
        {"name": column, "type": DELTA_TYPES[kind], "nullable": True, "metadata": {}}
        for column, kind in columns.items()
    ]
    actions = [
        {"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}},
        {
            "metaData": {
                "id": name,
                "format": {"provider": "parquet", "options": {}},
                "partitionColumns": [],
                "schemaString": json.dumps({"type": "struct", "fields": fields}),
                "configuration": {},
            }
        },
        {
            "add": {
                "path": "part.parquet",
                "partitionValues": {},
                "size": (path / "part.parquet").stat().st_size,
                "modificationTime": 0,
                "dataChange": True,
            }
        },
    ]
    (path / "_delta_log" / f"{0:020}.json").write_text("\n".join(map(json.dumps, actions)))


def array(values: list[Any], kind: pa.DataType) -> pa.Array:
    if kind != pa.string():
        return pa.array(values, pa.int32() if kind == pa.date32() else pa.int64() if kind == TIME else kind).view(kind)
    raw = pa.array([value.encode() if isinstance(value, str) else value for value in values], pa.binary())
    return pa.Array.from_buffers(kind, len(raw), raw.buffers())


def read(deployment: Deployment, table: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = deltalake.DeltaTable(deployment.table(table)).to_pyarrow_table().to_pylist()
    return found


def became(lived: Lived, table: str, wrong: str, changes: dict[str, Any]) -> tuple[str, str]:
    """What happened to a case's row, and what is told of it."""
    nr = lived.number[wrong]
    reasons = [
        one["reason"]
        for one in lived.rejected
        if one["source"] == SOURCES[table] and json.loads(one["row"])["nr"] == nr
    ]
    if reasons:
        assert len(reasons) == 1
        return "rejected", reasons[0]
    owner = (user(table, nr) | changes).get("member" if table == "visits" else "user_id")
    profile = lived.profiles.get(f"{owner:.0f}" if isinstance(owner, float) else owner)
    if profile is None:
        return "left out", ""
    if table == "attributes":
        return "used", "age {age}, city {city}".format(**profile["tabular"])
    texts = [event["text"] for event in profile[SOURCES[table]] if not event["text"].startswith("good")]
    told = f"{texts[0] if texts else 'nothing'}, spent {profile['tabular']['spent']}"
    return ("used", told) if texts else ("left out", "")


@pytest.mark.parametrize(("wrong", "changes"), BILLS)
def test_a_bad_bill(wrong: str, changes: dict[str, Any], lived: Lived) -> None:
    check(lived, "bills", wrong, changes)


@pytest.mark.parametrize(("wrong", "changes"), SEARCHES)
def test_a_bad_search(wrong: str, changes: dict[str, Any], lived: Lived) -> None:
    check(lived, "searches", wrong, changes)


@pytest.mark.parametrize(("wrong", "changes"), VISITS)
def test_a_bad_visit(wrong: str, changes: dict[str, Any], lived: Lived) -> None:
    check(lived, "visits", wrong, changes)


@pytest.mark.parametrize(("wrong", "changes"), ATTRIBUTES)
def test_a_bad_row_of_attributes(wrong: str, changes: dict[str, Any], lived: Lived) -> None:
    check(lived, "attributes", wrong, changes)


def check(lived: Lived, table: str, wrong: str, changes: dict[str, Any]) -> None:
    happened, told = became(lived, table, wrong, changes)
    if happened == "left out":  # of one reason of many: the counts of all reasons are held against the page below
        told = ROWS[wrong].said
    says(wrong, happened, told)


def test_a_bad_row_costs_itself_alone(lived: Lived) -> None:
    for table, cases in CASES.items():
        for one in cases:
            nr = lived.number[one.values[0]]
            owner = str(nr) if table == "visits" else f"u{nr}"
            assert "good: 5 to 10" in [event["text"] for event in lived.profiles[f"u{nr}"]["bill"]]
            if table in ("searches", "visits"):
                texts = [event["text"] for event in lived.profiles[owner][SOURCES[table]]]
                assert texts[0].startswith("good"), one.id
    assert max(len(event["text"]) for one in lived.profiles.values() for event in one["bill"]) == 1000


def test_every_row_is_counted_once(lived: Lived) -> None:
    promised = Counter(
        (SOURCES[table], ROWS[one.id].happens, ROWS[one.id].said)
        for table, cases in CASES.items()
        for one in cases
        if ROWS[one.id].happens != "used"
    )
    for (source, happens, reason), count in promised.items():
        key = f"{source}: rejected, {reason}" if happens == "rejected" else f"{source}: {reason}"
        assert lived.left_out[key] == count, key
    assert all(account.balanced for account in lived.done.accounts.values())


@row("a user with 200,000 events")
def test_a_user_with_many_events(wrong: str, lived: Lived) -> None:
    last = [f"shop {n}: 1 to 2" for n in range(MANY - 3, MANY)]
    assert [event["text"] for event in lived.profiles["busy"]["bill"]] == last
    assert lived.profiles["busy"]["tabular"]["spent"] == MANY
    account = lived.done.accounts["bill"]
    assert account.over == MANY - 3
    assert account.rows_in == account.used + sum(account.left_out().values()) + account.rejected
    says(wrong, "left out", next(reason for reason, count in account.left_out().items() if count == MANY - 3))


@row("an event id that came before")
def test_an_event_id_that_came_before(wrong: str, lived: Lived) -> None:
    assert [event["text"] for event in lived.profiles["u-again"]["bill"]] == ["Lu: 5 to 10"]
    assert lived.left_out["bill: repeated"] == 1
    says(wrong, "left out", "repeated")


def test_a_check_finds_what_assemble_did(lived: Lived, spark: Any) -> None:
    found = run_check(spark, lived.deployment, DAY)
    assert {name: source.account for name, source in found.sources.items()} == lived.done.accounts
    refused = Counter((one["source"], one["reason"]) for one in lived.rejected)
    assert refused == {
        (name, reason): some.rows for name, source in found.sources.items() for reason, some in source.rejected.items()
    }
    told = StringIO()
    Console(file=told, width=120).print(check_page(found))
    assert "user id is not UTF-8" in told.getvalue()
    assert "\x1b" not in told.getvalue()


def test_every_user_who_is_left_is_embedded_and_found_online(lived: Lived, spark: Any) -> None:
    """Whatever a text, a category or a user id holds, it passes Arrow, the tokenizer, the graphs and the store."""
    deployment = lived.deployment
    released(deployment)
    assert embed(spark, deployment, DAY).embedded == len(lived.profiles)
    publish(spark, deployment, DAY)
    answers = lookup(deployment, [*lived.profiles])
    assert [answer.user_id for answer in answers] == [*lived.profiles]
    for answer in answers:
        assert np.linalg.norm(answer.vectors["universal"].vector) == pytest.approx(1, abs=1e-2), answer.user_id


def released(deployment: Deployment) -> None:
    """A release of an untrained network over these very profiles."""
    profiles = deltalake.DeltaTable(deployment.table("user_profiles")).to_pyarrow_table()
    answers = {
        "instruction": pa.nulls(len(profiles), pa.string()),
        "answer": ["The user pays."] * len(profiles),
        "split": ["train"] * len(profiles),
    }
    pairs = pa.table({name: profiles[name] for name in ("user_id", "as_of")} | answers)
    checkpoint = initialise(profiles, pairs, network_config(deployment), releases_folder(deployment) / "checkpoint")
    made = export(
        checkpoint,
        releases_folder(deployment),
        scenarios=scenario_instructions(deployment),
        vector_spec=deployment.vector_spec(),
        deployment=deployment.path.read_text(),
        profiles=profiles,
    )
    promote(deployment, made.path)
