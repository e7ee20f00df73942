"""Two runs at the same time: one waits and says so, and the tables end as if they had run one after the other."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jobs import runs
from jobs.assemble import Assembled, assemble
from jobs.deployment import Deployment
from jobs.publish import PublishError, publish
from jobs.tables import job_run
from tests.conftest import deploy
from tests.jobs import embedded
from tests.jobs.messy import CHANGES, DAY1, DAY2, day_rows, make_lake, write

Both = tuple[Deployment, list[Assembled]]


@pytest.fixture
def at_once(spark, tmp_path) -> Callable[..., Both]:
    """Assemble some days of a new lake, all of them at the same time."""
    def run(*days) -> Both:
        d = deploy(tmp_path, **CHANGES)
        write(d, make_lake())
        with ThreadPoolExecutor(len(days)) as pool:
            return d, [*pool.map(lambda day: assemble(spark, d, day), days)]

    return run


def twin(spark, folder: Path) -> Deployment:
    """The same lake, its days assembled one after the other."""
    d = deploy(folder, **CHANGES)
    write(d, make_lake())
    for day in (DAY1, DAY2):
        assemble(spark, d, day)
    return d


def test_one_day_twice(at_once, capfd):
    d, done = at_once(DAY1, DAY1)
    assert f"another assemble is running on {d.lake}; waiting for it" in capfd.readouterr().err
    assert sorted(one.replaced for one in done) == [False, True]
    assert len(day_rows(d, "user_profiles", DAY1)) == done[0].changed == done[1].changed


def test_neighbouring_days(spark, at_once, tmp_path):
    """Whichever comes first, a day made of what was replaced since says so and is made again."""
    d, _ = at_once(DAY2, DAY1)
    if runs.stale(d, "assemble", DAY2):
        assemble(spark, d, DAY2)
    expected = twin(spark, tmp_path / "twin")
    for day in (DAY1, DAY2):
        assert day_rows(d, "user_profiles", day) == day_rows(expected, "user_profiles", day)
        assert runs.stale(d, "assemble", day) is None


def test_a_job_that_needs_a_running_one_says_why_it_stops(spark, tmp_path):
    d = deploy(tmp_path, **embedded.CHANGES)
    embedded.embed(spark, d, embedded.DAY1, embedded.some(1, ("u00",)))
    with job_run(spark, d, "embed", embedded.DAY1) as run:
        run.replacing()
        with pytest.raises(PublishError, match=r"cannot be published: embed's last run .* did not succeed; run `instr"):
            publish(spark, d, embedded.DAY1)
    assert publish(spark, d, embedded.DAY1).users == 1
