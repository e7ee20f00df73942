"""A registry that another program wrote to: readers refuse what `publish` did not register, and `apply` repairs it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, ValueType
from feast.types import Array, Bytes, Float32, Int64, String

from feature_repo.settings import StoreSettings
from feature_repo.store import apply, open_store
from feature_repo.vectors import tags
from jobs.serving.store_settings import store_settings
from tests.support.deployment import deploy
from tests.support.error_page import case, refused

WIDTH = 8
FOOD = [{"name": "food", "instruction": "Tell about food."}]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> StoreSettings:
    """Return the settings of a store that is applied."""
    settings = store_settings(deploy(tmp_path_factory.mktemp("store"), scenarios=FOOD))
    apply(settings, WIDTH)
    return settings


def _ttl(store: FeatureStore, view: FeatureView) -> list[Any]:
    view.ttl = timedelta(days=1)
    return [view]


def _offline(store: FeatureStore, view: FeatureView) -> list[Any]:
    view.online = False
    return [view]


def _timestamp(store: FeatureStore, view: FeatureView) -> list[Any]:
    view.batch_source.timestamp_field = "food_as_of"
    return [view.batch_source, view]


def _mapping(store: FeatureStore, view: FeatureView) -> list[Any]:
    view.batch_source.field_mapping = {"food_model_version": "universal_model_version"}
    return [view.batch_source, view]


def _fields(**changes: Field | None) -> Callable[[FeatureStore, FeatureView], list[Any]]:
    """Return a change of some fields of the view: another field, or None for no field."""

    def change(store: FeatureStore, view: FeatureView) -> list[Any]:
        fields = [changes.get(field.name, field) for field in [*view.entity_columns, *view.features]]
        return [
            FeatureView(
                name=view.name,
                entities=[store.get_entity("user")],
                schema=[field for field in fields if field is not None],
                source=view.batch_source,
                ttl=view.ttl,
            )
        ]

    return change


def _numbers(store: FeatureStore, view: FeatureView) -> list[Any]:
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.INT64)
    fields = [Field(name="user_id", dtype=Int64), *view.features]
    return [user, FeatureView(name=view.name, entities=[user], schema=fields, source=view.batch_source, ttl=view.ttl)]


def _service(store: FeatureStore, view: FeatureView) -> list[Any]:
    store.delete_feature_service("user_vectors_food")
    return []


SAYS = "in the registry has "
CHANGED = [
    # feast #6821
    case("a registered view with a time to live", _ttl),
    case("a registered view that is not online", _offline, said=f"{SAYS}online = False, where publish registers True"),
    case("a registered view of another time", _timestamp, said=f"{SAYS}timestamp_field = food_as_of, where publish"),
    case("a registered view with renamed columns", _mapping, said=f"{SAYS}field_mapping = ...food_model_version"),
    # feast #2253
    case("a registered view keyed by numbers", _numbers, said=f"{SAYS}entities = ...Int64"),
    case("a registered view without a feature service", _service, said=f"{SAYS}no feature service user_vectors_food"),
    case(
        "a registered view of lists",
        _fields(food=Field(name="food", dtype=Array(Float32), tags=tags(WIDTH))),
        said=f"{SAYS}features = ...Array(Float32)",
    ),
    case(
        "a registered view of two widths",
        _fields(food=Field(name="food", dtype=Bytes, tags=tags(4))),
        said=f"{SAYS}vectors of the widths [4, 8]",
    ),
    case(
        "a registered view without vectors", _fields(universal=None, food=None), said=f"{SAYS}vectors of the widths []"
    ),
    case("a registered view that lacks a column", _fields(food_model_version=None), said=f"{SAYS}features = ..."),
    case(
        "a registered view with a column of another type",
        _fields(food_as_of=Field(name="food_as_of", dtype=String)),
        said=f"{SAYS}features = ...food_as_of', 'String'",
    ),
    case(
        "a registered view of another encoding",
        _fields(food=Field(name="food", dtype=Bytes, tags={**tags(WIDTH), "dtype": "float32"})),
        said="is not a vector packed as",
    ),
]


@pytest.mark.parametrize(("wrong", "change"), CHANGED)
def test_a_view_that_publish_did_not_register_is_refused_and_repaired(
    wrong: str, change: Callable[[FeatureStore, FeatureView], list[Any]], settings: StoreSettings
) -> None:
    store = open_store(settings)
    objects = change(store, store.get_feature_view("user_vectors"))
    if objects:
        store.apply(objects)
    with refused(wrong):
        open_store(settings)
    apply(settings, WIDTH)
    fields = {field.name: field.tags for field in open_store(settings).get_feature_view("user_vectors").features}
    assert fields["food"] == tags(WIDTH)


def test_a_service_of_another_program_is_left_alone(settings: StoreSettings) -> None:
    store = open_store(settings)
    store.apply([FeatureService(name="theirs", features=[store.get_feature_view("user_vectors")])])
    apply(settings, WIDTH)
    assert "theirs" in {service.name for service in open_store(settings).list_feature_services()}


# flask-sqlalchemy #228
def test_a_relative_registry_starts_at_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLAlchemy would start it at the current folder, and a service elsewhere would find nothing."""
    deployment = deploy(tmp_path / "conf", store={"folder": "store", "registry": "sqlite:///shared/registry.db"})
    (tmp_path / "conf" / "shared").mkdir()
    monkeypatch.chdir(tmp_path)
    apply(store_settings(deployment), WIDTH)
    monkeypatch.chdir("/")
    assert open_store(store_settings(deployment)).project == "instructue"
    assert (tmp_path / "conf" / "shared" / "registry.db").exists()


def test_a_class_for_a_type_is_that_type(tmp_path: Path) -> None:
    online = {"type": "feast.infra.online_stores.sqlite.SqliteOnlineStore", "path": "vectors.db"}
    settings = store_settings(deploy(tmp_path, store={"folder": "store", "online": online}))
    assert settings.online["path"] == str(tmp_path / "vectors.db")
