"""Two runs at the same time: one waits and logs it, and the tables are those of one run after the other."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import date

import pytest

from jobs.lake import staleness
from jobs.lake.spark_tables import job_run
from jobs.profiles.assemble import AssembleResult
from jobs.serving.online_update import PublishError
from jobs.serving.publish import publish
from tests.support import embedded
from tests.support.deployment import deploy
from tests.support.lake_history import History
from tests.support.messy import DAY1, DAY2, day_rows

pytestmark = pytest.mark.slow


def at_once(history: History, *days: date) -> list[AssembleResult]:
    """Assemble these days at the same time."""
    with ThreadPoolExecutor(len(days)) as pool:
        return [*pool.map(history.run, days)]


def test_one_day_twice(history, caplog):
    done = at_once(history, DAY1, DAY1)
    assert f"another assemble is running on {history.d.lake}; waiting for it" in caplog.messages
    assert sorted(one.replaced for one in done) == [False, True]
    assert len(day_rows(history.d, "user_profiles", DAY1)) == done[0].changed == done[1].changed


def test_neighbouring_days(history):
    """In either order, a day that was made from rows that were replaced later is stale, and is made again."""
    at_once(history, DAY2, DAY1)
    if staleness.stale_reason(history.d, "assemble", DAY2):
        history.run(DAY2)
    history.require_as_recomputed_in_order()


def test_a_job_that_needs_a_running_one_says_why_it_stops(spark, tmp_path):
    d = deploy(tmp_path, **embedded.CHANGES)
    embedded.embed(spark, d, embedded.DAY1, embedded.some(1, ("u00",)))
    with job_run(spark, d, "embed", embedded.DAY1) as run:
        run.replacing()
        with pytest.raises(PublishError, match=r"cannot be published: embed's last run .* did not succeed; run `instr"):
            publish(spark, d, embedded.DAY1)
    assert publish(spark, d, embedded.DAY1).users == 1
