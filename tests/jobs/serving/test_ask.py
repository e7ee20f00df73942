"""Ask: the answer is the network's, the embedding the release's own, and asking everybody again replaces the rows."""

from __future__ import annotations

import json
import shutil
from datetime import date

import deltalake
import numpy as np
import pyarrow as pa
import pytest

from jobs.config.deployment import Deployment
from jobs.lake.delta import midnight
from jobs.serving.ask import ask, ask_all
from jobs.training.registry import checkpoints_folder, open_release, releases_folder
from model.network import inference
from model.serving.export import add_instructions, add_tuned
from model.serving.onnx_runtime import load
from model.serving.release import read
from model.serving.release_draft import new_draft
from model.training.checkpoint import load_checkpoint
from tests.support import shop
from tests.support.error_page import refused, row
from tests.support.made_up import made_up_profiles
from tests.support.training_tables import write_day

DAY1, DAY2 = date(2025, 3, 1), date(2025, 3, 2)
FOOD = "Predict whether this user will order food."
USERS = 12


@pytest.fixture(scope="module")
def shared(tmp_path_factory, shop_releases) -> Deployment:
    """Twelve users, five of whom changed on the second day and one of whom has ended, and a release that can answer."""
    deployment = shop.company(tmp_path_factory.mktemp("asked"))
    write_day(deployment, "user_profiles", made_up_profiles(USERS, seed=1), DAY1)
    write_day(
        deployment, "user_profiles", pa.concat_tables([shop.profiles(5, seed=2), shop.ended(["user-00007"])]), DAY2
    )
    shop_releases.copy_checkpoint(checkpoints_folder(deployment) / "first")
    shop_releases.install(deployment, decoder=True)
    return deployment


def copied(deployment: Deployment, at) -> Deployment:
    return Deployment.read(shutil.copytree(deployment.path.parent, at / "copy") / deployment.path.name)


def latest() -> pa.Table:
    """Return the eleven profiles of the second day, computed without the job."""
    names = shop.profiles(1).schema.names
    first = made_up_profiles(USERS, seed=1).select(names)
    kept = [user for user in range(5, USERS) if user != 7]
    return pa.concat_tables([shop.profiles(5, seed=2), first.take(kept)])


def test_the_answer_is_the_networks_and_the_embedding_the_releases(shared):
    network, tokenizers, _ = load_checkpoint(checkpoints_folder(shared) / "first")
    two = latest().take([3, 8])
    answers = ask(shared, "What now?", two["user_id"].to_pylist())
    assert [answer.user_id for answer in answers] == two["user_id"].to_pylist() == ["user-00003", "user-00009"]
    assert [answer.as_of for answer in answers] == [midnight(DAY2), midnight(DAY1)]
    assert [answer.answer for answer in answers] == inference.generate(network, tokenizers, two, "What now?")
    expected = inference.embed(network, tokenizers, two, ["What now?", None])
    for answer, (vector, universal) in zip(answers, expected, strict=True):
        assert answer.embedding @ vector > 0.9999
        assert answer.similar["universal"] == pytest.approx(float(vector @ universal), abs=1e-3)
        assert set(answer.similar) == {"universal", "food", "films"}


def test_a_scenarios_own_instruction_gives_its_stored_vector(shared):
    stored = load(open_release(shared).path).embed(latest(), ["food"])[:, 0]
    answers = ask(shared, f"  {FOOD} ", latest()["user_id"].to_pylist())
    for answer, vector in zip(answers, stored, strict=True):
        assert answer.embedding @ vector >= 0.9999
        assert answer.similar["food"] >= 0.9999


def test_all_are_written_once_however_often_they_are_asked(shared, tmp_path):
    company = copied(shared, tmp_path)
    done = ask_all(company, FOOD, "answers")
    assert (done.as_of, done.users) == (DAY2, USERS - 1)

    def rows() -> dict:
        table = deltalake.DeltaTable(company.table("answers")).to_pyarrow_table().to_pylist()
        by_key = {(row["user_id"], row["day"], row["instruction"]): row for row in table}
        assert len(by_key) == len(table)
        return by_key

    first = rows()
    assert set(first) == {(user, DAY2, FOOD) for user in latest()["user_id"].to_pylist()}
    release = open_release(company)
    stored = load(release.path).embed(latest(), ["food"])[:, 0]
    said = ask(company, FOOD, latest()["user_id"].to_pylist())
    for answer, vector in zip(said, stored, strict=True):
        row = first[answer.user_id, DAY2, FOOD]
        assert (row["answer"], row["as_of"]) == (answer.answer, midnight(DAY2))
        assert row["model_version"] == release.model_version
        assert np.dot(row["embedding"], vector) >= 0.9999
    ask_all(company, FOOD, "answers")
    assert rows() == first
    ask_all(company, "What's new?", "answers")
    ask_all(company, "What's new?", "answers")
    ask_all(company, FOOD, "answers", as_of=DAY1)
    assert {(day, instruction) for _, day, instruction in rows()} == {(DAY2, FOOD), (DAY2, "What's new?"), (DAY1, FOOD)}
    assert len(rows()) == 2 * (USERS - 1) + USERS
    [run] = (
        deltalake.DeltaTable(company.table("job_runs"))
        .to_pyarrow_table(filters=[("job", "=", "ask"), ("day", "=", DAY1)])
        .to_pylist()
    )
    assert (run["status"], run["rows_out"]) == ("ok", USERS)


def test_a_release_carries_its_decoder_along_and_none_shapes_a_vector(shared, shop_releases, tmp_path):
    company = copied(shared, tmp_path)
    whole, trained = open_release(company), checkpoints_folder(company) / "first"
    common = {"deployment": "name: shop\n", "profiles": made_up_profiles(20)}
    bare = shop_releases.install(company)
    assert bare.model_version == whole.model_version
    assert bare.path != whole.path
    assert {name for name in whole.files if name not in bare.files} == {
        f"decoder/{name}"
        for name in ("config.json", "model.safetensors", "event_tokenizer.json", "language_tokenizer.json")
    }
    more = add_instructions(whole, trained, {"games": "Games?"}, **common)
    tuned = add_tuned(more, trained, "food", more.vectors()["food"] * 2, {"users": 4, "instruction": FOOD}, **common)
    for release in (more, tuned):
        assert {name: release.files[name] for name in release.files if name.startswith("decoder/")} == {
            name: whole.files[name] for name in whole.files if name.startswith("decoder/")
        }
    mended = add_instructions(bare, trained, {}, decoder=True, **common)
    assert mended.decoder == mended.path / "decoder"
    assert read(whole.path) == whole
    with new_draft(releases_folder(company)) as left:
        assert left.is_dir()


@row("a changed byte in the decoder", said="decoder/model.safetensors was changed after the export")
def test_a_changed_decoder_is_refused(wrong, shared, tmp_path):
    company = copied(shared, tmp_path)
    weights = open_release(company).decoder / "model.safetensors"
    whole = bytearray(weights.read_bytes())
    whole[len(whole) // 2] ^= 1
    weights.write_bytes(whole)
    with refused(wrong):
        ask(company, FOOD, ["user-00001"])


@row("a release without a decoder to ask")
def test_a_release_without_a_decoder_is_refused(wrong, shared, shop_releases, tmp_path):
    company = copied(shared, tmp_path)
    bare = shop_releases.install(company)
    with refused(wrong):
        ask(company, FOOD, ["user-00001"], release=bare.path)
    with refused(wrong):
        ask_all(company, FOOD, "answers", release=bare.path)


@row("a user to ask about who has no profile")
def test_an_unknown_user_is_refused(wrong, shared):
    with refused(wrong):
        ask(shared, FOOD, ["user-00001", "nobody"])


@row("a user to ask about who has ended", said="no profile of 'user-00007': name users of user_profiles")
def test_a_user_who_has_ended_is_refused(wrong, shared):
    with refused(wrong):
        ask(shared, FOOD, ["user-00007"])


@row("no user to ask about", said="no user is named: give --user U, once for each, or --all")
def test_nobody_is_refused(wrong, shared):
    with refused(wrong):
        ask(shared, FOOD, [])


@row("an empty question", said="the instruction is empty: ask something")
def test_an_empty_question_is_refused(wrong, shared):
    with refused(wrong):
        ask(shared, " ", ["user-00001"])


@row("a table for answers that holds something else")
def test_a_table_of_something_else_is_refused(wrong, shared):
    with refused(wrong):
        ask_all(shared, FOOD, "user_profiles")


def test_the_command_prints_the_answer_beside_the_embedding(shared, capsys):
    from jobs.cli.main import app

    app(["ask", FOOD, "--user", "user-00003", "--json", "-c", str(shared.path)], standalone_mode=False)
    printed = json.loads(capsys.readouterr().out)
    assert printed["user_id"] == "user-00003"
    assert len(printed["embedding"]) == load(open_release(shared).path).width
    app(["ask", FOOD, "--user", "user-00003", "-c", str(shared.path)], standalone_mode=False)
    said = capsys.readouterr().out
    assert "food 1.000" in said
    assert "user-00003" in said


def test_a_user_may_be_named_with_the_padding_of_a_char(shared):
    answers = ask(shared, FOOD, np.array(["user-00003   ", "user-00003"]))
    assert [answer.user_id for answer in answers] == ["user-00003"]


@row("bytes for a user to ask about", said="row 0: user id of type bytes: give texts, whole numbers or decimals")
def test_bytes_are_no_user(wrong, shared):
    with refused(wrong):
        ask(shared, FOOD, [b"user-00003"])
