"""Tune: one scenario's vectors are learned, everything else of the release stays."""

from __future__ import annotations

import json
import shutil
from datetime import date
from pathlib import Path

import deltalake
import numpy as np
import pyarrow as pa
import pytest

from jobs.config.deployment import Deployment
from jobs.evaluation.evaluate import evaluate
from jobs.training.export import export
from jobs.training.registry import candidate_release, checkpoints_folder, open_release, promote, releases_folder
from jobs.training.train import train
from jobs.training.tune import tune
from model.network.inference import embed
from model.serving.onnx_runtime import load
from model.serving.release import read
from model.training.probe import SPLIT_SEEDS, fit_half
from model.training.tuning import TuningConfig
from tests.support import shop
from tests.support.error_page import refused, row
from tests.support.made_up import made_up_pairs, made_up_profiles
from tests.support.training_tables import CUT_OFF, SMALL_MODEL, label_row, write_day, write_labels

USERS = 120
SHOTS = 24


@pytest.fixture(scope="module")
def untuned(tmp_path_factory, shop_releases) -> Deployment:
    """A company with profiles, a release, and three classes of labels that follow from the profiles."""
    deployment = shop.company(tmp_path_factory.mktemp("untuned"))
    shop_releases.copy_checkpoint(checkpoints_folder(deployment) / "first")
    shop_releases.install(deployment)
    profiles = made_up_profiles(USERS, seed=3)
    write_day(deployment, "user_profiles", profiles, date(2025, 3, 2))
    rows = profiles.to_pylist()
    write_labels(
        deployment,
        "labels",
        [label_row("nobody", 5), *(label_row(row["user_id"], (5, 8, -1)[row["interest"] % 3]) for row in rows)],
    )
    return deployment


@pytest.fixture
def company(untuned, tmp_path) -> Deployment:
    return Deployment.read(shutil.copytree(untuned.path.parent, tmp_path / "company") / untuned.path.name)


def tuned_once(deployment: Deployment, *, promote: bool = True):
    """Until a seed whose held-out users are better served: an untrained network does not always have one."""
    for seed in range(8):
        done = tune(deployment, "food", shots=SHOTS, seed=seed, config=TuningConfig(margin=0), promote=promote)
        if done.step:
            return done, seed
    raise AssertionError("no seed tunes")


def test_a_tuned_scenario_is_judged_by_users_that_tuning_has_not_seen(company):
    profiles = made_up_profiles(USERS, seed=3).to_pylist()
    shutil.rmtree(company.table("labels"))
    write_labels(company, "labels", [label_row(row["user_id"], int(row["interest"] % 2)) for row in profiles])
    whole = evaluate(company, baselines=False)
    candidate, _ = tuned_once(company, promote=False)
    done = evaluate(company, baselines=False)
    assert (whole.release, done.release) == (open_release(company).path.name, candidate.release.name)
    assert (whole.tuned, done.tuned) == ({}, {"food": SHOTS})
    assert done.next == "`instructue promote` makes this release the current one"
    for result, salts in ((whole, {*SPLIT_SEEDS}), (done, {"probe-1"})):
        written = json.loads((releases_folder(company) / "evaluations" / f"{result.release}.json").read_text())
        assert {half["split_seed"] for half in written["scores"]} == salts


def test_one_scenario_is_tuned_and_all_else_stays(company):
    before = open_release(company)
    done, seed = tuned_once(company)
    after = open_release(company)
    assert after.path == done.release != before.path
    assert after.model_version == before.model_version == done.model_version
    assert {name for name in after.files if after.files[name] != before.files[name]} == {
        "instructions.safetensors",
        "metrics.json",
        "MODEL_CARD.md",
    }
    old, new = before.vectors(), after.vectors()
    assert {name for name in new if not np.array_equal(new[name], old[name])} == {"food"}
    assert {name for name in after.scenarios if after.instructions[name] != before.instructions[name]} == {"food"}
    assert after.instructions["food"].text is None
    assert new["food"].shape == old["food"].shape

    facts = json.loads((after.path / "metrics.json").read_text())["tuned"]["food"]
    assert (facts["users"], facts["seed"], facts["salt"], facts["step"]) == (SHOTS, seed, "probe-1", done.step)
    assert facts["instruction"] == "Predict whether this user will order food."
    assert sum(facts["classes"].values()) == SHOTS
    assert set(facts["classes"]) == {"5", "8", "-1"}
    assert done.probe <= done.probe_manual == facts["curve"][0]["probe"]
    assert f"tuned on {SHOTS} users, from: Predict whether" in (after.path / "MODEL_CARD.md").read_text()
    [run] = deltalake.DeltaTable(company.table("job_runs")).to_pyarrow_table(filters=[("job", "=", "tune")]).to_pylist()
    assert run["status"] == "ok"
    half = int(fit_half([f"user-{user:05d}" for user in range(USERS)], "probe-1").sum())
    assert dict(run["left_out"]) == {
        "food: no profile": 1,
        "food: not in the fit half of probe-1": USERS - half,
        "food: not drawn": half - SHOTS,
    }


def test_onnx_gives_torchs_vectors_under_the_tuned_instruction(company):
    from model.network.kv_cache import ProfileKVCache
    from model.training.checkpoint import load_checkpoint

    done, _ = tuned_once(company)
    network, tokenizers, _ = load_checkpoint(checkpoints_folder(company) / "first")
    fresh = made_up_profiles(30, seed=11)
    tuned = load(done.release).embed(fresh, ["food"])[:, 0]
    expected = ProfileKVCache(network, tokenizers, fresh).embed(read(done.release).vectors()["food"])
    assert np.einsum("uh,uh->u", tuned, expected).min() > 0.9999
    manual = embed(network, tokenizers, fresh, ["Predict whether this user will order food."])[:, 0]
    assert np.einsum("uh,uh->u", tuned, manual).min() < 0.9999


def test_added_instructions_keep_what_was_tuned_and_a_whole_export_says_what_it_drops(company):
    profiles = made_up_profiles(40)
    write_day(company, "training_profiles", profiles, CUT_OFF)
    write_day(company, "userqa", made_up_pairs(profiles), CUT_OFF)
    done, _ = tuned_once(company)
    vectors = read(done.release).vectors()["food"]
    more = shop.company(
        company.path.parent,
        scenarios=[
            shop.SCENARIOS[0] | {"instruction": "Food, in other words?"},
            *shop.SCENARIOS[1:],
            {"name": "games", "instruction": "Games?"},
        ],
        model=SMALL_MODEL,
    )
    added = export(more, instructions_only=True, promote=True)
    assert added.manual_again is None
    np.testing.assert_array_equal(read(added.release).vectors()["food"], vectors)
    assert json.loads((added.release / "metrics.json").read_text())["tuned"].keys() == {"food"}
    train(more, steps=0)
    whole = export(more)
    assert whole.manual_again == "food: run `instructue tune` for each"
    assert read(whole.release).instructions["food"].text == "Food, in other words?"


def test_a_tuning_that_finds_nothing_better_takes_an_earlier_ones_place(company):
    manual = open_release(company).vectors()["food"]
    tuned_once(company)
    assert not np.array_equal(open_release(company).vectors()["food"], manual)
    done = tune(company, "food", shots=SHOTS, config=TuningConfig(steps=1, margin=1e9), promote=True)
    assert done.step == 0
    assert done.note == ("nothing learned was surely better on the users held out: the manual instruction is back")
    np.testing.assert_array_equal(open_release(company).vectors()["food"], manual)


def test_more_shots_than_the_half_has_is_all_of_it_and_said(company):
    before = open_release(company).path
    done = tune(company, "food", shots=5_000, config=TuningConfig(steps=1, margin=1e9))
    half = int(fit_half([f"user-{user:05d}" for user in range(USERS)], "probe-1").sum())
    assert done.users == half
    assert done.note == (
        f"5000 shots were requested, the fit half has {half}; nothing learned was surely better on "
        "the users held out: the release stays as it is"
    )
    assert (done.step, done.release, open_release(company).path) == (0, before, before)
    assert (candidate_release(company), done.next) == (None, "none: the current release stays as it is")


@row("a scenario to tune that is not there")
def test_an_unknown_scenario_is_refused(wrong, untuned):
    with refused(wrong):
        tune(untuned, "foood")


@row("a scenario to tune without labels")
def test_a_scenario_without_labels_is_refused(wrong, untuned):
    with refused(wrong):
        tune(untuned, "films")


@row("labels of one class to tune on")
def test_one_class_alone_is_refused(wrong, company):
    rows = [label_row(f"user-{user:05d}", 1) for user in range(USERS)]
    deltalake.write_deltalake(
        company.table("labels"),
        pa.Table.from_pylist(rows).cast(deltalake.DeltaTable(company.table("labels")).to_pyarrow_table().schema),
        mode="overwrite",
    )
    with refused(wrong):
        tune(company, "food")


@row("fewer shots than two of each class")
def test_too_few_shots_are_refused(wrong, untuned):
    with refused(wrong):
        tune(untuned, "food", shots=5)


@row("a release to tune whose checkpoint is gone")
def test_a_release_whose_checkpoint_is_gone_is_refused(wrong, company):
    shutil.rmtree(checkpoints_folder(company) / "first")
    with refused(wrong):
        tune(company, "food")
    run = deltalake.DeltaTable(company.table("job_runs")).to_pyarrow_table(filters=[("job", "=", "tune")])
    assert run["status"].to_pylist() == ["failed"]


def test_a_former_release_that_is_promoted_again_is_manual_again(company):
    before: Path = open_release(company).path
    tuned_once(company)
    promote(company, before.name)
    assert open_release(company).instructions["food"].text is not None
