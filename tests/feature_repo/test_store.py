"""The definitions and settings of a deployment, through Feast and through its command line."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from feature_repo.store import StoreError, apply, open_store, repo_config, settings
from feature_repo.vectors import tags
from feature_repo.views import definitions
from tests.support.deployment import deploy

ROOT = Path(__file__).parents[2]


def scenarios(*names: str) -> dict:
    return {"scenarios": [{"name": name, "instruction": f"Tell about {name}."} for name in names]}


def test_one_view_holds_three_features_of_each_scenario(deployment):
    found = definitions(deployment(**scenarios("food")), width=8)
    assert [(f.name, str(f.dtype)) for f in found.view.features] == [
        ("universal", "Bytes"),
        ("universal_model_version", "String"),
        ("universal_as_of", "UnixTimestamp"),
        ("food", "Bytes"),
        ("food_model_version", "String"),
        ("food_as_of", "UnixTimestamp"),
    ]
    assert found.view.features[3].tags == tags(8)
    assert found.view.ttl == timedelta(0)
    assert (found.view.join_keys, found.source.timestamp_field) == (["user_id"], "as_of")
    assert [s.name for s in found.services] == ["user_vectors", "user_vectors_universal", "user_vectors_food"]


def test_applying_follows_the_deployment(tmp_path):
    store = apply(deploy(tmp_path, **scenarios("food", "film")), width=8)
    assert {s.name for s in store.list_feature_services()} == {
        "user_vectors",
        "user_vectors_universal",
        "user_vectors_food",
        "user_vectors_film",
    }
    apply(deploy(tmp_path, **scenarios("food", "game")), width=4)
    store = open_store(deploy(tmp_path, **scenarios("food", "game")))
    assert {s.name for s in store.list_feature_services()} == {
        "user_vectors",
        "user_vectors_universal",
        "user_vectors_food",
        "user_vectors_game",
    }
    features = {f.name: f.tags for f in store.get_feature_view("user_vectors").features}
    assert features["game"] == tags(4)
    assert "film" not in features


def test_another_project_in_the_registry_is_not_this_one(tmp_path):
    apply(deploy(tmp_path), width=8)
    with pytest.raises(StoreError, match="project 'other' is not in the registry"):
        open_store(deploy(tmp_path, store={"folder": "store", "project": "other"}))


def test_redis_is_told_to_take_every_row(deployment):
    online = {"type": "redis", "connection_string": "redis:6379,password=$SHOP_PASSWORD"}
    text = settings(deployment(store={"folder": "store", "online": online}))
    assert yaml.safe_load(text)["online_store"] == {**online, "skip_dedup": True}


def test_secrets_stay_in_the_environment(deployment, monkeypatch):
    made = deployment(store={"folder": "store", "registry": "postgresql://feast:$SHOP_PASSWORD@db/feast"})
    monkeypatch.setenv("SHOP_PASSWORD", "s3cret")
    assert "s3cret" not in settings(made)
    assert "s3cret" in repo_config(made).registry_config["path"]


@pytest.mark.slow
def test_the_folder_of_a_store_is_a_feast_repository(tmp_path):
    deployment = deploy(tmp_path, **scenarios("food"))
    apply(deployment, width=8)
    folder = deployment.resolve("store")

    def feast(*words: str) -> str:
        done = subprocess.run(
            [Path(sys.executable).with_name("feast"), "-c", folder, *words],
            cwd=tmp_path,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    assert "user_vectors_food" in feast("feature-services", "list")
    feast("apply", "--skip-source-validation")
    view = open_store(deployment).get_feature_view("user_vectors")
    assert [field.tags for field in view.features if field.name == "food"] == [tags(8)]
