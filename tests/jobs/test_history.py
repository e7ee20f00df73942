"""Days that are late, skipped, run again or read from a source rewritten since, against recomputing them in order."""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime, timedelta

import deltalake
import pytest

from jobs import runs
from jobs.assemble import assemble
from jobs.lake import TableError
from tests.conftest import deploy
from tests.jobs import literal
from tests.jobs.messy import CHANGES, DAY1, START, as_literal, day_rows, make_lake, write

DAYS = [DAY1 + timedelta(days=n) for n in range(5)]


class History:
    """A lake whose every version is remembered as rows."""

    def __init__(self, spark, folder):
        self.spark, self.d, self.lake, self.versions = spark, deploy(folder, **CHANGES), make_lake(), {}
        self.write()

    def write(self) -> None:
        write(self.d, self.lake)
        for table, rows in self.lake.items():
            version = deltalake.DeltaTable(self.d.table(table)).version()
            self.versions[table, version] = deepcopy(rows)

    def arrive(self, *users, at, query="late"):
        """Two searches of each of these users, at a moment."""
        self.lake["searches"] += [{"user_id": user, "searched_at": at.isoformat(), "query": query}
                                  for user in users for _ in range(2)]
        self.write()

    def run(self, day, **more):
        return assemble(self.spark, self.d, day, **more)

    def require_as_recomputed_in_order(self):
        """Every day that was run holds what a literal reading of the versions that it read gives, day after day."""
        latest, found = {}, runs.read(self.d, "assemble")
        assert not [run.day for run in found if runs.stale(self.d, "assemble", run.day)]
        for run in found:
            lake = {table: self.versions[table, run.versions[table]] for table in self.lake}
            profiles, _ = literal.profiles(self.d, lake, run.day)
            hashes = {user: profile["profile_hash"] for user, profile in profiles.items()}
            changed = {user for user in hashes | latest if hashes.get(user) != latest.get(user)}
            rows = day_rows(self.d, "user_profiles", run.day)
            assert set(rows) == changed, run.day
            for user in changed & set(profiles):
                assert as_literal(rows[user], self.d) == profiles[user], (run.day, user)
            assert {user for user in rows if rows[user]["profile_hash"] is None} == changed - set(profiles)
            latest = {user: hashes.get(user) for user in hashes | latest}


@pytest.fixture
def history(spark, tmp_path) -> History:
    return History(spark, tmp_path)


def test_late_rows_a_skipped_day_a_past_day_again_and_a_source_rewritten(history):
    for day in (DAYS[0], DAYS[1], DAYS[3]):
        history.run(day)
    history.require_as_recomputed_in_order()

    # Rows of the past arrive: days that were run keep what they knew.
    history.arrive("u1", "late", at=START - timedelta(days=3))
    history.require_as_recomputed_in_order()

    # A past day again learns of them; the day after it is stale. A day skipped before is filled in between.
    assert history.run(DAYS[1]).replaced
    assert "late" in day_rows(history.d, "user_profiles", DAYS[1])
    assert [day for day in DAYS if not runs.stale(history.d, "assemble", day)] == [DAYS[0], DAYS[1]]
    assert runs.first_stale(history.d, "assemble", DAYS[4]) == DAYS[3]
    history.arrive("u2", at=START + timedelta(days=1, hours=3))
    for day in (DAYS[2], DAYS[3]):
        history.run(day)
    history.require_as_recomputed_in_order()

    # A source rewritten without half of its rows: who lived by them alone ends on the next day.
    history.lake["bills"] = history.lake["bills"][::2]
    history.lake["searches"] = [row for row in history.lake["searches"] if row["user_id"] != "late"]
    history.write()
    assert history.run(DAYS[4]).ended >= 1
    history.require_as_recomputed_in_order()


def test_a_past_run_is_repeated_on_the_tables_as_they_were(history):
    history.run(DAYS[0])
    before, read = day_rows(history.d, "user_profiles", DAYS[0]), runs.read(history.d, "assemble")[0].versions
    history.arrive("u1", "late", at=datetime(2025, 2, 20, tzinfo=UTC))
    assert not history.run(DAYS[0], source_versions=True).replaced
    assert day_rows(history.d, "user_profiles", DAYS[0]) == before
    # A repeated run notes the versions that it read, not the newest.
    assert runs.read(history.d, "assemble")[0].versions | read == runs.read(history.d, "assemble")[0].versions
    assert history.run(DAYS[0]).replaced
    history.require_as_recomputed_in_order()


def test_what_cannot_be_repeated_is_refused(history):
    with pytest.raises(TableError, match=r"no run of assemble for 2025-03-01 .* bills, searches, attributes"):
        history.run(DAYS[0], source_versions=True)
    history.arrive("u1", at=START)
    history.run(DAYS[0])
    # The table is made anew, under the same name.
    for commit in (history.d.path.parent / "lake" / "searches" / "_delta_log").glob("*"):
        commit.unlink()
    write(history.d, history.lake)
    with pytest.raises(TableError, match=r"searches at .* no longer has version 1"):
        history.run(DAYS[0], source_versions=True)
