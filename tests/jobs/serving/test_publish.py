"""Publish: whole rows of a day, and an online store that equals the latest rows, in every case."""

from __future__ import annotations

import sqlite3
from datetime import date, timedelta
from pathlib import Path

import deltalake
import pytest

from jobs.lake import run_log, spark_tables, staleness
from jobs.lake.delta import midnight
from jobs.serving.online_update import OnlineUpdate, PublishError, update_online
from jobs.serving.publish import NotReadyError, publish
from tests.support.deployment import deploy
from tests.support.embedded import (
    CHANGES,
    DAY1,
    DAY2,
    DAY3,
    DAYS,
    SCENARIOS,
    USERS,
    assert_online,
    copy,
    embed,
    ended,
    latest,
    online,
    some,
)

FEAST_TABLE = "instructue_user_vectors"


def sqlite(deployment) -> sqlite3.Connection:
    return sqlite3.connect(Path(deployment.resolve(deployment.store.folder)) / "online.db")


def test_a_day_holds_the_whole_row_of_each_user_touched(published):
    table = deltalake.DeltaTable(published.table("user_vectors")).to_pyarrow_table().to_pylist()
    for day, rows in DAYS.items():
        stored = {row["user_id"]: row for row in table if row["day"] == day}
        assert stored.keys() == {user for user, _ in rows}
        standing = latest(day)
        for user, row in stored.items():
            assert row["as_of"] == midnight(day)
            for scenario in SCENARIOS:
                vector, at = standing.get((user, scenario), (None, None))
                assert row[scenario] == (None if vector is None else vector.astype("<f2").tobytes())
                assert row[f"{scenario}_as_of"] == (None if at is None else midnight(at))
                assert row[f"{scenario}_model_version"] == (None if vector is None else "m1")


def test_online_says_what_the_latest_rows_say(published):
    assert_online(published)


def test_a_rerun_and_a_past_day_change_nothing(published, spark, tmp_path):
    deployment = copy(published, tmp_path / "copy")
    version = deltalake.DeltaTable(deployment.table("user_vectors")).version()
    progress = []
    done = publish(spark, deployment, DAY1, lambda *counts: progress.append(counts))
    assert (done.replaced, done.online_skipped, done.online, done.written, done.cleared) == (False, None, 38, 0, 0)
    assert progress == [(38, 38)]
    assert deltalake.DeltaTable(deployment.table("user_vectors")).version() == version
    assert_online(deployment)


def test_a_past_day_that_changes_is_served_only_when_the_days_after_it_are_made_again(published, spark, tmp_path):
    deployment = copy(published, tmp_path / "copy")
    days = {**DAYS, DAY1: some(7, USERS[:38])}
    embed(spark, deployment, DAY1, days[DAY1])
    with pytest.raises(PublishError, match=rf"{DAY3} cannot be published: embed .* --as-of {DAY2} --through {DAY3}"):
        publish(spark, deployment, DAY3)
    assert_online(deployment)
    embed(spark, deployment, DAY2, days[DAY2])
    embed(spark, deployment, DAY3, days[DAY3])
    with pytest.raises(PublishError, match=rf"{DAY3} cannot be published before {DAY2} is.* --as-of {DAY1}"):
        publish(spark, deployment, DAY3)
    first = publish(spark, deployment, DAY1)
    assert first.replaced
    assert f"--as-of {DAY2} --through {DAY3}" in str(first.online_skipped)
    assert_online(deployment)
    publish(spark, deployment, DAY2)
    last = publish(spark, deployment, DAY3)
    assert last.online_skipped is None
    assert last.written == len({user for user, _ in latest(DAY3, days)} - {"u05", "u11", *USERS[38:]})
    assert_online(deployment, days)


def test_a_day_waits_for_the_days_before_it(spark, tmp_path):
    deployment = deploy(tmp_path, **CHANGES)
    with pytest.raises(PublishError, match="embed has not run"):
        publish(spark, deployment, DAY1)
    embed(spark, deployment, DAY1, some(1, ("u00", "u01")))
    embed(spark, deployment, DAY2, some(2, ("u00",)))
    with pytest.raises(PublishError, match=rf"run `instructue publish --as-of {DAY1} --through {DAY2}`"):
        publish(spark, deployment, DAY2)
    assert not Path(deployment.resolve("store/online.db")).exists()
    # A day named by mistake holds nothing back.
    with pytest.raises(PublishError, match="embed has not run"):
        publish(spark, deployment, date(2027, 1, 1))
    assert publish(spark, deployment, DAY1).online_skipped is None
    assert publish(spark, deployment, DAY2).online_skipped is None


def test_a_refused_publish_leaves_a_good_day_as_it_was(published, spark, tmp_path):
    deployment = copy(published, tmp_path / "copy")
    [before] = run_log.read_runs(deployment, "publish", first=DAY3)
    with pytest.raises(KeyError), spark_tables.job_run(spark, deployment, "embed", DAY3):
        raise KeyError("a worker was lost")
    with pytest.raises(NotReadyError, match="embed's last run for 2025-03-04 did not succeed"):
        publish(spark, deployment, DAY3)
    [after] = run_log.read_runs(deployment, "publish", first=DAY3)
    assert "cannot be published" in after.details.pop("refused")
    assert after == before
    embed(spark, deployment, DAY3, DAYS[DAY3])
    assert staleness.stale_reason(deployment, "publish", DAY3) is None


def test_rows_that_the_store_lost_are_written_again(published, spark, tmp_path):
    deployment = copy(published, tmp_path / "copy")
    with sqlite(deployment) as store:
        store.execute(f"DELETE FROM {FEAST_TABLE} WHERE instr(entity_key, 'u03') > 0")
        store.execute(f"UPDATE {FEAST_TABLE} SET value = x'' WHERE instr(entity_key, 'u04') AND feature_name = 'food'")
    store.close()
    assert update_online(spark, deployment) == OnlineUpdate(online=38, written=2, cleared=0)
    assert_online(deployment)


def test_a_user_erased_from_the_lake_is_erased_online(published, spark, tmp_path):
    deployment = copy(published, tmp_path / "copy")
    for table in ("user_embeddings", "user_vectors"):
        deltalake.DeltaTable(deployment.table(table)).delete("user_id = 'u20'")
    assert update_online(spark, deployment) == OnlineUpdate(online=37, written=0, cleared=1)
    kept = {day: {key: vector for key, vector in rows.items() if key[0] != "u20"} for day, rows in DAYS.items()}
    assert_online(deployment, kept)
    left = f"SELECT max(length(value)) FROM {FEAST_TABLE} WHERE instr(entity_key, 'u20') > 0"
    assert sqlite(deployment).execute(left).fetchone() == (0,)
    assert update_online(spark, deployment) == OnlineUpdate(online=37, written=0, cleared=0)
    users = deltalake.DeltaTable(deployment.table("online_users")).to_pyarrow_table()["user_id"].to_pylist()
    assert sorted(users) == sorted({user for user, _ in latest(DAY3)} - {"u20"})


def test_the_vectors_of_a_removed_scenario_leave_the_online_store(published, spark, tmp_path):
    copy(published, tmp_path / "copy")
    fewer = deploy(tmp_path / "copy", scenarios=CHANGES["scenarios"][:1])
    day = DAY3 + timedelta(days=1)
    standing = latest(DAY3)
    with_film = {user for user, scenario in standing if scenario == "film"}
    embed(spark, fewer, day, ended(*with_film, scenarios=("film",)))
    assert publish(spark, fewer, day).online == len({user for user, _ in standing})
    assert online(fewer).keys() == {key for key in standing if key[1] != "film"}
    stored = f"SELECT feature_name, max(length(value)) FROM {FEAST_TABLE} GROUP BY feature_name"
    lengths = dict(sqlite(fewer).execute(stored).fetchall())
    assert {name: length for name, length in lengths.items() if name.startswith("film")} == {
        "film": 0,
        "film_model_version": 0,
        "film_as_of": 0,
    }
    assert lengths["food"] > 0
    table = deltalake.DeltaTable(fewer.table("user_vectors")).to_pyarrow_table().sort_by("day").to_pylist()
    last = {row["user_id"]: row["film"] for row in table}
    assert {last[user] for user in with_film} == {None}
    assert publish(spark, fewer, day).written == 0


def test_a_store_that_loses_writes_is_noticed(published, spark, tmp_path):
    deployment = copy(published, tmp_path / "copy")
    with sqlite(deployment) as store:
        store.execute(f"DELETE FROM {FEAST_TABLE} WHERE instr(entity_key, 'u03') > 0")
        store.execute(f"CREATE TRIGGER full BEFORE INSERT ON {FEAST_TABLE} BEGIN SELECT RAISE(IGNORE); END")
    store.close()
    with pytest.raises(PublishError, match=r"does not hold what was written for 1 of 1 users \(u03"):
        publish(spark, deployment, DAY3)
    assert staleness.stale_reason(deployment, "publish", DAY3) == f"publish's last run for {DAY3} did not succeed"


def test_vectors_of_two_widths_are_refused_and_a_new_width_is_served(published, spark, tmp_path):
    deployment = copy(published, tmp_path / "copy")
    last: date = DAY3 + timedelta(days=1)
    narrow = {key: vector[:8] for key, vector in some(9, USERS).items()}
    embed(spark, deployment, last, {key: vector for key, vector in narrow.items() if key[0] == "u00"})
    with pytest.raises(PublishError, match="vectors of 8 and of 16 values"):
        publish(spark, deployment, last)
    assert_online(deployment)
    embed(spark, deployment, last, {**narrow, **ended("u01")})
    assert publish(spark, deployment, last).online == len(USERS) - 1
    assert {len(vector.vector) for vector in online(deployment).values()} == {8}
