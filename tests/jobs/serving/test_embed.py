"""Embed: the day holds what is new and nothing else, whenever it is run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import deltalake
import numpy as np
import pyarrow as pa
import pytest

from jobs.config.deployment import Deployment
from jobs.lake.delta import midnight
from jobs.lake.spark_tables import job_run
from jobs.serving.embed import EmbedError, embed
from jobs.training.registry import open_release, promote, releases_folder, scenario_instructions
from model.serving.export import add_tuned
from model.serving.release import ReleaseError
from model.training.checkpoint import load_checkpoint
from tests.support.shop import DAY1, DAY2, DAY3, DAY4, SCENARIOS, assembled, company, ended, profiles

ROOT = Path(__file__).parents[3]
USERS = 30
NAMES = ("universal", "food", "films")


@pytest.fixture(scope="module")
def trained(shop_releases) -> Path:
    return shop_releases.checkpoint()


@pytest.fixture(scope="module")
def first(spark, shop_releases, tmp_path_factory) -> Deployment:
    """A company of 30 users, a release, and its first day embedded; tests that change it take a copy."""
    deployment = company(tmp_path_factory.mktemp("first"))
    shop_releases.install(deployment)
    assembled(spark, deployment, DAY1, profiles(USERS))
    done = embed(spark, deployment, DAY1)
    assert (done.users, done.embedded, done.deactivated, done.ended, done.replaced) == (USERS, USERS, 0, 0, True)
    assert done.vectors == {name: USERS for name in NAMES}
    return deployment


@pytest.fixture
def shop(first, tmp_path) -> Deployment:
    return copy(first, tmp_path / "shop")


def copy(deployment: Deployment, at: Path) -> Deployment:
    shutil.copytree(deployment.path.parent, at)
    return Deployment.read(at / deployment.path.name)


def rows(deployment: Deployment, day) -> dict[tuple[str, str], dict]:
    table = deltalake.DeltaTable(deployment.table("user_embeddings")).to_pyarrow_table(filters=[("day", "=", day)])
    by_key = {(row["user_id"], row["scenario"]): row for row in table.to_pylist()}
    assert len(by_key) == len(table), "a pair has two rows in a day"
    return by_key


def same_vectors(one: dict, other: dict, cosine: float = 0.99999) -> None:
    """The same keys and hashes, and vectors equal to a cosine."""
    hashes = ("profile_hash", "instruction_hash", "model_version", "as_of")
    assert {key: [row[name] for name in hashes] for key, row in one.items()} == {
        key: [row[name] for name in hashes] for key, row in other.items()
    }
    for key, row in one.items():
        if row["embedding"] is None:
            assert other[key]["embedding"] is None
        else:
            assert np.dot(row["embedding"], other[key]["embedding"]) > cosine


def run_of(deployment: Deployment, day) -> dict:
    runs = deltalake.DeltaTable(deployment.table("job_runs")).to_pyarrow_table(
        filters=[("day", "=", day), ("job", "=", "embed")]
    )
    assert len(runs) == 1
    return runs.to_pylist()[0]


def test_every_user_has_torchs_vector_in_every_scenario(first, trained):
    from model.network.inference import embed as torch_embed

    network, tokenizers, _ = load_checkpoint(trained)
    expected = torch_embed(network, tokenizers, profiles(USERS), list(scenario_instructions(first).values()))
    stored = rows(first, DAY1)
    assert set(stored) == {(user, name) for user in profiles(USERS)["user_id"].to_pylist() for name in NAMES}
    for number, user in enumerate(profiles(USERS)["user_id"].to_pylist()):
        for column, name in enumerate(NAMES):
            assert np.dot(stored[user, name]["embedding"], expected[number, column]) > 0.9999
    row = stored["user-00003", "food"]
    assert row["profile_hash"] == "0-3"
    assert row["as_of"] == midnight(DAY1)
    assert len({row["instruction_hash"] for row in stored.values()}) == 3
    run = run_of(first, DAY1)
    assert (run["status"], run["rows_in"], run["rows_out"]) == ("ok", USERS, 3 * USERS)
    assert set(dict(run["versions"])) == {"user_profiles"}
    assert run["model_version"] == row["model_version"]


def test_a_day_holds_what_changed_what_is_new_and_what_ended(spark, shop, monkeypatch):
    changed, new = profiles(6, seed=1).slice(2, 3), profiles(USERS + 2, seed=2).slice(USERS)
    assembled(spark, shop, DAY2, pa.concat_tables([changed, new, ended(["user-00007"])]))
    done = embed(spark, shop, DAY2)
    assert (done.users, done.embedded, done.deactivated, done.ended) == (USERS + 1, 5, 1, len(NAMES))
    stored = rows(shop, DAY2)
    users = {"user-00002", "user-00003", "user-00004", "user-00030", "user-00031", "user-00007"}
    assert set(stored) == {(user, name) for user in users for name in NAMES}
    assert {user for (user, _), row in stored.items() if row["embedding"] is None} == {"user-00007"}
    assert {row["profile_hash"] for (user, _), row in stored.items() if user == "user-00007"} == {None}
    assert run_of(shop, DAY2)["left_out"] == [("unchanged", USERS - 4)]
    # Comparing everybody, not those alone who have a profile since, comes to the same rows.
    with monkeypatch.context() as patched:
        patched.setattr("jobs.serving.embed._compared_until", lambda *_: None)
        assert not embed(spark, shop, DAY2).replaced
    assert run_of(shop, DAY2)["left_out"] == [("unchanged", USERS - 4)]

    # Nothing changes: an ended user does not end twice. Then one comes back as before.
    assembled(spark, shop, DAY3, profiles(1).slice(0, 0))
    assert (embed(spark, shop, DAY3).embedded, rows(shop, DAY3)) == (0, {})
    assembled(spark, shop, DAY4, profiles(8).slice(7))
    assert set(row[0] for row in rows(shop, DAY4)) == set()
    assert embed(spark, shop, DAY4).embedded == 1
    same_vectors(
        {key: row | {"as_of": None} for key, row in rows(shop, DAY4).items()},
        {key: row | {"as_of": None} for key, row in rows(shop, DAY1).items() if key[0] == "user-00007"},
    )


def test_the_same_day_again_writes_nothing_and_runs_no_model(spark, shop):
    before, version = rows(shop, DAY1), deltalake.DeltaTable(shop.table("user_embeddings")).version()
    # Were the model run, this provider, which no build has, would be refused.
    blind = company(shop.path.parent, model={"providers": ["AbacusExecutionProvider"]})
    assert not embed(spark, blind, DAY1).replaced
    assert deltalake.DeltaTable(shop.table("user_embeddings")).version() == version
    assert rows(shop, DAY1) == before
    assert run_of(shop, DAY1)["status"] == "ok"


def test_a_past_day_again_is_what_it_was_and_what_was_lost_comes_back(spark, shop):
    assembled(spark, shop, DAY2, profiles(3, seed=1))
    embed(spark, shop, DAY2)
    days = {day: rows(shop, day) for day in (DAY1, DAY2)}
    deltalake.DeltaTable(shop.table("user_embeddings")).delete("user_id = 'user-00001'")
    for day in (DAY1, DAY2):
        assert embed(spark, shop, day).replaced
        same_vectors(rows(shop, day), days[day])


def test_only_users_with_a_profile_since_the_last_embedded_day_are_compared_while_that_day_is_fresh(spark, shop):
    """Rows that other users lost come back once that day is stale: then every user is compared."""
    table = deltalake.DeltaTable(shop.table("user_embeddings"))
    table.delete("user_id = 'user-00009'")
    assembled(spark, shop, DAY2, profiles(2, seed=1))
    assert embed(spark, shop, DAY2).embedded == 2
    assembled(spark, shop, DAY3, profiles(1, seed=2))
    with pytest.raises(EmbedError):
        embed(spark, shop, DAY4)
    assert embed(spark, shop, DAY3).embedded == 1
    with job_run(spark, shop, "embed", DAY2) as run:
        run.replacing()
    assert set(user for user, _ in rows(shop, DAY3)) == {"user-00000"}
    assert embed(spark, shop, DAY3).embedded == 2
    assert set(user for user, _ in rows(shop, DAY3)) == {"user-00000", "user-00009"}


def test_a_new_scenario_embeds_itself_alone(spark, shop, trained):
    from model.serving.export import add_instructions
    from model.serving.release import read

    more = company(shop.path.parent, scenarios=[*SCENARIOS, {"name": "games", "instruction": "Games?"}])
    assembled(spark, more, DAY2, profiles(2, seed=1).slice(1))
    with pytest.raises(ReleaseError, match="does not serve games"):
        embed(spark, more, DAY2)
    before = read(next(releases_folder(more).glob("*-*")))
    release = add_instructions(before, trained, scenario_instructions(more), deployment="", profiles=profiles(10))
    promote(more, release.path)
    done = embed(spark, more, DAY2)
    assert done.vectors == {"universal": 1, "food": 1, "films": 1, "games": USERS}
    assert {name for user, name in rows(more, DAY2) if user != "user-00001"} == {"games"}
    assert {row["model_version"] for row in rows(more, DAY2).values()} == {before.model_version}


def test_the_vectors_of_a_removed_scenario_end_once(spark, shop):
    fewer = company(shop.path.parent, scenarios=SCENARIOS[:1])
    assembled(spark, fewer, DAY2, pa.concat_tables([profiles(3, seed=1).slice(2), ended(["user-00007"])]))
    done = embed(spark, fewer, DAY2)
    assert (done.vectors, done.deactivated, done.ended) == ({"universal": 1, "food": 1}, 1, USERS + 2)
    stored = rows(fewer, DAY2)
    assert {user for user, name in stored if name == "films"} == {user for user, name in rows(shop, DAY1)}
    assert {name for user, name in stored if user == "user-00007"} == set(NAMES)
    for (user, name), row in stored.items():
        if name == "films" or user == "user-00007":
            assert (row["embedding"], row["profile_hash"]) == (None, None)
    assert run_of(fewer, DAY2)["rows_out"] == 2 + USERS + 2
    assert not embed(spark, fewer, DAY2).replaced
    assert rows(fewer, DAY2) == stored

    # The next day ends nothing. A scenario that returns is embedded again.
    assembled(spark, fewer, DAY3, profiles(2, seed=2))
    done = embed(spark, fewer, DAY3)
    assert (done.vectors, done.ended) == ({"universal": 2, "food": 2}, 0)
    again = company(shop.path.parent)
    assembled(spark, again, DAY4, profiles(1).slice(0, 0))
    done = embed(spark, again, DAY4)
    assert (done.vectors, done.ended) == ({"films": USERS - 1}, 0)


def test_another_model_embeds_everything_again(spark, shop, shop_releases):
    shop_releases.install(shop, seed=1)
    assembled(spark, shop, DAY2, profiles(1).slice(0, 0))
    done = embed(spark, shop, DAY2)
    assert done.vectors == {name: USERS for name in NAMES}
    assert {row["model_version"] for row in rows(shop, DAY2).values()} == {done.model_version}


def test_a_deployment_that_shapes_vectors_otherwise_is_refused(spark, shop):
    sources = [shop.sources[0].model_dump() | {"template": "{interest}"}, shop.sources[1].model_dump()]
    with pytest.raises(ReleaseError, match=r"sources\.bill\.template"):
        embed(spark, company(shop.path.parent, sources=sources), DAY1)


def test_a_day_without_fresh_profiles_is_refused(spark, shop):
    with pytest.raises(EmbedError, match=f"assemble has not run for {DAY2}"):
        embed(spark, shop, DAY2)
    assert run_of(shop, DAY2)["status"] == "failed"
    # The message names the first stale day.
    assembled(spark, shop, DAY3, profiles(1))
    assembled(spark, shop, DAY2, profiles(1, seed=1))
    with pytest.raises(EmbedError, match=f"assemble --as-of {DAY3} --through {DAY3}"):
        embed(spark, shop, DAY3)
    assembled(spark, shop, DAY4, profiles(1, seed=1))
    assembled(spark, shop, DAY2, profiles(1, seed=2))
    with pytest.raises(EmbedError, match=f"assemble --as-of {DAY3} --through {DAY4}"):
        embed(spark, shop, DAY4)


def test_a_refused_embed_leaves_a_good_day_as_it_was(spark, shop):
    before = run_of(shop, DAY1)
    sources = [shop.sources[0].model_dump() | {"template": "{interest}"}, shop.sources[1].model_dump()]
    assembled(spark, company(shop.path.parent, sources=sources), DAY1, profiles(USERS))
    with pytest.raises(EmbedError, match=r"sources\.bill\.template"):
        embed(spark, shop, DAY1)
    after = run_of(shop, DAY1)
    assert (before["status"], after["status"]) == ("ok", "ok")
    assert "template" in json.loads(after["details"])["refused"]


WORKER = """
import sys
for name in ('torch', 'transformers', 'delta', 'deltalake', 'sklearn'): sys.modules[name] = None
import pickle, numpy as np
import jobs.serving.embed_udf
embedder, columns = pickle.load(open(sys.argv[1], 'rb'))
(vectors,) = embedder.function()(iter([columns]))
np.save(sys.argv[2], np.stack([np.stack(user) for user in vectors.to_pylist()]))
"""


def test_a_worker_needs_no_torch_and_reads_no_more_events_than_the_limit(first, tmp_path):
    """The columns that Spark sends, with twice as many events as the release reads."""
    import pickle

    from jobs.serving.embed_udf import Embedder
    from model.serving.onnx_runtime import load

    some = profiles(9, seed=4)
    path = str(next(releases_folder(first).glob("*-*")))
    embedder = Embedder(
        release=path, providers=("CPUExecutionProvider",), threads=1, sources=("bill", "search"), tabular=True
    )
    listed = some.to_pylist()
    doubled = [row | {name: row[name] + row[name] for name in ("bill", "search")} for row in listed]
    sent = pa.Table.from_pylist(doubled, some.schema).append_column("scenarios", pa.array(["films,universal"] * 9))
    columns = [sent[name].combine_chunks() for name in embedder.columns]
    (tmp_path / "columns").write_bytes(pickle.dumps((embedder, tuple(columns))))
    subprocess.run([sys.executable, "-c", WORKER, tmp_path / "columns", tmp_path / "vectors.npy"], check=True, cwd=ROOT)
    last = [row | {"bill": row["bill"][-24:], "search": row["search"][-10:]} for row in doubled]
    expected = load(path).embed(pa.Table.from_pylist(last, some.schema), ["films", "universal"])
    assert np.einsum("ukh,ukh->uk", np.load(tmp_path / "vectors.npy"), expected).min() > 0.99999


def test_a_tuned_instruction_renews_its_scenario_alone(spark, shop, trained):
    before = open_release(shop)
    release = add_tuned(
        before,
        trained,
        "food",
        1.5 * before.vectors()["food"],
        {"instruction": "Food?", "users": 9},
        deployment=shop.path.read_text(),
        profiles=profiles(8),
    )
    promote(shop, release.path)
    assembled(spark, shop, DAY2, profiles(USERS))
    assert {name: count for name, count in embed(spark, shop, DAY2).vectors.items() if count} == {"food": USERS}
