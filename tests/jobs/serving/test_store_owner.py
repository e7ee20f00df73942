"""A store that outlives the deployment file: lakes that move, are copied, made anew, or share a store."""

from __future__ import annotations

import runpy
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import deltalake
import pandas as pd
import pytest
import yaml

from feature_repo.online import OnlineView
from feature_repo.owner import read_owner
from feature_repo.settings import StoreError
from feature_repo.store import apply, open_store
from jobs.config.deployment import Deployment
from jobs.serving.lookup import lookup
from jobs.serving.offline_features import features
from jobs.serving.online_update import update_online
from jobs.serving.store_settings import store_settings
from tests.support.deployment import deploy
from tests.support.embedded import CHANGES, WIDTH, assert_online, copy
from tests.support.error_page import refused, row


def beside(deployment: Deployment, into: Path, *, same_lake: bool = False, **store: Any) -> Deployment:
    """Return a copy of the lake, which publishes to this store; it is another lake unless its user list is the same."""
    copied = copy(deployment, into)
    if not same_lake:
        made_anew(copied)
    shutil.rmtree(file_of(copied, "."))
    return deploy(into, **CHANGES, store={"folder": "store", **store})


def made_anew(deployment: Deployment) -> None:
    """Replace the table of the online users by another one with the same rows."""
    table = deployment.table("online_users")
    rows = deltalake.DeltaTable(table).to_pyarrow_table()
    shutil.rmtree(table)
    deltalake.write_deltalake(table, rows, partition_by=["project"])


def file_of(deployment: Deployment, name: str) -> Path:
    return Path(deployment.resolve(deployment.store.folder), name)


def test_a_copied_folder_reads_its_own_lake(published: Deployment, spark: Any, tmp_path: Path) -> None:
    copied = copy(published, tmp_path / "copy")
    frame = pd.DataFrame({"user_id": ["u01", "u02"], "as_of": "2025-06-01"})
    deltalake.DeltaTable(copied.table("user_vectors")).delete("user_id = 'u01'")
    assert [row["food"] is None for row in features(spark, copied, frame, ["food"]).collect()] == [True, False]
    assert [row["food"] is None for row in features(spark, published, frame, ["food"]).collect()] == [False, False]


def test_the_files_for_feast_follow_a_copied_folder(published: Deployment, tmp_path: Path) -> None:
    copied = copy(published, tmp_path / "copy")
    definitions = file_of(copied, "definitions.py")
    with pytest.raises(StoreError, match=r"was moved or copied from .*; run `instructue lookup` or"):
        runpy.run_path(str(definitions))
    assert lookup(copied, ["u01"])[0].has_vectors
    assert runpy.run_path(str(definitions))["source"].path == copied.table("user_vectors")
    named = yaml.safe_load(file_of(copied, "feature_store.yaml").read_text())
    assert named["registry"]["path"] == f"sqlite:///{file_of(copied, 'registry.db')}"
    assert named["online_store"]["path"] == str(file_of(copied, "online.db"))


def test_a_moved_folder_is_served_and_published(published: Deployment, spark: Any, tmp_path: Path) -> None:
    first = copy(published, tmp_path / "first")
    lookup(first, ["u01"])
    shutil.move(first.path.parent, tmp_path / "moved")
    moved = Deployment.read(tmp_path / "moved" / first.path.name)
    assert_online(moved)
    assert update_online(spark, moved).written == 0
    assert_online(moved)


@pytest.fixture(scope="module")
def first(published: Deployment, spark: Any, tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """Return a published deployment whose store others name."""
    deployment = copy(published, tmp_path_factory.mktemp("first"))
    update_online(spark, deployment)
    return deployment


# feast #6206, #6210, featurebyte #2000
@pytest.mark.parametrize("shared", ["registry and online store", "registry", "online store"])
def test_two_lakes_cannot_share_a_project(shared: str, first: Deployment, spark: Any, tmp_path: Path) -> None:
    store: dict[str, Any] = {}
    if "registry" in shared:
        store["registry"] = f"sqlite:///{file_of(first, 'registry.db')}"
    if "online store" in shared:
        store["online"] = {"type": "sqlite", "path": str(file_of(first, "online.db"))}
    second = beside(first, tmp_path, **store)
    with pytest.raises(
        StoreError, match=rf"holds the vectors of the lake with {first.table('online_users')}, and this"
    ):
        update_online(spark, second)
    with pytest.raises(StoreError, match="publish this lake to a project of its own"):
        lookup(second, ["u01"])
    assert_online(first)
    if shared == "registry and online store":  # the advice of the message
        second = deploy(tmp_path, **CHANGES, store={"folder": "store", "project": "its_own", **store})
        assert update_online(spark, second).written == 38
        assert_online(second)
        assert_online(first)


@row("a copy of a lake that publishes to the project of the first")
def test_a_copy_beside_its_lake_is_refused(wrong: str, first: Deployment, spark: Any, tmp_path: Path) -> None:
    one = copy(first, tmp_path / "one")
    update_online(spark, one)  # the copy of the store belongs to the copy of the lake
    other = beside(one, tmp_path / "other", same_lake=True, folder=str(file_of(one, ".")))
    with refused(wrong):
        update_online(spark, other)
    with refused(wrong):
        lookup(other, ["u01"])
    shutil.rmtree(one.resolve(one.lake))  # the lake was moved, not copied
    assert update_online(spark, other).written == 0
    assert_online(other)


@row("a lake that was made anew beside its store")
def test_a_lake_made_anew_is_refused(wrong: str, first: Deployment, spark: Any, tmp_path: Path) -> None:
    anew = copy(first, tmp_path)
    update_online(spark, anew)
    made_anew(anew)
    with refused(wrong):
        update_online(spark, anew)


def test_a_store_of_an_earlier_version_opens_and_is_claimed(first: Deployment, spark: Any, tmp_path: Path) -> None:
    """Before owners, the registry had no tag and the online store no row of it."""
    old = copy(first, tmp_path)
    settings = replace(store_settings(old), table_id=lambda path: None)
    apply(settings, WIDTH)
    with sqlite3.connect(file_of(old, "online.db")) as online:
        online.execute("DELETE FROM instructue_user_vectors WHERE instr(entity_key, '(owner)') > 0")
    online.close()
    assert "owner" not in apply(settings, WIDTH).get_feature_view("user_vectors").tags
    assert_online(old)
    assert update_online(spark, old).written == 0
    assert read_owner(OnlineView(open_store(store_settings(old)))).table == old.table("online_users")  # type: ignore
    assert_online(old)


@row("an online store that was emptied, or another one than was published to")
def test_another_online_store_is_refused_until_it_is_published(
    wrong: str, published: Deployment, spark: Any, tmp_path: Path
) -> None:
    copied = copy(published, tmp_path)
    with refused(wrong):
        _with_online(copied, "other.db")
    moved = deploy(tmp_path, **CHANGES, store={"folder": "store", "online": {"type": "sqlite", "path": "other.db"}})
    assert update_online(spark, moved).written == 38
    assert_online(moved)


def _with_online(copied: Deployment, name: str) -> None:
    """Look a user up in an online store that has the table and no rows."""
    with sqlite3.connect(file_of(copied, "online.db")) as source:
        [[table]] = source.execute("SELECT sql FROM sqlite_master WHERE type = 'table'").fetchall()
    source.close()
    with sqlite3.connect(copied.path.parent / name) as target:
        target.execute(table)
    target.close()
    store = {"folder": "store", "online": {"type": "sqlite", "path": name}}
    lookup(deploy(copied.path.parent, **CHANGES, store=store), ["u01"])
