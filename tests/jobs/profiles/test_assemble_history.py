"""Days that are late, skipped, run again or read from a source rewritten since, against recomputing them in order."""

from __future__ import annotations

from datetime import timedelta

import pytest

from jobs.lake import staleness
from jobs.lake.delta import TableError
from tests.support.messy import DAY1, START, day_rows, write

DAYS = [DAY1 + timedelta(days=n) for n in range(5)]


@pytest.mark.slow
def test_late_rows_a_skipped_day_a_past_day_repeated_and_again_and_a_source_rewritten(history):
    for day in (DAYS[0], DAYS[1], DAYS[3]):
        history.run(day)
    history.require_as_recomputed_in_order()

    # Rows of the past arrive: days that were run keep what they knew.
    history.arrive("u1", "late", at=START - timedelta(days=3))
    history.require_as_recomputed_in_order()

    # A past day repeated on the tables as they were is the same, and its run notes the versions that it read.
    before, read = day_rows(history.d, "user_profiles", DAYS[1]), history.read_by(DAYS[1])
    assert not history.run(DAYS[1], source_versions=True).replaced
    assert day_rows(history.d, "user_profiles", DAYS[1]) == before
    assert history.read_by(DAYS[1]) == read

    # A past day again learns of them; the day after it is stale. A day skipped before is filled in between.
    assert history.run(DAYS[1]).replaced
    assert "late" in day_rows(history.d, "user_profiles", DAYS[1])
    assert [day for day in DAYS if not staleness.stale_reason(history.d, "assemble", day)] == [DAYS[0], DAYS[1]]
    assert staleness.first_stale(history.d, "assemble", DAYS[4]) == DAYS[3]
    history.arrive("u2", at=START + timedelta(days=1, hours=3))
    for day in (DAYS[2], DAYS[3]):
        history.run(day)
    history.require_as_recomputed_in_order()

    # A source rewritten without half of its rows: who lived by them alone ends on the next day.
    history.lake["bills"] = history.lake["bills"][::2]
    history.lake["searches"] = [row for row in history.lake["searches"] if row["user_id"] != "late"]
    history.write()
    assert history.run(DAYS[4]).deactivated >= 1
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
