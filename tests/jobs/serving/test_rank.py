"""Rank, and the SQL functions of an instruction, against numpy over the stored vectors."""

from __future__ import annotations

import json
import logging
import shutil

import deltalake
import numpy as np
import pytest

from jobs.config.deployment import Deployment
from jobs.lake.delta import midnight
from jobs.lake.sql.query import fetch_arrow, run_sql
from jobs.operations.instruction_check import instruction_warnings
from jobs.serving.ask import ask
from jobs.serving.embed import embed
from jobs.serving.rank import rank
from jobs.training.registry import open_release
from model.network import inference
from model.serving.instruction_encoder import InstructionEncoder
from model.training.checkpoint import load_checkpoint
from tests.support.error_page import refused, row
from tests.support.shop import DAY1, DAY2, SCENARIOS, assembled, company, ended, profiles

USERS = 20
FOOD = SCENARIOS[0]["instruction"]
KNOWN = "What does this user like?"
"""A question of the training."""


@pytest.fixture(scope="module")
def shop(spark, shop_releases, tmp_path_factory) -> Deployment:
    """Twenty users of a release with focus; on the second day four change and one ends."""
    deployment = company(tmp_path_factory.mktemp("ranked"))
    shop_releases.install(deployment, focus="universal", decoder=True)
    assembled(spark, deployment, DAY1, profiles(USERS))
    embed(spark, deployment, DAY1)
    changed = profiles(4, seed=1)
    assembled(spark, deployment, DAY2, changed)
    embed(spark, deployment, DAY2)
    return deployment


def stored(deployment: Deployment, scenario: str) -> dict[str, tuple[np.ndarray, object]]:
    """Return each user's latest vector and its as_of, by a literal reading of the rows."""
    rows = deltalake.DeltaTable(deployment.table("user_embeddings")).to_pyarrow_table().to_pylist()
    latest = {r["user_id"]: r for r in sorted(rows, key=lambda r: r["as_of"]) if r["scenario"] == scenario}
    return {u: (np.array(r["embedding"]), r["as_of"]) for u, r in latest.items() if r["embedding"] is not None}


def copied(deployment: Deployment, at) -> Deployment:
    return Deployment.read(shutil.copytree(deployment.path.parent, at / "copy") / deployment.path.name)


def test_the_ranking_is_numpys(shop, spark):
    release = open_release(shop)
    network, tokenizers, _ = load_checkpoint(release.decoder)
    vectors, mask = inference.instruction_vectors(network, tokenizers, ["Games at night?"])
    direction = network.directions(vectors, mask)[0].detach().numpy()
    scores = {user: float(vector @ direction) for user, (vector, _) in stored(shop, "universal").items()}
    expected = sorted(scores, key=lambda user: (-scores[user], user))
    result = rank(spark, shop, " Games at night? ", top=7)
    assert [user.user_id for user in result.ranking] == expected[:7]
    assert [user.score for user in result.ranking] == pytest.approx([scores[user] for user in expected[:7]], abs=1e-5)
    assert [user.place for user in result.ranking] == list(range(1, 8))
    assert {user.user_id: user.as_of for user in result.ranking} == {
        user: at for user, (_, at) in stored(shop, "universal").items() if user in expected[:7]
    }
    assert (result.users, result.other_versions, result.instruction) == (USERS, 0, "Games at night?")
    known = rank(spark, shop, KNOWN)
    assert (known.nearest_question, known.understood, known.warning) == (KNOWN, True, None)
    assert known.cosine == pytest.approx(1, abs=1e-3)
    assert len(known.ranking) == USERS


@row("no vector of the current release to rank")
def test_users_who_ended_or_have_vectors_of_another_version_are_left_out(wrong, shop, spark, tmp_path):
    changed = copied(shop, tmp_path)
    assembled(spark, changed, DAY2, ended(["user-00001", "user-00002"]))
    embed(spark, changed, DAY2)
    table = deltalake.DeltaTable(changed.table("user_embeddings"))
    table.update({"model_version": "'former'"}, predicate="user_id = 'user-00005'")
    result = rank(spark, changed, KNOWN)
    assert {f"user-0000{n}" for n in (1, 2, 5)}.isdisjoint(user.user_id for user in result.ranking)
    assert (result.users, result.other_versions, len(result.ranking)) == (USERS - 3, 1, USERS - 3)
    table.update({"model_version": "'former'"})
    with refused(wrong):
        rank(spark, changed, KNOWN)


def test_sql_gives_a_scenarios_vector_for_its_instruction(shop, spark):
    query = f"""
        SELECT user_id, focus(u.embedding, '{FOOD}') AS focused, score(u.embedding, '{FOOD}') AS score,
               focus(u.embedding, CAST(NULL AS STRING)) AS no_words, score(CAST(NULL AS ARRAY<FLOAT>), '{FOOD}') AS none
        FROM embeddings_universal AS u"""
    rows = fetch_arrow(run_sql(spark, shop, query)).to_pylist()
    expected, universal = stored(shop, "food"), stored(shop, "universal")
    direction = InstructionEncoder(open_release(shop)).encode(FOOD)
    assert len(rows) == USERS
    for values in rows:
        assert np.dot(values["focused"], expected[values["user_id"]][0]) > 0.9999
        assert values["score"] == pytest.approx(float(universal[values["user_id"]][0] @ direction), abs=1e-5)
        assert (values["no_words"], values["none"]) == (None, None)
    query = "SELECT score(embedding, concat('Games at ', hour, '?')) AS s FROM embeddings_universal, " + (
        "VALUES ('night'), ('noon') AS t(hour) WHERE user_id = 'user-00003'"
    )
    assert len({round(r["s"], 6) for r in fetch_arrow(run_sql(spark, shop, query)).to_pylist()}) == 2


@row("an instruction without words")
def test_a_blank_instruction_is_refused(wrong, shop, spark):
    with refused(wrong):
        fetch_arrow(run_sql(spark, shop, "SELECT focus(embedding, ' ') FROM embeddings_universal"))
    with refused(wrong):
        rank(spark, shop, "\t")


@row("a vector of another width to focus")
def test_a_vector_of_another_width_is_refused(wrong, shop, spark):
    with refused(wrong):
        fetch_arrow(run_sql(spark, shop, "SELECT score(CAST(array(1.0, 0.0) AS ARRAY<FLOAT>), 'Games?')"))


@row("a release without focus to rank by")
def test_a_release_without_focus_is_refused(wrong, shop, spark, shop_releases, tmp_path):
    plain = copied(shop, tmp_path)
    shop_releases.install(plain)
    with refused(wrong):
        rank(spark, plain, KNOWN)
    with refused(wrong):
        fetch_arrow(run_sql(spark, plain, "SELECT score(embedding, 'Games?') FROM embeddings_universal"))
    assert instruction_warnings(plain) == {}


def test_an_instruction_that_is_not_understood_is_said(shop, spark, monkeypatch, caplog):
    """An untrained network tells no texts apart, so the limit is raised above every cosine but that of a question."""
    monkeypatch.setattr("model.serving.instruction_encoder.LEAST_COSINE", 0.99999)
    warnings = instruction_warnings(shop)
    assert set(warnings) == {"food", "films"}
    assert "the instruction is not understood: the nearest question of the training is" in warnings["food"]
    result = rank(spark, shop, FOOD)
    assert (result.understood, result.warning) == (False, warnings["food"])
    with caplog.at_level(logging.WARNING, "jobs.serving.ask"):
        [answer] = ask(shop, FOOD, ["user-00003"])
    assert [record.getMessage() for record in caplog.records] == [warnings["food"]]
    assert answer.similar["food"] >= 0.9999


def test_the_command_prints_the_users(shop, spark, capsys):
    from jobs.cli.pages.rank import rank_page
    from jobs.console.output import to_json_line
    from jobs.console.terminal import out

    result = rank(spark, shop, KNOWN, top=2)
    out.print(rank_page(result))
    said = capsys.readouterr().out
    assert f"the first 2 of {USERS} users" in said
    assert KNOWN in said
    assert result.ranking[0].user_id in said
    printed = json.loads(to_json_line(result))
    assert printed["ranking"][0]["as_of"] == midnight(result.ranking[0].as_of.date()).isoformat()
