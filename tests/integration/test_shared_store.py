"""An online store in Redis and a registry in PostgreSQL, which several deployments share. Both servers run here."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from redis import Redis

from feature_repo.settings import StoreError
from jobs.serving.lookup import lookup
from jobs.serving.online_update import update_online
from jobs.serving.publish import publish
from tests.support import servers
from tests.support.deployment import deploy
from tests.support.embedded import CHANGES, DAY1, USERS, assert_online, embed, some
from tests.support.error_page import row, says

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store():
    """Return the `store` section of a deployment file."""
    with ExitStack() as stack:
        try:
            redis, registry = (stack.enter_context(start()) for start in (servers.redis, servers.postgresql))
        except servers.NotInstalledError as error:
            pytest.skip(str(error))
        yield {"folder": "store", "registry": registry, "online": {"type": "redis", "connection_string": redis}}


def client_of(store) -> Redis:
    host, port = store["online"]["connection_string"].split(":")
    return Redis(host, int(port))


def test_redis_says_what_the_latest_rows_say_also_after_a_day_is_made_again(spark, tmp_path, store):
    deployment = deploy(tmp_path, store=store, **CHANGES)
    # A repeated day has the times of the rows online, which Redis by itself would keep.
    for seed in (1, 7):
        embed(spark, deployment, DAY1, some(seed, USERS))
        assert publish(spark, deployment, DAY1).written == len(USERS)
        assert_online(deployment, {DAY1: some(seed, USERS)})
    assert not [path for path in (tmp_path / "store").iterdir() if path.suffix == ".db"]

    with client_of(store) as client:
        client.flushall()
    with pytest.raises(StoreError, match="was emptied, or store"):
        lookup(deployment, ["u01"])
    assert update_online(spark, deployment).written == len(USERS)
    assert_online(deployment, {DAY1: some(7, USERS)})


def test_two_deployments_share_one_redis_and_one_registry(spark, tmp_path, store):
    first, second = (
        deploy(tmp_path / name, name=name, store={**store, "project": name}, **CHANGES) for name in ("first", "second")
    )
    for deployment, seed in ((first, 1), (second, 2)):
        embed(spark, deployment, DAY1, some(seed, USERS[:5]))
        publish(spark, deployment, DAY1)
    assert_online(first, {DAY1: some(1, USERS[:5])})
    assert_online(second, {DAY1: some(2, USERS[:5])})


def test_two_lakes_cannot_share_a_project_in_redis(spark, tmp_path, store):
    """Each has a registry of its own, so that only Redis knows of both."""
    first, second = (
        deploy(tmp_path / name, store={"folder": "store", "project": "same", "online": store["online"]}, **CHANGES)
        for name in ("first", "second")
    )
    for deployment, seed in ((first, 1), (second, 2)):
        embed(spark, deployment, DAY1, some(seed, USERS[:5]))
    publish(spark, first, DAY1)
    for use in (lambda: publish(spark, second, DAY1), lambda: lookup(second, ["u01"])):
        with pytest.raises(StoreError, match=f"in redis holds the vectors of the lake with {first.path.parent}"):
            use()
    assert_online(first, {DAY1: some(1, USERS[:5])})


@row("a Redis that evicts keys")
def test_a_redis_that_forgets_is_refused_and_keys_that_expire_are_kept(wrong, spark, tmp_path, store):
    deployment = deploy(tmp_path, store={**store, "project": "kept"}, **CHANGES)
    embed(spark, deployment, DAY1, some(3, USERS[:5]))
    with client_of(store) as client:
        client.flushall()
        client.config_set("maxmemory", "1gb")
        client.config_set("maxmemory-policy", "allkeys-lru")
        with pytest.raises(StoreError) as caught:
            publish(spark, deployment, DAY1)
        says(wrong, "refused", caught.value)
        client.config_set("maxmemory-policy", "noeviction")
        publish(spark, deployment, DAY1)
        # An earlier version of the project recorded no owner, and let keys expire.
        keys = client.keys("*")
        client.delete(next(key for key in keys if b"(owner)" in key))
        for key in keys:
            client.expire(key, 3600)
        assert update_online(spark, deployment).written == 0
        assert {client.ttl(key) for key in client.keys("*")} == {-1}
        # A server may forbid the command that tells its policy.
        client.execute_command("ACL", "SETUSER", "default", "-info")
        try:
            assert update_online(spark, deployment).written == 0
        finally:
            client.execute_command("ACL", "SETUSER", "default", "+info")
    assert_online(deployment, {DAY1: some(3, USERS[:5])})


def test_settings_of_redis_that_keep_the_promises_are_taken(spark, tmp_path, store):
    online = {**store["online"], "full_scan_for_deletion": False, "key_ttl_seconds": 0, "skip_dedup": True}
    deployment = deploy(tmp_path, store={**store, "project": "other", "online": online}, **CHANGES)
    for seed in (1, 7):
        embed(spark, deployment, DAY1, some(seed, USERS[:5]))
        publish(spark, deployment, DAY1)
        assert_online(deployment, {DAY1: some(seed, USERS[:5])})
    fewer = deploy(tmp_path, store={**store, "project": "other", "online": online}, scenarios=CHANGES["scenarios"][:1])
    update_online(spark, fewer)
    assert lookup(fewer, ["u01"])[0].vectors.keys() == {"universal", "food"}
