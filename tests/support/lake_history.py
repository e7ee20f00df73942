"""A lake of messy rows with every version of its tables, and the profiles that each assembled day must hold."""

from __future__ import annotations

from copy import deepcopy

import deltalake

from jobs.lake import run_log, staleness
from jobs.profiles.assemble import assemble
from tests.support import literal
from tests.support.deployment import deploy
from tests.support.messy import CHANGES, as_literal, day_rows, make_lake, write


class History:
    """A lake, and the rows of every version of its tables."""

    def __init__(self, spark, folder):
        self.spark, self.d, self.lake, self.versions = spark, deploy(folder, **CHANGES), make_lake(), {}
        self.write()

    def write(self) -> None:
        write(self.d, self.lake)
        for table, rows in self.lake.items():
            version = deltalake.DeltaTable(self.d.table(table)).version()
            self.versions[table, version] = deepcopy(rows)

    def arrive(self, *users, at, query="late"):
        """Add two searches of each of these users, at a time."""
        self.lake["searches"] += [
            {"user_id": user, "searched_at": at.isoformat(), "query": query} for user in users for _ in range(2)
        ]
        self.write()

    def run(self, day, **more):
        return assemble(self.spark, self.d, day, **more)

    def read_by(self, day) -> dict[str, int]:
        """Return the version of each source that a day's run read."""
        [run] = [run for run in run_log.read_runs(self.d, "assemble") if run.day == day]
        return {table: run.versions[table] for table in self.lake}

    def require_as_recomputed_in_order(self):
        """Assert that each day holds what `literal.profiles` gives for the versions that its run read."""
        latest, runs = {}, run_log.read_runs(self.d, "assemble")
        assert not [run.day for run in runs if staleness.stale_reason(self.d, "assemble", run.day)]
        for run in runs:
            lake = {table: self.versions[table, version] for table, version in self.read_by(run.day).items()}
            profiles, _ = literal.profiles(self.d, lake, run.day)
            hashes = {user: profile["profile_hash"] for user, profile in profiles.items()}
            changed = {user for user in hashes | latest if hashes.get(user) != latest.get(user)}
            rows = day_rows(self.d, "user_profiles", run.day)
            assert set(rows) == changed, run.day
            for user in changed & set(profiles):
                assert as_literal(rows[user], self.d) == profiles[user], (run.day, user)
            assert {user for user in rows if rows[user]["profile_hash"] is None} == changed - set(profiles)
            latest = {user: hashes.get(user) for user in hashes | latest}
