"""Assemble against a literal recount in Python: profiles, accounts, days, leaks and bad input."""

from __future__ import annotations

import json
from collections import Counter
from copy import deepcopy
from datetime import timedelta
from types import SimpleNamespace

import deltalake
import pyarrow as pa
import pytest

from jobs.lake import run_log, staleness
from jobs.lake.spark_tables import SourceError
from jobs.profiles.assemble import assemble
from jobs.training.registry import check_vector_spec
from model.serving.release import ReleaseError
from tests.support import literal
from tests.support.deployment import DEPLOYMENT, deploy
from tests.support.messy import CHANGES, DAY1, DAY2, SEARCHES, START, as_literal, day_rows, make_lake, write


def run_row(d, day):
    [row] = [row for row in day_rows(d, "job_runs", day) if row["job"] == "assemble"]
    return row


@pytest.fixture(scope="module")
def lived(spark, tmp_path_factory) -> SimpleNamespace:
    """Day 1; again with rows at or after its midnight added; then day 2 with events of a few users."""
    d = deploy(tmp_path_factory.mktemp("assemble"), **CHANGES)
    lake = make_lake()
    write(d, lake)
    seen = SimpleNamespace(d=d, lake=deepcopy(lake), first=assemble(spark, d, DAY1))
    seen.rows, seen.run, seen.rejected = (
        day_rows(d, "user_profiles", DAY1),
        run_row(d, DAY1),
        day_rows(d, "rejected_rows", DAY1),
    )
    users = sorted({row["user_id"] for row in lake["bills"] if row["user_id"]})
    lake["bills"] += [
        {
            "bill_id": f"leak{user}",
            "user_id": user,
            "paid_at": START + timedelta(days=3),
            "merchant": "Leak",
            "amount": 1.0,
            "ignored": None,
        }
        for user in users
    ]
    # The same id again at as_of: it must not turn the earlier copy into the repeat.
    lake["bills"] += [{**lake["bills"][0], "paid_at": START}, {**lake["bills"][1], "paid_at": START}]
    lake["attributes"] += [{"user_id": user, "valid_from": START, "age": 77, "city": "Leak"} for user in users]
    write(d, lake)
    seen.again, seen.rows_again, seen.run_again = (
        assemble(spark, d, DAY1),
        day_rows(d, "user_profiles", DAY1),
        run_row(d, DAY1),
    )
    lake["searches"] += [
        {"user_id": user, "searched_at": "2025-03-01T10:00:00Z", "query": "new"} for user in ("u0", "fresh", "fresh")
    ]
    write(d, lake)
    seen.lake2, seen.second, seen.rows2 = lake, assemble(spark, d, DAY2), day_rows(d, "user_profiles", DAY2)
    return seen


def test_profiles_are_what_a_literal_reading_of_the_rows_gives(lived):
    expected, _ = literal.profiles(lived.d, lived.lake, DAY1)
    assert sorted(lived.rows) == sorted(expected)
    for user, profile in expected.items():
        assert as_literal(lived.rows[user], lived.d) == profile, user
    assert {row["as_of"] for row in lived.rows.values()} == {START}
    assert lived.first.users == lived.first.changed == len(expected)


def test_plans_that_spark_compiles_give_the_same(spark, lived, tmp_path):
    """As everywhere but in these tests."""
    d = deploy(tmp_path, **CHANGES)
    write(d, make_lake())
    ours = {key: spark.conf.get(key) for key in ("spark.sql.codegen.wholeStage", "spark.sql.codegen.factoryMode")}
    try:
        for key, value in zip(ours, ("true", "CODEGEN_ONLY"), strict=True):
            spark.conf.set(key, value)
        assemble(spark, d, DAY1)
    finally:
        for key, value in ours.items():
            spark.conf.set(key, value)
    assert ours == {"spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN"}
    assert day_rows(d, "user_profiles", DAY1) == lived.rows


def test_every_row_is_accounted_for(lived):
    _, went = literal.profiles(lived.d, lived.lake, DAY1)
    assert set(lived.first.accounts) == {"bill", "search", "attributes"}
    for name, account in lived.first.accounts.items():
        counts = went[name]
        assert account.balanced
        assert {
            key: getattr(account, key)
            for key in ("rows_in", "used", "after", "outside", "over", "repeated", "superseded", "rejected")
        } == {
            key: counts[key]
            for key in ("rows_in", "used", "after", "outside", "over", "repeated", "superseded", "rejected")
        }, name
    # 2090 and 2095 are times, later than any clock; 2100 and 2105 are mistakes.
    assert lived.first.accounts["bill"].later == 2
    assert (
        min(
            lived.first.accounts["bill"].over,
            lived.first.accounts["bill"].repeated,
            lived.first.accounts["search"].outside,
        )
        > 0
    )


def test_the_run_says_what_was_left_out_and_why(lived):
    _, went = literal.profiles(lived.d, lived.lake, DAY1)
    left_out, details = dict(lived.run["left_out"]), json.loads(lived.run["details"])
    assert lived.run["status"] == "ok"
    assert lived.run["rows_in"] == sum(count["rows_in"] for count in went.values())
    assert lived.run["rows_in"] == sum(left_out.values()) + sum(count["used"] for count in went.values())
    assert left_out["search: rejected, time does not parse"] == went["search"]["time does not parse"] == 4
    assert left_out["bill: rejected, time before 1970 or after 2099"] == 4
    assert dict(lived.run["versions"]) == {"bills": 0, "searches": 0, "attributes": 0}
    [run] = run_log.read_runs(lived.d, "assemble", first=DAY1, last=DAY1)
    check_vector_spec(lived.d, run)
    other = deploy(lived.d.path.parent / "other", **CHANGES | {"sources": DEPLOYMENT["sources"]})
    with pytest.raises(ReleaseError, match=r"sources\.bill\.template: .*\nrun `instructue assemble --as-of 2025"):
        check_vector_spec(other, run)
    week = literal.split(lived.d.source("bill"), lived.lake["bills"], START)[1]
    assert details["aggregates"]["bills_7d"] == sum(row["paid_at"] >= START - timedelta(days=7) for row in week)


def test_refused_rows_are_kept_with_their_reason(lived):
    reasons = Counter((row["source"], row["reason"]) for row in lived.rejected)
    assert reasons == {
        ("bill", "no user id"): 2,
        ("bill", "empty user id"): 2,
        ("bill", "no time"): 1,
        ("bill", "time before 1970 or after 2099"): 4,
        ("search", "no time"): 1,
        ("search", "time does not parse"): 4,
        ("search", "time before 1970 or after 2099"): 1,
        ("attributes", "no user id"): 1,
        ("attributes", "no time"): 1,
    }
    [row] = [row for row in lived.rejected if row["source"] == "search" and row["reason"] == "no time"]
    assert json.loads(row["row"]) == {"user_id": "u2", "searched_at": None, "query": "tea"}


def test_what_happens_at_or_after_as_of_changes_nothing(lived):
    assert lived.rows_again == lived.rows
    assert lived.again.accounts["bill"].after > lived.first.accounts["bill"].after


def test_a_rerun_that_finds_the_same_rows_does_not_write(lived):
    assert (lived.first.replaced, lived.again.replaced) == (True, False)
    assert lived.run_again["replaced_at"] == lived.run["replaced_at"]
    assert lived.run_again["started_at"] > lived.run["finished_at"]


def test_the_next_day_holds_who_changed_and_who_ended(lived):
    before, _ = literal.profiles(lived.d, lived.lake, DAY1)
    after, _ = literal.profiles(lived.d, lived.lake2, DAY2)
    changed = {
        user for user, profile in after.items() if before.get(user, {}).get("profile_hash") != profile["profile_hash"]
    }
    deactivated = set(before) - set(after)
    assert "leaving" in deactivated
    assert "fresh" in changed
    assert set(lived.rows2) == changed | deactivated
    assert (lived.second.changed, lived.second.deactivated) == (len(changed), len(deactivated))
    for user in changed:
        assert as_literal(lived.rows2[user], lived.d) == after[user]
    for user in deactivated:
        row = lived.rows2[user]
        assert (row["profile_hash"], row["bill"], row["search"]) == (None, [], [])


def test_a_late_row_replaces_its_day_and_makes_the_next_stale(spark, lived):
    d, lake = lived.d, deepcopy(lived.lake2)
    assert staleness.stale_reason(d, "assemble", DAY2) is None
    lake["searches"] += [{"user_id": "late", "searched_at": "2025-02-20", "query": "tea"}] * 2
    write(d, lake)
    done = assemble(spark, d, DAY1)
    assert done.replaced
    assert "late" in day_rows(d, "user_profiles", DAY1)
    assert "was replaced" in staleness.stale_reason(d, "assemble", DAY2)


def test_too_many_refused_rows_stop_the_job_before_it_writes(spark, deployment):
    d = deployment(max_reject_share=0.2, sources=CHANGES["sources"][:1])
    rows = make_lake()["bills"][:20]
    broken = [{**row, "user_id": None} for row in rows[:6]]
    write(d, {"bills": rows + broken})
    with pytest.raises(SourceError, match=r"bill: 6 of 26.*raise max_reject_share"):
        assemble(spark, d, DAY1)
    assert not deltalake.DeltaTable.is_deltatable(d.table("user_profiles"))
    assert len(day_rows(d, "rejected_rows", DAY1)) == 6
    assert (run_row(d, DAY1)["status"], run_row(d, DAY1)["rows_in"]) == ("failed", 26)


def test_a_wrong_mapping_is_refused_with_every_mistake(spark, deployment):
    flags = pa.table({"user_id": ["a"], "searched_at": [True], "query": [[1]]})
    d = deployment(
        **{
            **CHANGES,
            "attributes": {**CHANGES["attributes"], "table": "nowhere"},
            "sources": [{**CHANGES["sources"][0], "user": "customer"}, CHANGES["sources"][1]],
        }
    )
    write(d, {"bills": []})
    deltalake.write_deltalake(d.table("searches"), flags)
    with pytest.raises(SourceError) as refused:
        assemble(spark, d, DAY1)
    message = str(refused.value)
    assert "4 errors" in message
    assert "sources.bill.user = customer: table bills has no such column; use one of bill_id, user_id" in message
    assert "sources.search.time = searched_at: column of searches is boolean; name a column of timest" in message
    assert "sources.search.template = query: column of searches is array<bigint>" in message
    assert "attributes.table = nowhere: there is no Delta table at" in message


def test_another_source_needs_configuration_alone(spark, deployment):
    """A source and attributes under other names, with numbers for users and ids; beside it an empty one."""
    apps = {
        "name": "app",
        "table": "installs",
        "user": "customer",
        "time": "when",
        "id": "nr",
        "template": "{package} ({size:amount_band}) on {when:weekday} at {when:hour} in {when:month}",
        "max_events": 2,
        "window_days": 19,
    }
    changes = {
        "sources": [apps, DEPLOYMENT["sources"][1]],
        "max_reject_share": 0.5,
        "attributes": {
            "table": "clients",
            "user": "customer",
            "static": True,
            "numbers": [{"name": "age", "column": "Age"}],
            "categories": [{"name": "city_tier", "column": "cityTier"}],
        },
    }
    d = deployment(**changes)
    rows = [
        {"customer": 12, "when": "2025-02-27 08:30:00", "nr": 9, "package": "Maps", "size": 3},
        {"customer": 12, "when": "2025-02-27T08:30:00", "nr": 10, "package": "Chess", "size": None},
        {"customer": 12, "when": "2025-02-20", "nr": 1, "package": "Mail", "size": -70},
        {"customer": 2**40, "when": "2025-02-09T23:59:59.999999", "nr": 2, "package": "Old", "size": 1},
        {"customer": 2**40, "when": "2025-02-10T00:00:00+01:00", "nr": 3, "package": "Old", "size": 1},
        {"customer": None, "when": "2025-02-20", "nr": 4, "package": "Lost", "size": 1},
    ]
    deltalake.write_deltalake(d.table("installs"), pa.Table.from_pylist(rows))
    deltalake.write_deltalake(d.table("searches"), pa.Table.from_pylist([], schema=SEARCHES))
    clients = [{"customer": 12, "Age": 41, "cityTier": "1st"}, {"customer": 13, "Age": 52, "cityTier": None}]
    deltalake.write_deltalake(d.table("clients"), pa.Table.from_pylist(clients))
    done = assemble(spark, d, DAY1)
    profiles = day_rows(d, "user_profiles", DAY1)
    expected, _ = literal.profiles(d.model_copy(update={"attributes": None}), {"installs": rows, "searches": []}, DAY1)
    assert {user: row["app"] for user, row in profiles.items()} == {
        user: [{"event_time": t, "text": words, "gap": gap} for t, words, gap in profile["app"]]
        for user, profile in expected.items()
    }
    # Number 10 comes after number 9 of the same moment, as a number does and a text would not.
    assert [event["text"] for event in profiles["12"]["app"]] == [
        "Maps (2 to 5) on Thursday at 08:00 in February",
        "Chess (unknown amount) on Thursday at 08:00 in February",
    ]
    assert list(profiles) == ["12"]
    assert profiles["12"]["tabular"] == {"age": 41.0, "city_tier": "1st"}
    assert (done.accounts["search"].rows_in, done.accounts["search"].balanced) == (0, True)
    assert done.accounts["app"].outside == 2
