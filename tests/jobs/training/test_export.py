"""Train and export on a lake, without a JVM: each takes up what the one before it left."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import deltalake
import numpy as np
import pytest
import yaml

from jobs.config.deployment import Deployment
from jobs.lake.delta import TableError
from jobs.lake.handoff import UserQAHandoff
from jobs.lake.run_log import RunRecord
from jobs.training.export import export
from jobs.training.registry import (
    NoCheckpointError,
    candidate_release,
    current_checkpoint,
    current_release,
    open_release,
    promote,
)
from jobs.training.train import train
from jobs.training.training_inputs import INPUTS, network_config, training_config
from model.serving.onnx_runtime import load
from model.serving.release import ReleaseError
from tests.support import shop
from tests.support.error_page import case, refused, row
from tests.support.made_up import made_up_pairs, made_up_profiles
from tests.support.pretrained import save_encoder
from tests.support.training_tables import CUT_OFF, SMALL_MODEL, write_day


def company(at, **changes) -> Deployment:
    return shop.company(at, **{"model": SMALL_MODEL} | changes)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Deployment:
    """A deployment whose checkpoint is trained, for two steps."""
    deployment = company(tmp_path_factory.mktemp("trained"))
    profiles = made_up_profiles(40)
    write_day(deployment, "training_profiles", profiles, CUT_OFF)
    write_day(deployment, "userqa", made_up_pairs(profiles), CUT_OFF)
    done = train(deployment)
    assert (done.as_of, done.steps, done.profiles + 0 > 0) == (CUT_OFF, 2, True)
    return deployment


@pytest.fixture(scope="module")
def released(trained) -> Deployment:
    export(trained, promote=True)
    return trained


def job(deployment: Deployment, name: str) -> dict:
    rows = deltalake.DeltaTable(deployment.table("job_runs")).to_pyarrow_table(filters=[("job", "=", name)])
    assert len(rows) == 1
    return rows.to_pylist()[0]


@pytest.mark.parametrize(
    ("wrong", "damage"),
    [
        case("a pointer to a checkpoint that is gone", lambda folder: (folder.parent / "CURRENT").write_text("gone")),
        case(
            "a pointer to a checkpoint that is empty",
            lambda folder: (folder.parent / "CURRENT").write_text("\n"),
            said="CURRENT holds '', and there is no such folder",
        ),
        case("a checkpoint that was not trained by a job", lambda folder: (folder / INPUTS).unlink()),
        case(
            "a checkpoint whose inputs are no JSON",
            lambda folder: (folder / INPUTS).write_text("{"),
            said="inputs.json cannot be read (...); run `instructue train` again",
        ),
    ],
)
def test_a_checkpoint_that_cannot_be_taken_up_is_refused(wrong, damage, trained, tmp_path):
    copied = Deployment.read(shutil.copytree(trained.path.parent, tmp_path / "copy") / trained.path.name)
    damage(current_checkpoint(copied))
    with refused(wrong):
        export(copied)


@row("training profiles that have lost a file")
def test_training_on_a_broken_table_is_refused(wrong, trained, tmp_path):
    copied = Deployment.read(shutil.copytree(trained.path.parent, tmp_path / "copy") / trained.path.name)
    next(Path(copied.table("training_profiles")).rglob("*.parquet")).unlink()
    with refused(wrong):
        train(copied)
    assert job(copied, "train")["status"] == "failed"


def test_training_again_on_the_same_is_not_done_again(trained):
    before = train(trained)
    weights = before.checkpoint / "model.safetensors"
    stamp = weights.stat().st_mtime_ns
    again = train(trained)
    assert again.checkpoint == before.checkpoint
    assert weights.stat().st_mtime_ns == stamp
    run = job(trained, "train")
    assert (run["status"], run["day"], dict(run["versions"])) == ("ok", CUT_OFF, {"training_profiles": 0, "userqa": 0})
    assert json.loads(run["details"])["checkpoint"] == before.checkpoint.name


def test_another_training_takes_nothing_away(trained):
    before = train(trained)
    other = train(trained, steps=1)
    assert other.checkpoint != before.checkpoint
    assert (before.checkpoint / "model.safetensors").exists()
    assert train(trained).checkpoint == before.checkpoint


def test_other_weights_of_a_pretrained_model_are_another_training(trained, tmp_path):
    encoder = save_encoder(tmp_path / "models" / "encoder", "bert")
    content = yaml.safe_load(trained.path.read_text())
    content["model"]["network"]["encoder"] = {"pretrained": "../models/encoder"}
    copied = shutil.copytree(trained.path.parent, tmp_path / "copy")
    (copied / trained.path.name).write_text(yaml.safe_dump(content))
    deployment = Deployment.read(copied / trained.path.name)
    before = train(deployment).checkpoint
    assert train(deployment).checkpoint == before
    save_encoder(encoder, "bert", seed=2)
    assert train(deployment).checkpoint != before
    assert export(deployment).checkpoint != before


@pytest.mark.slow
def test_two_processes_train_one_checkpoint(trained, tmp_path):
    lone, shared = (
        Deployment.read(shutil.copytree(trained.path.parent, tmp_path / name) / trained.path.name)
        for name in ("lone", "shared")
    )
    expected = train(lone, seed=3)
    run = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            "2",
            "-m",
            "jobs",
            "train",
            "--config",
            str(shared.path),
            "--seed",
            "3",
            "--json",
        ],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    [summary] = [json.loads(line) for line in run.stdout.splitlines()]  # only the first process prints
    assert summary["loss"] == pytest.approx(expected.loss, abs=1e-4)
    assert "waiting" not in run.stderr  # for the lock that the other holds
    assert current_checkpoint(shared).name == expected.checkpoint.name == Path(summary["checkpoint"]).name
    assert job(shared, "train")["status"] == "ok"
    assert json.loads((current_checkpoint(shared) / "metrics.json").read_text())["processes"] == 2


def test_the_deployment_decides_the_network_and_the_training(trained):
    config = network_config(trained)
    assert [source.name for source in config.sources] == ["bill", "search"]
    assert (config.shared_encoder, config.encoder.width, config.backbone.layers, config.head) == (True, 32, 1, 24)
    assert [number.name for number in config.tabular.numbers] == ["bills", "income"]
    assert training_config(trained).steps == 2
    assert training_config(trained, 5).steps == 5


def test_without_its_tables_it_names_the_job_that_makes_them(tmp_path):
    empty = company(tmp_path)
    with pytest.raises(TableError, match="run `instructue userqa` first"):
        train(empty)
    write_day(empty, "training_profiles", made_up_profiles(3), CUT_OFF)
    with pytest.raises(NoCheckpointError, match="run `instructue train` first"):
        export(empty)
    assert job(empty, "export")["status"] == "failed"


def test_what_userqa_left_half_or_made_otherwise_is_not_trained_on(tmp_path):
    deployment = company(tmp_path)
    profiles = made_up_profiles(3)
    write_day(deployment, "training_profiles", profiles, CUT_OFF)
    write_day(deployment, "userqa", made_up_pairs(profiles), CUT_OFF)
    with pytest.raises(KeyError), RunRecord.kept(deployment, "userqa", CUT_OFF):
        raise KeyError("killed between its two tables")
    with pytest.raises(TableError, match=r"userqa for 2025-01-01 did not succeed .*run `instructue userqa` again"):
        train(deployment)
    with RunRecord.kept(deployment, "userqa", CUT_OFF) as run:
        run.handoff = UserQAHandoff(vector_spec=deployment.vector_spec())
    sources = [source | {"template": "{interest}"} for source in shop.CHANGES["sources"]]
    with pytest.raises(
        ReleaseError,
        match=r"(?s)sources\.bill\.template: '\{interest\}' in the deployment, 'paid .*"
        r"run `instructue userqa` again",
    ):
        train(company(tmp_path, sources=sources))


def test_a_release_is_made_checked_and_current(released):
    release = open_release(released)
    assert release.path == current_release(released)
    assert candidate_release(released) is None
    assert release.scenarios == ("universal", "food", "films")
    assert (release.path / "deployment.yaml").read_text() == released.path.read_text()
    assert load(release.path).embed(made_up_profiles(5)).shape == (5, 3, 24)
    run = job(released, "export")
    assert (run["status"], run["model_version"]) == ("ok", release.model_version)
    assert min(json.loads(run["details"])["gates"].values()) > 0.9999


def test_a_deployment_other_than_was_trained_on_is_refused(released):
    sources = [source.model_dump() | {"window_days": 17} for source in released.sources]
    other = company(released.path.parent, sources=sources)
    with pytest.raises(ReleaseError, match=r"sources\.bill\.window_days: 17 in the deployment, 365 in the training"):
        export(other)
    company(released.path.parent)


@pytest.mark.parametrize("instructions_only", [False, True])
def test_a_source_that_the_profiles_lack_is_named(released, instructions_only):
    sources = [*shop.CHANGES["sources"], shop.CHANGES["sources"][0] | {"name": "refund"}]
    other = company(released.path.parent, sources=sources)
    with pytest.raises(ReleaseError, match=r"sources: \['bill', 'search', 'refund'\] in the deployment"):
        export(other, instructions_only=instructions_only)
    company(released.path.parent)


@pytest.mark.parametrize("instructions_only", [False, True])
def test_profiles_that_userqa_made_otherwise_are_refused(released, instructions_only):
    with RunRecord.kept(released, "userqa", CUT_OFF) as run:
        run.handoff = UserQAHandoff(vector_spec=released.vector_spec() | {"numbers": []})
    with pytest.raises(ReleaseError, match=r"numbers: .* in the deployment, \[\] in the profiles"):
        export(released, instructions_only=instructions_only)
    with RunRecord.kept(released, "userqa", CUT_OFF) as run:
        run.handoff = UserQAHandoff(vector_spec=released.vector_spec())


def test_instructions_are_added_to_the_current_release(released, tmp_path):
    before = open_release(released)
    more = company(released.path.parent, scenarios=[*shop.SCENARIOS, {"name": "games", "instruction": "Games?"}])
    train(more, steps=1)  # the checkpoint trained last is not the release's
    done = export(more, instructions_only=True)
    assert done.model_version == before.model_version
    assert done.scenarios == ("universal", "food", "films", "games")
    with pytest.raises(ReleaseError, match="does not serve games"):
        open_release(more)
    assert candidate_release(more) == done.release
    assert promote(more).former == before.path.name
    after = open_release(more)
    assert after.path == done.release
    np.testing.assert_array_equal(after.vectors()["food"], before.vectors()["food"])
