"""Focus: a vector is the literal formula's, its constants are those of the training users, and it is off by default."""

import math
import statistics
from dataclasses import replace

import numpy as np
import pytest
import torch

from model.data.config import NetworkConfig
from model.data.profiles import read_profiles, text_ids
from model.errors import ConfigError
from model.network import inference
from model.network.kv_cache import ProfileKVCache
from model.serving.release import read_vectors
from model.training.checkpoint import load_checkpoint
from model.training.focus import QUESTIONS_FILE
from model.training.training import initialise
from model.training.tuning import start_vectors
from tests.support.made_up import made_up_pairs, made_up_profiles, shallow_network_config

QUESTIONS = ["How many bills does this user have?", "What does this user like?"]
INSTRUCTIONS = [None, "Likes trains?", QUESTIONS[0]]
USERS = 16


@pytest.fixture(scope="module", params=["suffix", "universal"])
def focused(request, tmp_path_factory):
    """A network whose readout has a head, so that an embedding is narrower than the backbone; all users train it."""
    profiles = made_up_profiles(USERS)
    config = shallow_network_config(focus=request.param, head=24)
    folder = tmp_path_factory.mktemp(request.param)
    initialise(profiles, made_up_pairs(profiles, validation=0), config, folder)
    network, tokenizers, _ = load_checkpoint(folder)
    return folder, network, tokenizers, profiles


def unit(vector: list[float]) -> list[float]:
    length = math.sqrt(sum(x * x for x in vector))
    return [x / length for x in vector]


def dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


@torch.no_grad()
def literal_constants(network, tokenizers, profiles):
    """Return mean and scale, and functions of a user and of a text, each read alone by the backbone's own defaults."""
    rows = read_profiles(profiles, network.config)
    ids = text_ids(rows, network.config, tokenizers)

    def state(*parts) -> list[float]:
        hidden = network.decoder(inputs_embeds=torch.cat(parts)[None]).last_hidden_state[0, -1]
        return unit((network.head.weight @ hidden).tolist())

    def user(number: int, text: str | None) -> list[float]:
        tokens, mask = network.read_profile(network.profile_tensors(rows.batch(np.array([number])), ids))
        suffix, _ = inference.instruction_vectors(network, tokenizers, [text])
        return state(tokens[0, mask[0] == 1], suffix[0])

    def direction(text: str) -> list[float]:
        words = tokenizers.language.encode(text, add_special_tokens=False).ids
        return state(network.token_vectors(torch.tensor([*words, tokenizers.end])))

    universal = [user(number, None) for number in range(USERS)]
    mean = [statistics.fmean(values) for values in zip(*universal, strict=True)]
    centred = [[x - m for x, m in zip(vector, mean, strict=True)] for vector in universal]
    spreads = [statistics.pstdev(dot(vector, direction(text)) for vector in centred) for text in QUESTIONS]
    length = math.sqrt(statistics.fmean(dot(vector, vector) for vector in centred))
    # torch's median of an even number is the lower one.
    return mean, length / min(spreads), user, direction


def test_a_vector_is_the_literal_formulas(focused):
    _, network, tokenizers, profiles = focused
    mean, scale, user, direction = literal_constants(network, tokenizers, profiles)
    assert float(network.focus.scale) == pytest.approx(scale, rel=1e-3)
    result = inference.embed(network, tokenizers, profiles, INSTRUCTIONS)
    for number in (0, 1, 7):
        for k, text in enumerate(INSTRUCTIONS):
            read = user(number, text if network.config.focus == "suffix" else None)
            c = [x - m for x, m in zip(read, mean, strict=True)]
            w = [0.0] * len(c) if text is None else direction(text)
            expected = unit([x + scale * dot(c, w) * y for x, y in zip(c, w, strict=True)])
            np.testing.assert_allclose(result[number, k], expected, atol=2e-4)


def test_universal_vectors_are_centred_and_an_instruction_turns_them(focused):
    _, network, tokenizers, profiles = focused
    universal, trains, _ = inference.embed(network, tokenizers, profiles, INSTRUCTIONS).swapaxes(0, 1)
    assert np.abs(universal.mean(0)).max() < 0.25
    cosines = (universal * trains).sum(-1)
    assert cosines.max() < 0.9999


def test_vectors_behind_kept_profiles_are_focused_too(focused):
    _, network, tokenizers, profiles = focused
    cache = ProfileKVCache(network, tokenizers, profiles)
    expected = inference.embed(network, tokenizers, profiles, INSTRUCTIONS)
    for k, text in enumerate(INSTRUCTIONS):
        vectors = start_vectors(network, tokenizers, text)
        np.testing.assert_allclose(cache.embed(vectors), expected[:, k], atol=1e-4)
    vectors = torch.from_numpy(start_vectors(network, tokenizers, QUESTIONS[0])).requires_grad_(True)
    cache.read(np.arange(4), vectors)[:, 0].sum().backward(inputs=[vectors])
    assert vectors.grad[:-1].abs().max() > 0  # an instruction can be tuned in both forms


def test_the_checkpoint_has_the_text_embeddings_of_the_trainings_instructions(focused):
    folder, network, tokenizers, _ = focused
    questions = read_vectors(folder / QUESTIONS_FILE)
    assert sorted(questions) == QUESTIONS
    for text, direction in questions.items():
        vectors, mask = inference.instruction_vectors(network, tokenizers, [text])
        np.testing.assert_allclose(direction, network.directions(vectors, mask)[0].detach(), atol=1e-5)


def test_it_is_off_by_default_and_then_in_no_hash():
    config = shallow_network_config()
    assert config.focus is None
    assert "focus" not in config.to_json()
    assert NetworkConfig.from_json(config.to_json()) == config
    on = replace(config, focus="universal")
    assert NetworkConfig.from_json(on.to_json()) == on


def test_another_form_is_refused():
    with pytest.raises(ConfigError, match="focus is 'on': use 'suffix' or 'universal'"):
        shallow_network_config(focus="on")


def test_a_training_without_an_instruction_is_refused(tmp_path):
    profiles = made_up_profiles(8)
    pairs = made_up_pairs(profiles)
    general = pairs.filter(pairs["instruction"].is_null())
    with pytest.raises(ConfigError, match="no pair has an instruction"):
        initialise(profiles, general, shallow_network_config(focus="universal"), tmp_path / "checkpoint")
