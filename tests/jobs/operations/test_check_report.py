"""Check of labels, users, static attributes and the store: what other jobs would refuse or count."""

from __future__ import annotations

import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import deltalake
import pyarrow as pa
import pytest

from jobs.cli.pages.check import check_page
from jobs.config.deployment import Deployment
from jobs.console import terminal
from jobs.operations.check import check
from jobs.operations.label_check import label_days, read_checked_labels
from jobs.operations.store_check import store_problem
from jobs.serving.online_update import update_online
from tests.support import literal
from tests.support.deployment import DEPLOYMENT, deploy
from tests.support.embedded import CHANGES, copy
from tests.support.messy import START, make_lake, write
from tests.support.userqa_lake import FEW_QUESTIONS, TIME, question, with_questions

NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)
LABELLED = [date(2025, 2, 25), date(2025, 2, 27)]
FUTURE = question("next", "future", "count", {"yes_from": 1, "text": "Yes.", "none": "No."}, days=5)
SCENARIOS = [{"name": name, "instruction": f"{name}?", "labels": "labels"} for name in ("food", "film")]
ATTRIBUTES = {
    "table": "attributes",
    "static": True,
    "numbers": ["age"],
    "categories": [{"name": "city", "column": "city", "known_from": "2020-01-01"}],
}


def label(user: str, day: date, scenario: str, value: int) -> dict[str, Any]:
    return {"user_id": user, "as_of": literal.when(f"{day}T00:00:00Z"), "scenario": scenario, "label": value}


def write_labels(d: Deployment, rows: list[dict[str, Any]]) -> None:
    schema = pa.schema([("user_id", pa.string()), ("as_of", TIME), ("scenario", pa.string()), ("label", pa.int64())])
    deltalake.write_deltalake(d.table("labels"), pa.Table.from_pylist(rows, schema), mode="overwrite")


@pytest.fixture(scope="module")
def lived(spark, tmp_path_factory) -> SimpleNamespace:
    d = deploy(
        tmp_path_factory.mktemp("report"),
        sources=DEPLOYMENT["sources"][:1],
        attributes=ATTRIBUTES,
        scenarios=SCENARIOS,
        userqa={"questions": "questions.yaml", "as_of": ["2025-02-20"]},
    )
    with_questions(d, [*FEW_QUESTIONS, FUTURE])
    lake = {name: make_lake()[name] for name in ("bills", "attributes")}
    lake["attributes"].append({"user_id": "quiet", "valid_from": START, "age": 50, "city": "A"})
    write(d, lake)
    users = sorted({row["user_id"] for row in lake["bills"] if row["user_id"] and row["user_id"].strip()})
    labels = [label(user, LABELLED[0], "food", n % 2) for n, user in enumerate([*users, "quiet", "nobody"])]
    labels += [label(users[0], LABELLED[1], "food", 1), labels[0], labels[1]]
    labels += [label("nobody", LABELLED[1], "film", 0), label(users[0], LABELLED[1], "film", 1)]
    write_labels(d, labels)
    return SimpleNamespace(d=d, lake=lake, labels=labels, result=check(spark, d, now=NOON))


def profiled(lived: SimpleNamespace, day: date) -> set[str]:
    """Return the users with an event in the window of 30 days before a day, read row by row."""
    source, end = lived.d.source("bill"), literal.when(f"{day}T00:00:00Z")
    _, rows = literal.split(source, lived.lake["bills"], end)
    return {row["user_id"] for row in rows if row["paid_at"] >= end - timedelta(days=source.window_days)}


def test_labels_are_counted_with_the_users_who_are_left_out(lived: SimpleNamespace) -> None:
    for scenario, repeated in (("food", 2), ("film", 0)):
        rows = [row for row in lived.labels if row["scenario"] == scenario]
        served = {row["user_id"] for row in rows if row["user_id"] in profiled(lived, row["as_of"].date())}
        users = {row["user_id"] for row in rows}
        result = lived.result.labels[scenario]
        assert (result.rows_in, result.labels, result.repeated) == (len(rows), len(rows) - repeated, repeated)
        assert (result.superseded, result.users, result.left_out) == (0, len(users), len(users - served))
    assert lived.result.labels["food"].left_out == 2
    assert lived.result.labels["film"].left_out == 1


def test_users_are_counted_with_those_who_have_attributes_alone(lived: SimpleNamespace) -> None:
    source = lived.d.source("bill")
    acting = {row["user_id"] for row in lived.lake["bills"] if literal.judge(source, row) is None}
    attributes = {row["user_id"] for row in lived.lake["attributes"] if row["user_id"] and row["user_id"].strip()}
    users = lived.result.users
    assert (users.known, users.without_events) == (len(acting | attributes), len(attributes - acting))
    assert users.without_events > 0
    assert lived.result.costs.users == len(profiled(lived, lived.result.as_of))


def test_the_cost_is_that_of_the_day_whatever_the_days_of_the_labels(lived: SimpleNamespace) -> None:
    now, then = profiled(lived, lived.result.as_of), profiled(lived, lived.result.as_of - timedelta(days=1))
    assert lived.result.costs.deactivated == len(then - now)
    assert lived.result.costs.new == len(now - then)


def test_the_page_says_what_is_left_out_and_what_may_leak(lived: SimpleNamespace, capsys: Any) -> None:
    terminal.out.print(check_page(lived.result))
    page = " ".join(capsys.readouterr().out.split())
    food, users = lived.result.labels["food"], lived.result.users
    for words in (
        f"food labels {food.rows_in} {food.labels} 2 0 {food.users} {food.left_out}",
        f"food: {food.left_out} of {food.users} labelled users have no profile at their label's as_of",
        f"{lived.result.costs.users} of {users.known} users of the source tables get a vector on 2025-03-01.",
        f"{users.without_events} have attributes and no event at any time.",
        "attributes.age is static: profiles of earlier days hold today's value, which may leak into questions about "
        "the future (next) and labels (food, film); declare `known_from: <day>`",
    ):
        assert words in page, words
    assert "attributes.city is static" not in page
    assert "would be refused" not in page


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            [label("u1", LABELLED[0], "food", 1), label("u1", LABELLED[0], "food", 0)],
            "labels that contradict each other",
        ),
        ([label("u1", LABELLED[0], "food", 2)], "scenario 'food' has labels such as 2; write 0 and 1"),
        ([{**label("u1", LABELLED[0], "food", 1), "label": None}], "label"),
        ([label("u1", LABELLED[0], "other", 1)], "there is no row of scenario 'food'"),
    ],
    ids=["contradictions", "a label of 2", "no label", "no row"],
)
def test_labels_that_evaluate_refuses_are_told(changed: list[Any], said: str, tmp_path: Path) -> None:
    d = deploy(tmp_path, scenarios=SCENARIOS[:1])
    write_labels(d, changed)
    labels, refusals = read_checked_labels(d)
    assert labels == {}
    [refusal] = refusals
    assert refusal.startswith("scenarios.food.labels = labels: ")
    assert said in refusal


def test_a_table_of_labels_that_is_not_there_is_told(tmp_path: Path) -> None:
    labels, [refusal] = read_checked_labels(deploy(tmp_path, scenarios=SCENARIOS[:1]))
    assert labels == {}
    assert "labels" in refusal


def test_of_labels_at_many_days_the_last_are_compared(tmp_path: Path) -> None:
    d = deploy(tmp_path, scenarios=SCENARIOS[:1])
    days = [date(2025, month, 1) for month in range(1, 13)]
    write_labels(d, [label("u1", day, "food", 1) for day in days])
    labels, _ = read_checked_labels(d)
    assert label_days(labels) == days[-4:]


def test_a_store_that_publish_refuses_is_told(published: Deployment, spark: Any, tmp_path: Path) -> None:
    first = copy(published, tmp_path / "first")
    update_online(spark, first)
    registry, database = (Path(first.resolve(first.store.folder), name) for name in ("registry.db", "online.db"))
    assert store_problem(first) is None
    online = {"type": "sqlite", "path": str(database)}
    copied = copy(first, tmp_path / "second")
    rows = deltalake.DeltaTable(copied.table("online_users")).to_pyarrow_table()
    shutil.rmtree(copied.table("online_users"))
    deltalake.write_deltalake(copied.table("online_users"), rows, partition_by=["project"])
    store = {"folder": "store", "registry": f"sqlite:///{registry}", "online": online}
    second = deploy(tmp_path / "second", **CHANGES, store=store)
    assert "holds the vectors of the lake with" in str(store_problem(second))


def test_nothing_is_said_of_a_store_without_vectors(tmp_path: Path) -> None:
    assert store_problem(deploy(tmp_path)) is None
