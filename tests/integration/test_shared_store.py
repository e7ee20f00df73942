"""An online store in Redis and a registry in PostgreSQL, which several deployments share. Both servers run here."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from redis import Redis

from jobs.serving.online_update import update_online
from jobs.serving.publish import publish
from tests.support import servers
from tests.support.deployment import deploy
from tests.support.embedded import CHANGES, DAY1, USERS, assert_online, embed, some

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


def test_redis_says_what_the_latest_rows_say_also_after_a_day_is_made_again(spark, tmp_path, store):
    deployment = deploy(tmp_path, store=store, **CHANGES)
    # A repeated day has the times of the rows online, which Redis by itself would keep.
    for seed in (1, 7):
        embed(spark, deployment, DAY1, some(seed, USERS))
        assert publish(spark, deployment, DAY1).written == len(USERS)
        assert_online(deployment, {DAY1: some(seed, USERS)})
    assert not [path for path in (tmp_path / "store").iterdir() if path.suffix == ".db"]

    host, port = store["online"]["connection_string"].split(":")
    with Redis(host, int(port)) as client:
        client.flushall()
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
