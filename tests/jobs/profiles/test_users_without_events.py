"""Users without an event in the window (`eligible.min_events: 0`): every job computes them, from attributes alone."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import deltalake
import numpy as np
import pyarrow as pa
import pytest
import yaml

from jobs.cli.pages.check import check_page
from jobs.config.deployment import Deployment
from jobs.console.terminal import out
from jobs.lake.spark_tables import read_table
from jobs.operations.check import check
from jobs.profiles.assemble import assemble
from jobs.profiles.build import build_profiles
from jobs.profiles.source_tables import open_sources
from jobs.serving.ask import ask
from jobs.serving.embed import embed
from jobs.serving.lookup import lookup
from jobs.serving.publish import publish
from jobs.training.export import export
from jobs.training.registry import open_release
from jobs.training.train import train
from jobs.training.training_inputs import network_config
from jobs.userqa.userqa import userqa
from model.data.rendering import render
from model.serving.onnx_runtime import load
from tests.support import literal, messy
from tests.support.changed_deployment import changed, read
from tests.support.deployment import deploy
from tests.support.error_page import case, refused
from tests.support.messy import ATTRIBUTES, SEARCHES, as_literal, day_rows
from tests.support.userqa_lake import question

CUT_OFF, DAY1, DAY2 = date(2025, 1, 1), date(2025, 3, 1), date(2025, 3, 2)
START = datetime(2025, 3, 1, tzinfo=UTC)
BILLS = pa.schema([field for field in messy.BILLS if field.name != "ignored"])
CHANGES: dict[str, Any] = {
    "attributes": {"table": "attributes", "valid_from": "valid_from", "numbers": ["age"], "categories": ["city"]},
    "aggregates": [
        {"name": "spent", "source": "bill", "function": "sum", "column": "amount", "window_days": 30},
        {"name": "mean_spent", "source": "bill", "function": "mean", "column": "amount", "window_days": 30},
        {"name": "favourite", "source": "bill", "function": "top", "column": "merchant", "window_days": 30},
        {"name": "spent_in_city", "source": "bill", "function": "sum", "column": "amount", "per": "city"},
    ],
    "scenarios": [{"name": "food", "instruction": "Will this user order food?"}],
    "eligible": {"min_events": 0},
    "userqa": {"questions": "questions.yaml", "as_of": [str(CUT_OFF)]},
    "model": {
        "network": {
            "shared_encoder": True,
            "backbone": {"layers": 1},
            "encoder": {"layers": 1, "width": 32, "heads": 2, "feedforward": 32},
        },
        "training": {"steps": 2, "profiles_per_step": 8, "instructed_pairs": 1},
    },
}
QUESTIONS = {
    "questions": [
        question("old", "attribute", "value", {"bands": [40], "text": "{band}."}, source="tabular", value="age"),
        question("often", "attribute", "count", {"bands": [2], "text": "{times}.", "none": "Never."}, days=30),
        question("next", "future", "count", {"yes_from": 1, "text": "Yes.", "none": "No."}, days=30),
    ],
    "general": [["old", "often"]],
}
WITHOUT_EVENTS = {"quiet-1": (30, "Ulm"), "quiet-2": (70, "Bonn"), "quiet-3": (70, None), "leaving": (50, "Ulm")}
"""Users with attributes, who have no event on the second day."""


def bill(user: str, days: float, amount: float = 5.0) -> dict[str, Any]:
    at = START - timedelta(days=days)
    return {"bill_id": f"{user}-{days}", "user_id": user, "paid_at": at, "merchant": "Lu", "amount": amount}


def make_lake() -> dict[str, list[dict[str, Any]]]:
    bills = [bill(f"busy-{n}", days, 3.0 * n) for n in range(8) for days in (1, 5, 62)]
    # The last event of these two leaves the window of 30 days between the days; only one of them has attributes.
    bills += [bill(user, 29.5) for user in ("leaving", "bare")]
    bills += [bill("long ago", 90), bill("tomorrow", -5)]
    people = {**WITHOUT_EVENTS, **{f"busy-{n}": (20 + 5 * n, "Ulm") for n in range(8)}}
    attributes = [
        {"user_id": user, "valid_from": datetime(2024, 6, 1, tzinfo=UTC), "age": age, "city": city}
        for user, (age, city) in people.items()
    ]
    attributes += [
        {"user_id": "quiet-1", "valid_from": START + timedelta(hours=5), "age": 31, "city": "Ulm"},
        {"user_id": "known on the second day", "valid_from": START + timedelta(hours=9), "age": 18, "city": "Kiel"},
        {"user_id": "known after both days", "valid_from": START + timedelta(days=9), "age": 18, "city": "Kiel"},
        {"user_id": "known, and empty", "valid_from": START - timedelta(days=9), "age": None, "city": " "},
    ]
    return {"bills": bills, "searches": [], "attributes": attributes}


def write(d: Deployment, lake: dict[str, list[dict[str, Any]]]) -> None:
    for name, schema in (("bills", BILLS), ("searches", SEARCHES), ("attributes", ATTRIBUTES)):
        deltalake.write_deltalake(d.table(name), pa.Table.from_pylist(lake[name], schema=schema), mode="overwrite")


@pytest.fixture(scope="module")
def company(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A lake of which most users have no event, taken through every job on two days."""
    folder = tmp_path_factory.mktemp("quiet")
    d, lake = deploy(folder, **CHANGES), make_lake()
    (folder / "questions.yaml").write_text(yaml.safe_dump(QUESTIONS))
    write(d, lake)
    assembled = [assemble(spark, d, DAY1)]
    asked_about = userqa(spark, d)
    train(d)
    export(d, promote=True, decoder=True)
    embedded = [embed(spark, d, DAY1)]
    publish(spark, d, DAY1)
    assembled.append(assemble(spark, d, DAY2))
    embedded.append(embed(spark, d, DAY2))
    publish(spark, d, DAY2)
    return SimpleNamespace(d=d, lake=lake, assembled=assembled, embedded=embedded, userqa=asked_about)


def test_profiles_of_two_days_are_what_plain_python_computes(spark: Any, deployment: Any) -> None:
    d, lake = deployment(**CHANGES), make_lake()
    write(d, lake)
    profiles = build_profiles(d, open_sources(d, partial(read_table, spark, d)), [DAY1, DAY2])
    rows = profiles.rows.toArrow().to_pylist()
    profiles.release()
    for day in (DAY1, DAY2):
        expected, _ = literal.profiles(d, lake, day)
        assert {row["user_id"]: as_literal(row, d) for row in rows if row["as_of"].date() == day} == expected
        assert profiles.totals[day].users == len(expected)
    assert {"bare", "long ago", "tomorrow", "known after both days"}.isdisjoint(expected)
    assert {*WITHOUT_EVENTS, "known on the second day", "known, and empty"} <= set(expected)


@pytest.mark.slow
def test_both_days_hold_what_plain_python_computes(company: SimpleNamespace) -> None:
    d, latest = company.d, {}
    for day, result in zip((DAY1, DAY2), company.assembled, strict=True):
        expected, counts = literal.profiles(d, company.lake, day)
        rows = day_rows(d, "user_profiles", day)
        hashes = {user: profile["profile_hash"] for user, profile in expected.items()}
        assert set(rows) == {user for user in hashes | latest if hashes.get(user) != latest.get(user)}
        for user, row in rows.items():
            if user in expected:
                assert as_literal(row, d) == expected[user], (day, user)
        assert result.users == len(expected)
        assert all(account.balanced for account in result.accounts.values())
        assert result.accounts["attributes"].used == counts["attributes"]["used"]
        latest = hashes
    assert {user for user in latest if user.startswith("quiet") or user == "leaving"} == set(WITHOUT_EVENTS)
    assert {"known on the second day", "known, and empty"} <= set(latest)
    assert {"bare", "long ago", "tomorrow", "known after both days"}.isdisjoint(latest)


@pytest.mark.slow
def test_who_loses_the_last_event_stays_if_they_have_attributes(company: SimpleNamespace) -> None:
    second = day_rows(company.d, "user_profiles", DAY2)
    assert (second["leaving"]["bill"], second["leaving"]["ages"]) == ([], {"bill": None, "search": None})
    assert second["leaving"]["profile_hash"] is not None
    assert second["bare"]["profile_hash"] is None
    assert company.assembled[1].deactivated == 1
    assert company.embedded[1].deactivated == 1


@pytest.mark.slow
def test_values_over_no_event_are_null_or_zero(company: SimpleNamespace) -> None:
    assert day_rows(company.d, "user_profiles", DAY1)["quiet-2"]["tabular"] == {
        "age": 70.0,
        "spent": 0.0,
        "mean_spent": None,
        "spent_in_city": None,  # nobody in Bonn spends
        "city": "Bonn",
        "favourite": None,
    }
    assert day_rows(company.d, "user_profiles", DAY1)["quiet-1"]["tabular"]["spent_in_city"] == 0.0


@pytest.mark.slow
def test_training_profiles_hold_them_with_questions(company: SimpleNamespace) -> None:
    pairs = deltalake.DeltaTable(company.d.table("userqa")).to_pyarrow_table().to_pylist()
    answers = {pair["question"]: pair["answer"] for pair in pairs if pair["user_id"] == "quiet-2"}
    assert answers == {"old": "40 or more.", "often": "Never.", "next": "No.", "general": "40 or more. Never."}
    assert company.userqa.profiles == 12  # eight busy users and four quiet ones


def vectors(d: Deployment, users: list[str]) -> dict[str, np.ndarray]:
    return {answer.user_id: answer.vectors["food"].vector for answer in lookup(d, users)}


@pytest.mark.slow
def test_each_has_a_unit_vector_that_follows_the_attributes(company: SimpleNamespace) -> None:
    users = [*WITHOUT_EVENTS, "known, and empty", "known on the second day"]
    online = vectors(company.d, users)
    assert set(online) == set(users)
    for vector in online.values():
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-2)
    assert min(np.abs(online["quiet-1"] - online[user]).max() for user in users[1:]) > 1e-3
    assert np.abs(online["quiet-2"] - online["quiet-3"]).max() > 1e-3


@pytest.mark.slow
def test_a_vector_does_not_depend_on_the_batch(company: SimpleNamespace) -> None:
    runtime = load(open_release(company.d).path)
    rows = deltalake.DeltaTable(company.d.table("user_profiles")).to_pyarrow_table(filters=[("day", "=", DAY1)])
    together = runtime.embed(rows)
    empty = [number for number, bills in enumerate(rows["bill"].to_pylist()) if not bills]
    assert len(empty) == 4
    np.testing.assert_allclose(runtime.embed(rows.take(empty)), together[empty], atol=1e-5)  # no text at all
    for number in empty:
        np.testing.assert_allclose(runtime.embed(rows.slice(number, 1))[0], together[number], atol=1e-5)


@pytest.mark.slow
def test_a_profile_without_events_is_rendered(company: SimpleNamespace) -> None:
    rows = deltalake.DeltaTable(company.d.table("user_profiles")).to_pyarrow_table(filters=[("day", "=", DAY1)])
    number = rows["user_id"].to_pylist().index("quiet-3")
    assert render(rows, network_config(company.d))[number].split("\n") == [
        *("<bill>", "none", "</bill>", "<search>", "none", "</search>"),
        *("age: 70", "spent: 0", "mean_spent: unknown", "spent_in_city: unknown", "city: unknown"),
        "favourite: unknown",
    ]


@pytest.mark.slow
def test_they_can_be_asked_about(company: SimpleNamespace) -> None:
    [answer] = ask(company.d, "Will this user order food?", ["quiet-2"])
    assert np.isfinite(answer.embedding).all()
    assert answer.similar["food"] == pytest.approx(1, abs=1e-3)


@pytest.mark.slow
def test_check_counts_them(company: SimpleNamespace, spark: Any) -> None:
    result = check(spark, company.d, DAY2, now=START + timedelta(days=40))
    assert result.costs.users == company.assembled[1].users
    with out.capture() as page:
        out.print(check_page(result))
    assert "nan" not in page.get().lower()


@pytest.mark.slow
def test_a_lake_without_any_event_is_checked_and_assembled(spark: Any, deployment: Any) -> None:
    d = deployment(**CHANGES)
    d.path.with_name("questions.yaml").write_text(yaml.safe_dump(QUESTIONS))
    write(d, {"bills": [], "searches": [], "attributes": make_lake()["attributes"]})
    assert assemble(spark, d, DAY1).users == 13
    result = check(spark, d, DAY1, now=START + timedelta(days=40))
    assert result.costs.users == 13
    with out.capture() as page:
        out.print(check_page(result))
    assert "nan" not in page.get().lower()


@pytest.mark.parametrize(
    ("wrong", "content"),
    [
        case("no event and no attributes", {**changed("eligible.min_events", 0), "attributes": None}),
        case(
            "fewer than no event",
            changed("eligible.min_events", -1),
            said="eligible.min_events = -1: Input should be greater than or equal to 0",
        ),
    ],
)
def test_users_with_nothing_are_refused(wrong: str, content: dict[str, Any], tmp_path: Path) -> None:
    with refused(wrong):
        read(content, tmp_path)
