"""What a run leaves for later runs: it is read as written, rows of version 0 too, and refused where incomplete."""

from __future__ import annotations

import json
from datetime import date

import deltalake
import pytest

from jobs.lake import run_log
from jobs.lake.handoff import AskHandoff, AssembleHandoff, EmbedHandoff, HandoffError, MaintainHandoff, UserQAHandoff
from jobs.lake.run_log import RunRecord
from jobs.training.registry import check_vector_spec

DAY = date(2025, 3, 1)
HANDOFFS = {
    "assemble": AssembleHandoff(vector_spec={"numbers": ["age"], "precision": "fp32"}, users=3),
    "userqa": UserQAHandoff(vector_spec={"numbers": []}),
    "embed": EmbedHandoff(instructions={"food": "1f"}, embedded=2),
    "ask": AskHandoff(tables=("food_answers",)),
    "maintain": MaintainHandoff(horizon=DAY),
}
VERSION_0 = {
    "assemble": {"shaping": {"numbers": ["age"], "precision": "fp32"}, "users": 3, "changed": 1, "accounts": {}},
    "userqa": {"shaping": {"numbers": []}, "questions": {}},
    "embed": {"instructions": {"food": "1f"}, "embedded": 2, "release": "r1", "vectors": {}},
    "ask": {"table": "food_answers", "release": "r1", "instruction": "Food?"},
    "maintain": {"horizon": "2025-03-01"},
}


def left(deployment, job, handoff=None, details=None):
    """The only run of a job, read back."""
    with RunRecord.kept(deployment, job, DAY) as run:
        run.handoff, run.details = handoff, details or {}
    [run] = run_log.read_runs(deployment, job)
    return run


@pytest.mark.parametrize("job", HANDOFFS)
def test_a_handoff_is_read_as_it_was_written(job, deployment):
    run = left(deployment(), job, HANDOFFS[job], {"note": "for people"})
    assert run.handoff(type(HANDOFFS[job])) == HANDOFFS[job]
    assert run.details["note"] == "for people"
    assert run.details["handoff"]["version"] == 1


@pytest.mark.parametrize("job", HANDOFFS)
def test_a_row_of_version_0_is_read(job, deployment):
    assert left(deployment(), job, None, VERSION_0[job]).handoff(type(HANDOFFS[job])) == HANDOFFS[job]


def test_a_maintain_and_an_ask_of_version_0_that_did_nothing_are_read(deployment):
    shop = deployment()
    assert left(shop, "maintain").handoff(MaintainHandoff).horizon is None
    assert left(shop, "ask").handoff(AskHandoff).tables == ()


@pytest.mark.parametrize(
    ("stored", "wrong"),
    [
        ({}, "vector_spec: Field required; users: Field required"),
        ({"shaping": {}}, "users: Field required"),
        ({"handoff": {"version": 1, "vector_spec": {}}}, "users: Field required"),
        ({"handoff": {"version": 1, "vector_spec": {}, "users": 1, "colour": 2}}, "colour: Extra inputs"),
        ({"handoff": {"version": 1, "vector_spec": {}, "users": "many"}}, "users: .*valid integer"),
        ({"handoff": {"vector_spec": {}, "users": 1}}, "version None"),
        ({"handoff": {"version": 2, "vector_spec": {}, "users": 1}}, "version 2, and .* reads 1"),
    ],
)
def test_an_absent_or_unknown_field_names_the_command_to_run_again(stored, wrong, deployment):
    run = left(deployment(), "assemble", None, stored)
    with pytest.raises(HandoffError, match=rf"assemble for {DAY}.*{wrong}.*`instructue assemble --as-of {DAY}` again"):
        run.handoff(AssembleHandoff)


@pytest.mark.parametrize(("job", "command"), [("assemble", f"assemble --as-of {DAY}"), ("userqa", "userqa")])
def test_profiles_that_do_not_record_their_vector_spec_are_refused(job, command, deployment):
    with pytest.raises(HandoffError, match=rf"vector_spec: Field required.*`instructue {command}` again"):
        check_vector_spec(deployment(), left(deployment(), job, None, {"users": 3}))


def test_a_run_that_failed_before_it_wrote_keeps_the_handoff_of_the_rows(deployment):
    shop = deployment()
    left(shop, "embed", HANDOFFS["embed"])
    with pytest.raises(KeyError), RunRecord.kept(shop, "embed", DAY):
        raise KeyError("a worker was lost")
    [run] = run_log.read_runs(shop, "embed")
    assert (run.status, run.handoff(EmbedHandoff)) == ("failed", HANDOFFS["embed"])
    [row] = deltalake.DeltaTable(shop.table("job_runs")).to_pyarrow_table().to_pylist()
    assert json.loads(row["details"])["error"].startswith("KeyError")
