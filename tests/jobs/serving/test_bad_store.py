"""Registries and online stores that are named wrongly, out of reach or broken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from feature_repo.settings import repo_config
from feature_repo.store import apply
from jobs.config.deployment import Deployment
from jobs.serving.lookup import Lookup, lookup
from jobs.serving.publish import publish
from jobs.serving.store_settings import store_settings
from tests.support.embedded import DAY3, copy
from tests.support.error_page import case, refused, row


def shop(deployment: Callable[..., Deployment], **store: Any) -> Deployment:
    return deployment(store={"folder": "store", **store})


@pytest.mark.parametrize(
    ("wrong", "store"),
    [
        case("an online store that Feast does not have", {"online": {"type": "abacus"}}),
        case(
            "an online store that is a function",
            {"online": {"type": "os.system"}},
            said="store.online.type = 'os.system': ...; name a store that Feast has, such as sqlite",
        ),
        case(
            "a setting that the online store does not have",
            {"online": {"type": "sqlite", "colour": "red"}},
            said="store.online or store.registry does not suit Feast: colour: Extra inputs are not permitted",
        ),
        case(
            "a password that the environment does not have", {"registry": "postgresql://feast:$NO_SUCH_PASSWORD@db/x"}
        ),
    ],
)
def test_a_store_that_feast_cannot_open_is_refused(wrong: str, store: dict[str, Any], deployment: Any) -> None:
    with refused(wrong):
        repo_config(store_settings(shop(deployment, **store)))


@pytest.mark.parametrize(
    ("wrong", "store"),
    [
        case(
            "a registry whose address is none",
            {"registry": "nonsense"},
            said=(
                "the registry or the online store cannot be used: Could not parse SQLAlchemy URL "
                "from given URL string; see store.registry and store.online"
            ),
        ),
        case(
            "a registry of an unknown database",
            {"registry": "abacus://db/feast"},
            said="the registry or the online store cannot be used: Can't load plugin: sqlalchemy.dialects:abacus",
        ),
        case("a file for the store's folder", {"folder": "deployment.yaml"}),
    ],
)
def test_a_registry_that_cannot_be_used_is_refused(wrong: str, store: dict[str, Any], deployment: Any) -> None:
    with refused(wrong):
        apply(store_settings(shop(deployment, **store)), width=8)


@row("a lookup before anything was published")
def test_a_lookup_before_publish_is_refused(wrong: str, deployment: Any) -> None:
    with refused(wrong):
        lookup(deployment(), ["u01"])


@pytest.fixture(scope="module")
def look_up(published: Deployment) -> Lookup:
    return Lookup(published, freeze=False)


@pytest.mark.parametrize(
    ("wrong", "users", "scenarios"),
    [
        case("a scenario that was never published", ["u01"], ["foood"]),
        case(
            "a text for the scenarios of a lookup",
            ["u01"],
            "food",
            said="scenarios = 'food': name some in a list, or None for all",
        ),
        case("a lookup of no scenario", ["u01"], [], said="scenarios = []: name some in a list, or None for all"),
        case("a text for the users of a lookup", "u01", None),
        case("None for a user of a lookup", ["u01", None], None),
        case("bytes for a user of a lookup", [b"u01"], None),
        case("half a number for a user of a lookup", [12.5], None, said="row 0: user id is not a whole number"),
    ],
)
def test_a_lookup_with_wrong_arguments_is_refused(wrong: str, users: Any, scenarios: Any, look_up: Lookup) -> None:
    with refused(wrong):
        look_up(users, scenarios)


@row("vectors of another width than was published")
def test_vectors_of_another_width_are_refused(wrong: str, published: Deployment) -> None:
    look_up = Lookup(published, freeze=False)
    look_up._widths["food"] = 8
    with refused(wrong):
        look_up(["u01"])


def store(deployment: Deployment) -> Path:
    return Path(deployment.resolve(deployment.store.folder))


def broken(file: Path) -> None:
    """In place of the file, not in it: SQLite writes its log into a file whose last connection is closed."""
    for path in file.parent.glob(f"{file.name}*"):
        path.unlink()
    file.write_bytes(b"garbage " * 1000)


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        case(
            "an online store that is broken",
            "online.db",
            said="the registry or the online store cannot be used: file is not a database",
        ),
        case("a registry that is broken", "registry.db"),
    ],
)
def test_a_broken_store_is_refused_and_published_again(
    wrong: str, name: str, published: Deployment, spark: Any, tmp_path: Path
) -> None:
    deployment = copy(published, tmp_path / "copy")
    before = lookup(deployment, ["u01"])[0].vectors["food"].vector
    broken(store(deployment) / name)
    with refused(wrong):
        lookup(deployment, ["u01"])
    (store(deployment) / name).unlink()
    assert publish(spark, deployment, DAY3).online_skipped is None
    assert (lookup(deployment, ["u01"])[0].vectors["food"].vector == before).all()


@row("an online store that is lost")
def test_a_lost_store_is_refused(wrong: str, published: Deployment, tmp_path: Path) -> None:
    deployment = copy(published, tmp_path / "copy")
    (store(deployment) / "online.db").unlink()
    with refused(wrong):
        lookup(deployment, ["u01"])
