"""Kill embed and publish from outside and run them again: the lake equals that of an undisturbed run."""

from __future__ import annotations

import random

import deltalake
import pyarrow as pa
import pytest

from tests.support.chaos import Step, finish, kill_repeatedly
from tests.support.embedded import copy
from tests.support.lake_comparison import compare
from tests.support.shop import DAY1, DAY2, assembled, company, ended, profiles

pytestmark = pytest.mark.slow

KILLS = {"embed": 1, "publish": 1}
"""`make chaos` kills sixty times."""
USERS = 1300
"""More users than one write to the online store takes."""


@pytest.mark.timeout(1200)
def test_a_day_that_was_killed_and_finished_equals_an_undisturbed_day(spark, tmp_path, shop_releases):
    rng, killed = random.Random(12), company(tmp_path / "killed")
    shop_releases.install(killed)
    assembled(spark, killed, DAY1, profiles(60))
    for job in KILLS:
        finish(spark, killed, Step(job=job, day=DAY1))
    assembled(spark, killed, DAY2, pa.concat_tables([profiles(USERS, seed=3).slice(30), ended(["user-00007"])]))
    undisturbed = copy(killed, tmp_path / "undisturbed")
    for job, kills in KILLS.items():
        step = Step(job=job, day=DAY2)
        finish(spark, undisturbed, step)
        kill_repeatedly(killed, step, kills, rng)
        assert step.kills.total() == kills
        assert not [name for name in step.kills if name.startswith("job_runs")]  # something was written
        finish(spark, killed, step)
    results = {result.name: result for result in compare(undisturbed, killed)}
    assert {name: result.example for name, result in results.items() if result.differences} == {}
    assert results["online store"].rows == USERS
    assert results["user_embeddings"].rows == 3 * (60 + USERS - 30 + 1)


def test_the_comparison_finds_a_lost_row_a_different_vector_and_an_unfinished_run(spark, tmp_path, shop_releases):
    left = company(tmp_path / "left")
    shop_releases.install(left)
    assembled(spark, left, DAY1, profiles(20))
    for job in KILLS:
        finish(spark, left, Step(job=job, day=DAY1))
    right = copy(left, tmp_path / "right")
    assert not any(result.differences for result in compare(left, right))
    deltalake.DeltaTable(right.table("user_profiles")).delete("user_id = 'user-00003'")
    deltalake.DeltaTable(right.table("user_embeddings")).update(
        {"embedding": "make_array(1.0)"}, predicate="user_id = 'user-00004' AND scenario = 'food'"
    )
    deltalake.DeltaTable(right.table("user_vectors")).delete("user_id = 'user-00005'")
    deltalake.DeltaTable(right.table("job_runs")).update({"status": "'failed'"}, predicate="job = 'embed'")
    differences = {result.name: result.differences for result in compare(left, right) if result.differences}
    assert differences == {"user_profiles": 1, "user_embeddings": 1, "user_vectors": 1, "job_runs": 2}
