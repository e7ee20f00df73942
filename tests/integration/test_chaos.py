"""Embed and publish killed from outside, JVM, Python or both, and run again: as if nobody had disturbed them."""

from __future__ import annotations

import random

import deltalake
import pyarrow as pa
import pytest

from benchmarks.chaos import Step, finish, strike
from benchmarks.twins import compare
from tests.support.embedded import copy
from tests.support.shop import DAY1, DAY2, assembled, checkpoint, company, ended, profiles, released

pytestmark = pytest.mark.slow

KILLS = {"embed": 1, "publish": 1}
"""`make chaos` has sixty."""
USERS = 1300
"""More than one write of the online store takes."""


@pytest.mark.timeout(1200)
def test_killed_and_run_again_a_day_ends_as_its_undisturbed_twin(spark, tmp_path):
    rng, struck = random.Random(12), company(tmp_path / "struck")
    released(struck, checkpoint(tmp_path / "checkpoint"))
    assembled(spark, struck, DAY1, profiles(60))
    for job in KILLS:
        finish(spark, struck, Step(job=job, day=DAY1))
    assembled(spark, struck, DAY2, pa.concat_tables([profiles(USERS, seed=3).slice(30), ended(["user-00007"])]))
    calm = copy(struck, tmp_path / "calm")
    for job, kills in KILLS.items():
        step = Step(job=job, day=DAY2)
        finish(spark, calm, step)
        strike(struck, step, kills, rng)
        assert step.kills.total() == kills
        assert not [at for at in step.kills if at.startswith("job_runs")]  # something was written
        finish(spark, struck, step)
    compared = {one.name: one for one in compare(calm, struck)}
    assert {name: one.example for name, one in compared.items() if one.differences} == {}
    assert compared["online store"].rows == USERS
    assert compared["user_embeddings"].rows == 3 * (60 + USERS - 30 + 1)


def test_the_comparison_sees_a_lost_row_another_vector_and_an_open_run(spark, tmp_path):
    one = company(tmp_path / "one")
    released(one, checkpoint(tmp_path / "checkpoint"))
    assembled(spark, one, DAY1, profiles(20))
    for job in KILLS:
        finish(spark, one, Step(job=job, day=DAY1))
    other = copy(one, tmp_path / "other")
    assert not any(found.differences for found in compare(one, other))
    deltalake.DeltaTable(other.table("user_profiles")).delete("user_id = 'user-00003'")
    deltalake.DeltaTable(other.table("user_embeddings")).update(
        {"embedding": "make_array(1.0)"}, predicate="user_id = 'user-00004' AND scenario = 'food'"
    )
    deltalake.DeltaTable(other.table("user_vectors")).delete("user_id = 'user-00005'")
    deltalake.DeltaTable(other.table("job_runs")).update({"status": "'failed'"}, predicate="job = 'embed'")
    differences = {found.name: found.differences for found in compare(one, other) if found.differences}
    assert differences == {"user_profiles": 1, "user_embeddings": 1, "user_vectors": 1, "job_runs": 2}
