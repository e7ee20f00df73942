"""The definitions and settings of a deployment, through Feast and through its command line."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from feature_repo.settings import StoreError, StoreSettings, feature_store_yaml, repo_config
from feature_repo.store import apply, open_store
from feature_repo.vectors import tags
from feature_repo.views import definitions
from jobs.serving.store_settings import store_settings
from tests.support.deployment import deploy

ROOT = Path(__file__).parents[2]


def settings(folder: Path, *scenarios: str, **changes: Any) -> StoreSettings:
    """Return the settings of a deployment with these scenarios."""
    blocks = [{"name": name, "instruction": f"Tell about {name}."} for name in scenarios]
    return store_settings(deploy(folder, scenarios=blocks, **changes))


def test_one_view_holds_three_features_of_each_scenario():
    objects = definitions(scenarios=("universal", "food"), table="lake/user_vectors", width=8)
    assert [(f.name, str(f.dtype)) for f in objects.view.features] == [
        ("universal", "Bytes"),
        ("universal_model_version", "String"),
        ("universal_as_of", "UnixTimestamp"),
        ("food", "Bytes"),
        ("food_model_version", "String"),
        ("food_as_of", "UnixTimestamp"),
    ]
    assert objects.view.features[3].tags == tags(8)
    assert objects.view.ttl == timedelta(0)
    assert (objects.view.join_keys, objects.source.timestamp_field) == (["user_id"], "as_of")
    assert [s.name for s in objects.services] == ["user_vectors", "user_vectors_universal", "user_vectors_food"]


def test_applying_follows_the_deployment(tmp_path):
    store = apply(settings(tmp_path, "food", "film"), width=8)
    assert {s.name for s in store.list_feature_services()} == {
        "user_vectors",
        "user_vectors_universal",
        "user_vectors_food",
        "user_vectors_film",
    }
    changed = settings(tmp_path, "food", "game")
    apply(changed, width=4)
    store = open_store(changed)
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
    apply(settings(tmp_path), width=8)
    with pytest.raises(StoreError, match="project 'other' is not in the registry"):
        open_store(settings(tmp_path, store={"folder": "store", "project": "other"}))


def test_redis_takes_every_row(tmp_path):
    online = {"type": "redis", "connection_string": "redis:6379,password=$SHOP_PASSWORD"}
    text = feature_store_yaml(settings(tmp_path, store={"folder": "store", "online": online}))
    assert yaml.safe_load(text)["online_store"] == {**online, "skip_dedup": True}


def test_secrets_stay_in_the_environment(tmp_path, monkeypatch):
    store = settings(tmp_path, store={"folder": "store", "registry": "postgresql://feast:$SHOP_PASSWORD@db/feast"})
    monkeypatch.setenv("SHOP_PASSWORD", "s3cret")
    assert "s3cret" not in feature_store_yaml(store)
    assert "s3cret" in repo_config(store).registry_config["path"]


@pytest.mark.slow
def test_the_folder_of_a_store_is_a_feast_repository(tmp_path):
    store = settings(tmp_path, "food")
    apply(store, width=8)

    def feast(*words: str) -> str:
        done = subprocess.run(
            [Path(sys.executable).with_name("feast"), "-c", store.folder, *words],
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
    view = open_store(store).get_feature_view("user_vectors")
    assert [field.tags for field in view.features if field.name == "food"] == [tags(8)]


def test_definitions_of_an_earlier_version_are_written_again(tmp_path):
    store = settings(tmp_path, "food")
    store.folder.mkdir()
    (store.folder / "definitions.py").write_text("from jobs.deployment import Deployment\n")
    apply(store, width=8)
    objects = runpy.run_path(str(store.folder / "definitions.py"))
    assert [field.name for field in objects["view"].features][3:] == ["food", "food_model_version", "food_as_of"]
    assert (objects["source"].path, objects["user_vectors_food"].name) == (store.table, "user_vectors_food")


def test_feast_objects_need_nothing_of_jobs():
    code = (
        "import sys, feature_repo.online, feature_repo.store; sys.exit(any(m.startswith('jobs') for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=120, check=False).returncode == 0
