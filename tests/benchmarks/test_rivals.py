"""Rivals: what each is given and makes, against literal values; the comparison as a whole, and what it keeps."""

from __future__ import annotations

import json
import os
import re
import zlib
from argparse import Namespace
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import AutoModel, AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from benchmarks.rivals import embedder, language, pooled, sequences
from benchmarks.rivals.__main__ import compare, rows, table
from benchmarks.rivals.cells import Standing
from benchmarks.rivals.contenders import chosen, contenders
from benchmarks.rivals.errors import RivalError
from benchmarks.rivals.material import Material
from jobs.config.deployment import Deployment
from jobs.evaluation.evaluate import evaluate
from jobs.training.registry import checkpoints_folder, releases_folder, set_current_checkpoint
from model.data.config import EventSource, Tabular
from model.data.text import TokenIds
from model.training.probe import probe
from tests.support import shop
from tests.support.made_up import AS_OF, made_up_profiles, network_config
from tests.support.training_tables import label_row, write_day, write_labels

LIFESTREAM = Path(os.environ.get("LIFESTREAM_PYTHON", sequences.DEFAULT_PYTHON))
CONFIG = replace(
    network_config(),
    tabular=Tabular(),
    sources=(
        EventSource(name="search", max_events=5, max_tokens=8),
        EventSource(name="bill", max_events=2, max_tokens=16),
    ),
)


def profile(user: str, as_of: datetime = AS_OF, **events: list[tuple[float, str]]) -> dict[str, object]:
    """A profile with events so many days before AS_OF."""
    made = {
        name: [{"event_time": AS_OF - timedelta(days=days), "text": text, "gap": -1} for days, text in some]
        for name, some in events.items()
    }
    return {
        "user_id": user,
        "as_of": as_of,
        "bill": [],
        "search": None,
        "ages": {},
        "tabular": {},
        "profile_hash": None,
        "interest": 0,
    } | made


def profiles(*given: dict[str, object]) -> pa.Table:
    return pa.Table.from_pylist(list(given), made_up_profiles(1).schema)


def two_cut_offs(users: int, seed: int, **shape: float) -> pa.Table:
    """Made-up profiles, and the same as they were 100 days before."""
    late = made_up_profiles(users, seed=seed, **shape)
    before = AS_OF - timedelta(days=100)
    early = [
        row
        | {"as_of": before}
        | {name: [event for event in row[name] if event["event_time"] < before] for name in ("bill", "search")}
        for row in late.to_pylist()
    ]
    return pa.concat_tables([late, pa.Table.from_pylist(early, late.schema)])


def auc(vectors_UH: np.ndarray, scored: pa.Table) -> float:
    labels_U = (np.array(scored["interest"]) < 2).astype(int)
    return probe(vectors_UH, labels_U, scored["user_id"].to_pylist(), split_seeds=("probe-1", "probe-2")).auc


def test_a_sequence_holds_the_last_events_of_all_sources_in_the_order_of_time() -> None:
    made = sequences.Sequences.of(
        profiles(
            profile("a", bill=[(9, "left out"), (4, "tea: green, ~8"), (1, "bus")], search=[(2.5, "films/new")]),
            profile("nobody"),
            profile("b", search=[(1, "x")]),
        ),
        CONFIG,
    )
    assert made.offsets_U1.tolist() == [0, 3, 4, 5]
    assert made.codes_EC[:, 0].tolist() == [2, 1, 2, 0, 1]
    assert made.gap_E.tolist() == [0, 1.5, 1.5, 0, 0]
    assert made.age_E.tolist() == [4, 2.5, 1, 0, 1]

    def code(text: str) -> int:
        return 1 + zlib.crc32(text.encode()) % 4095

    assert made.codes_EC[0, 1:].tolist() == [code(text) for text in ("tea: green, ~8", "tea", "green", "~8")] + [0] * 3
    assert made.codes_EC[1, 1:].tolist() == [code(text) for text in ("films/new", "films", "new")] + [0] * 4
    assert made.codes_EC[3].tolist() == [0] * 8


def test_an_environment_that_is_not_there_is_named() -> None:
    table = profiles(profile("a"))
    with pytest.raises(RivalError, match=r"no /nowhere/python.*uv venv.*requirements\.txt"):
        sequences.vectors(
            table,
            table,
            CONFIG,
            sequences.SequenceSettings(),
            method="cpc",
            python="/nowhere/python",
            seed=0,
            trained=False,
        )


@pytest.mark.skipif(
    not LIFESTREAM.exists(),
    reason=f"no environment with pytorch-lifestream at {LIFESTREAM}: "
    "docs/rivals.md says how to make one, LIFESTREAM_PYTHON names another",
)
@pytest.mark.parametrize("method", ["coles", "cpc"])
def test_a_sequence_encoder_learns_more_than_its_first_weights_know(method: str) -> None:
    training, scored = two_cut_offs(300, 1, events=12), made_up_profiles(300, seed=2, events=12)
    trained, fresh = (
        sequences.vectors(
            training,
            scored,
            network_config(),
            sequences.SequenceSettings(epochs=4),
            method=method,
            python=LIFESTREAM,
            seed=0,
            trained=trained,
        )
        for trained in (True, False)
    )
    assert trained.shape == (300, 128)
    assert auc(trained, scored) > auc(fresh, scored) + 0.03


def test_what_follows_a_profile_is_what_the_next_cut_off_adds() -> None:
    before = AS_OF - timedelta(days=10)
    training = profiles(
        profile("a", bill=[(12, "old tea"), (10, "tea"), (1, "tea bus")], search=[(3, "films")]),
        profile("nothing new", before, bill=[(12, "tea")]),
        profile("nothing new", bill=[(12, "tea")]),
        profile("a", before, bill=[(12, "old tea")]),
        profile("only once", bill=[(1, "tea")]),
    )
    row_P, next_PV = pooled.following(training, ["bill", "search"], fewest_texts=1)
    assert row_P.tolist() == [3]
    # An event at the cut-off itself comes after it: tea twice, bus and films once.
    np.testing.assert_allclose(np.sort(next_PV.toarray()[0]), [0.25, 0.25, 0.5])
    with pytest.raises(RivalError, match="two cut-offs"):
        pooled.following(training.slice(4), ["bill", "search"], fewest_texts=1)


def test_pooled_events_are_the_mean_of_their_factors_and_their_count() -> None:
    training = made_up_profiles(60, seed=1, events=6)
    read = pooled.Inputs.fit(training, network_config(), pooled.PooledSettings(factors=5), seed=0)
    raw_UD = read(training) * read.scale_D + read.mean_D
    texts = [event["text"] for event in training["bill"][5].as_py()]
    expected = read.svd.transform(read.words.transform(texts)).mean(0)
    np.testing.assert_allclose(raw_UD[5, :5], expected, atol=1e-5)
    np.testing.assert_allclose(raw_UD[5, 5], np.log1p(len(texts)), atol=1e-5)
    np.testing.assert_allclose(raw_UD[0, :12], 0, atol=1e-5)  # who has no event


def test_the_pooled_network_learns_more_than_its_first_weights_know() -> None:
    training, scored = two_cut_offs(300, 1, events=8), made_up_profiles(300, seed=2, events=8)
    settings = pooled.PooledSettings(steps=200, factors=16, width=32, vector=6)
    trained, fresh = (
        pooled.vectors(training, scored, network_config(), settings, seed=0, trained=trained)
        for trained in (True, False)
    )
    assert trained.shape == fresh.shape == (300, 6)
    assert auc(trained, scored) > auc(fresh, scored) + 0.05


def test_hidden_states_are_those_of_the_text_alone() -> None:
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=50,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            intermediate_size=32,
        )
    ).eval()
    texts = [[5, 6, 7, 8], [9], [3, 3, 2]]
    found = language.hidden_states(model, TokenIds.of(texts), batch_size=2)
    with torch.inference_mode():
        for text, (last, mean) in zip(texts, found, strict=True):
            alone = model(input_ids=torch.tensor([text]), output_hidden_states=True).hidden_states[-1][0]
            np.testing.assert_allclose(last, alone[-1].numpy(), atol=1e-5)
            np.testing.assert_allclose(mean, alone.mean(0).numpy(), atol=1e-5)


def test_our_language_model_learns_to_predict_the_next_token() -> None:
    texts = [f"{'tea' if number % 2 else 'bus'} then {number % 2}" for number in range(40)]
    settings = language.LanguageSettings(width=16, heads=2, feedforward=32, vocabulary=300, steps=60)
    losses: list[str] = []
    trained = language.own_vectors(texts, texts[:6], settings, seed=0, trained=True, log=losses.append)
    first, *_, last = (float(line.rpartition(" ")[2]) for line in losses)
    assert last < first / 3
    fresh = language.own_vectors(texts, texts[:6], settings, seed=0, trained=False)
    assert trained.shape == fresh.shape == (6, 2, 16)
    assert not np.allclose(trained, fresh, atol=0.1)
    np.testing.assert_array_equal(fresh, language.own_vectors(texts, texts[:6], settings, seed=0, trained=False))


def test_a_model_that_is_not_there_is_named_with_what_to_fetch(tmp_path: Path) -> None:
    with pytest.raises(RivalError, match=rf"{tmp_path}.*fetch one such as {language.PRETRAINED}.*--lm"):
        language.pretrained_vectors(["x"], str(tmp_path), seed=0, trained=True)
    with pytest.raises(RivalError, match="--embedder"):
        embedder.vectors(["x"], tmp_path, seed=0, trained=True)


def test_any_causal_language_model_of_a_folder_is_read(tmp_path: Path) -> None:
    AutoTokenizer.from_pretrained(embedder.minilm()).save_pretrained(tmp_path)
    torch.manual_seed(1)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=31000,
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            intermediate_size=16,
        )
    )
    model.save_pretrained(tmp_path)
    # A folder's tokenizer is of the model's kind, whoever's file it was made of.
    ids = AutoTokenizer.from_pretrained(tmp_path)("tea and a bus")["input_ids"]
    expected = language.hidden_states(model, TokenIds.of([ids]))
    found, fresh = (
        language.pretrained_vectors(["tea and a bus"], str(tmp_path), seed=0, trained=trained)
        for trained in (True, False)
    )
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert not np.allclose(found, fresh, atol=0.01)


def test_a_long_text_is_embedded_in_chunks_of_which_the_mean_is_taken() -> None:
    long = " ".join(f"tea bus {number}" for number in range(100))
    found = embedder.vectors([long, "tea"], embedder.minilm(), seed=0, trained=True, batch_size=3)
    tokenizer, model = (kind.from_pretrained(embedder.minilm()) for kind in (AutoTokenizer, AutoModel))
    ids = tokenizer(long, add_special_tokens=False, verbose=False)["input_ids"]
    assert 254 < len(ids) < 508
    parts = []
    with torch.inference_mode():
        for chunk in (ids[:254], ids[254:]):
            hidden = model(input_ids=torch.tensor([[101, *chunk, 102]])).last_hidden_state[0].mean(0)
            parts.append((hidden / hidden.norm()).numpy())
    expected = np.mean(parts, axis=0)
    np.testing.assert_allclose(found[0], expected / np.linalg.norm(expected), atol=1e-5)
    fresh = embedder.vectors([long, "tea"], embedder.minilm(), seed=0, trained=False)
    assert not np.allclose(found, fresh, atol=0.05)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory, shop_releases: shop.ReleaseCache) -> Deployment:
    """A company with a release of an untrained network, training profiles, and labels that the texts show."""
    made = shop.company(tmp_path_factory.mktemp("rivals"))
    trained = shop_releases.copy_checkpoint(checkpoints_folder(made) / "one")
    set_current_checkpoint(made, trained)
    shop_releases.install(made)
    for day, days in ((date(2025, 1, 1), 60), (date(2025, 2, 1), 30)):
        cut_off = AS_OF - timedelta(days=days)
        known = [
            row | {name: [event for event in row[name] if event["event_time"] < cut_off] for name in ("bill", "search")}
            for row in made_up_profiles(90, seed=5).to_pylist()
        ]
        write_day(made, "training_profiles", pa.Table.from_pylist(known, made_up_profiles(1).schema), day)
    write_day(made, "training_profiles", made_up_profiles(7), shop.DAY3)
    labelled = made_up_profiles(90, seed=3)
    write_day(made, "user_profiles", labelled, shop.DAY2)
    write_labels(made, "labels", [label_row(row["user_id"], int(row["interest"] < 3)) for row in labelled.to_pylist()])
    return made


def asked(deployment: Deployment, results: Path, *only: str, seeds: int = 1) -> Namespace:
    return Namespace(
        config=deployment.path,
        seeds=seeds,
        only=only,
        releases=[],
        lm=None,
        embedder=None,
        lifestream=Path("/nowhere/python"),
        results=results,
    )


def test_training_ends_before_the_labels(deployment: Deployment) -> None:
    material = Material.read(deployment.path)
    assert len(material.training) == 180, "the day of the labels trains nothing"
    assert len(material.texts) == len(material.profiles) == len(material.groups[0].label_U) == 90


def test_the_comparison_is_evaluates_and_a_finished_cell_is_kept(deployment: Deployment, tmp_path: Path) -> None:
    compare(asked(deployment, tmp_path, "InstructUE", "hand", "CPC"))
    written = json.loads((tmp_path / "rivals.json").read_text())
    mean = {row["name"]: row["value"] for row in written["rows"]}
    expected = evaluate(deployment).auc["food"]
    for name, method in (
        ("InstructUE, universal", "universal"),
        ("InstructUE, instructed", "instructed"),
        ("by hand, regression", "by hand, regression"),
        ("by hand, LightGBM", "by hand, LightGBM"),
    ):
        assert mean[name] == pytest.approx(expected[method], abs=1e-4)
    assert mean["InstructUE, universal: beats its untrained self by"] == pytest.approx(
        mean["InstructUE, universal"] - mean["InstructUE, universal, untrained"], abs=2e-4
    )
    assert "CPC is left out: there is no /nowhere/python" in written["text"]
    assert language.PRETRAINED in written["text"]

    # A finished cell is not done again, and stands in the table of a later run.
    path = releases_folder(deployment) / "rivals" / "by_hand__regression.trained.0.json"
    cell = json.loads(path.read_text())
    for score in cell["scores"]["food"]:
        score["auc"] = 0.125
    path.write_text(json.dumps(cell))
    compare(asked(deployment, tmp_path, "MLP"))
    markdown = (tmp_path / "rivals.md").read_text()
    assert re.search(r"by hand, regression +\| 1 +\| 0\.125 ± 0\.000", markdown)
    assert "MLP on pooled events, untrained" in markdown
    assert "CoLES" not in markdown

    # Of other tables it is done again.
    write_day(deployment, "training_profiles", made_up_profiles(2), date(2025, 1, 5))
    compare(asked(deployment, tmp_path, "regression"))
    assert "0.125 ±" not in (tmp_path / "rivals.md").read_text()


def test_a_rival_that_is_none_is_refused(deployment: Deployment) -> None:
    listed = contenders(Material.read(deployment.path), releases=[], lm=None, text_embedder=None, python=Path("x"))
    assert [one.name for one in chosen(listed, ["co", "cpc"])] == ["CPC", "CoLES"]
    with pytest.raises(RivalError, match=r"no rival 'BERT'.*'CoLES'"):
        chosen(listed, ["BERT"])


def test_the_table_has_means_and_spreads_over_seeds_and_halves() -> None:
    auc_NSA = np.array([[[0.6, 0.7], [0.8, 0.9]], [[0.8, 0.9], [0.8, 0.9]]])
    one = Standing(name="x", trained=True, auc_NSA=auc_NSA, ks_NSA=auc_NSA)
    fresh = Standing(name="x", trained=False, auc_NSA=auc_NSA + 0.05, ks_NSA=auc_NSA)
    assert table([one], ["food", "film"], "auc_NSA").splitlines()[2] == (
        "| x | 2     | 0.800 ± 0.071 | 0.750 ± 0.112 | 0.850 ± 0.050 |"
    )
    below = rows([one, fresh])[-1]
    assert (below.name, below.value, below.reached) == ("x: beats its untrained self by", -0.05, False)
