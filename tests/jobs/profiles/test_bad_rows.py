"""Every bad row in one lake, each beside good rows: its outcome, and that no other user loses anything by it.

One run of assemble, embed and publish goes over all of them.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import date
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
from jobs.training.training_inputs import network_config
from model.serving.export import export
from model.training.training import initialise
from tests.support.bad_cells import (
    ATTRIBUTES,
    BAD_TIME,
    BILLS,
    CASES,
    CHANGES,
    COLUMNS,
    DELTA_TYPES,
    GOOD,
    GOOD_TIME,
    NOON,
    SEARCHES,
    SECOND,
    SOURCES,
    TIME,
    VISITS,
)
from tests.support.deployment import deploy
from tests.support.error_page import EXPECTED, row, says
from tests.support.userqa_lake import with_questions

DAY = date(2025, 3, 1)
MANY = 20_000


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
    rows: list[dict[str, Any]] = deltalake.DeltaTable(deployment.table(table)).to_pyarrow_table().to_pylist()
    return rows


def became(lived: Lived, table: str, wrong: str, changes: dict[str, Any]) -> tuple[str, str]:
    """Return what happened to the row of a case, and its message."""
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
    profile = lived.profiles.get(f"{owner:.0f}" if isinstance(owner, float) else owner.rstrip(" "))
    if profile is None:
        return "left out", ""
    if table == "attributes":
        return "used", "age {age}, city {city}".format(**profile["tabular"])
    texts = [event["text"] for event in profile[SOURCES[table]] if not event["text"].startswith("good")]
    said = f"{texts[0] if texts else 'nothing'}, spent {profile['tabular']['spent']}"
    return ("used", said) if texts else ("left out", "")


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
    happened, said = became(lived, table, wrong, changes)
    if happened == "left out":  # of one reason of many: the counts of all reasons are held against the page below
        said = EXPECTED[wrong].said
    says(wrong, happened, said)


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
        (SOURCES[table], EXPECTED[one.id].happens, EXPECTED[one.id].said)
        for table, cases in CASES.items()
        for one in cases
        if EXPECTED[one.id].happens != "used"
    )
    for (source, happens, reason), count in promised.items():
        key = f"{source}: rejected, {reason}" if happens == "rejected" else f"{source}: {reason}"
        assert lived.left_out[key] == count, key
    assert all(account.balanced for account in lived.done.accounts.values())


@row("a user with 20,000 events")
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
    result = run_check(spark, with_questions(lived.deployment), DAY)
    assert {name: source.account for name, source in result.sources.items()} == lived.done.accounts
    refused = Counter((one["source"], one["reason"]) for one in lived.rejected)
    assert refused == {
        (name, reason): some.rows for name, source in result.sources.items() for reason, some in source.rejected.items()
    }
    page = StringIO()
    Console(file=page, width=120).print(check_page(result))
    assert "user id is not UTF-8" in page.getvalue()
    assert "\x1b" not in page.getvalue()


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
    release = export(
        checkpoint,
        releases_folder(deployment),
        scenarios=scenario_instructions(deployment),
        vector_spec=deployment.vector_spec(),
        deployment=deployment.path.read_text(),
        profiles=profiles,
    )
    promote(deployment, release.path)
