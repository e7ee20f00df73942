"""Tuning: keys and values kept give the network's own vectors, the loss is equation 6, the network stays as it is."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from model.data.profiles import read_profiles
from model.data.segments import PADDING, PROFILE
from model.network import inference
from model.network.kv_cache import ProfileKVCache
from model.network.packing import extend, pack
from model.training.checkpoint import load_checkpoint
from model.training.prototypes import class_prototypes, prototype_loss
from model.training.shots import TuningError, draw_shots
from model.training.tuning import TuningConfig, start_vectors, tune
from tests.support.made_up import made_up_profiles

QUESTION = "What does this user like?"
USERS = 90


@pytest.fixture(scope="module")
def network(exported):
    result, tokenizers, _ = load_checkpoint(exported.checkpoint)
    return result, tokenizers


@pytest.fixture(scope="module")
def profiles():
    return made_up_profiles(USERS, seed=5)


@pytest.fixture(scope="module")
def read(network, profiles):
    return ProfileKVCache(*network, profiles)


def interests(profiles) -> np.ndarray:
    """Six classes whose labels are neither in order nor without gaps."""
    return np.array([7, -3, 100, 0, 12, 55])[profiles["interest"].to_numpy()]


def test_suffixes_behind_kept_profiles_are_masked_as_packed_ones():
    segments = torch.tensor([[PROFILE, PROFILE, PROFILE], [PROFILE, PADDING, PROFILE], [PADDING] * 3])
    packed = torch.cat([segments, torch.ones(3, 4, dtype=torch.int64)], dim=1)
    mask, positions = pack(packed)
    first, at_first = extend((segments == PROFILE).long(), 3)
    assert torch.equal(first, mask[:, :, 3:6, :6])
    assert torch.equal(at_first, positions[:, 3:6])
    then, at_then = extend((packed[:, :6] != PADDING).long(), 1)
    assert torch.equal(then, mask[:, :, 6:])
    assert torch.equal(at_then, positions[:, 6:])


@pytest.mark.parametrize("instruction", [QUESTION, None])
def test_vectors_behind_kept_profiles_are_those_of_forward_users(network, profiles, read, instruction):
    """Users without an event or a search are among them, and batches of every length."""
    expected = inference.embed(*network, profiles, [instruction])[:, 0]
    vectors = start_vectors(*network, instruction)
    np.testing.assert_allclose(read.embed(vectors), expected, atol=1e-5)
    some = np.array([40, 0, 1, 41])
    np.testing.assert_allclose(read.embed(vectors, some), expected[some], atol=1e-5)


def test_the_gradient_behind_kept_profiles_is_that_of_forward_users(network, profiles, read):
    result, tokenizers = network
    rows = read_profiles(profiles, result.config)
    ids = [
        tokenizers.event_ids(part.texts, source.max_tokens)
        for source, part in zip(result.config.sources, rows.sources, strict=True)
    ]
    users = np.array([0, 3, 8, 9])
    aim = torch.randn(4, result.config.backbone.width, generator=torch.Generator().manual_seed(0))

    def gradient(embed) -> torch.Tensor:
        vectors = torch.from_numpy(start_vectors(*network, QUESTION)).requires_grad_(True)
        (embed(vectors) * aim).sum().backward(inputs=[vectors])
        return vectors.grad

    whole = gradient(
        lambda vectors: result.forward_users(
            result.profile_tensors(rows.batch(users), ids), vectors[None], torch.ones(1, len(vectors)).long()
        )[:, 0]
    )
    torch.testing.assert_close(gradient(lambda vectors: read.read(users, vectors)), whole, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("instruction", [QUESTION, None])
def test_answers_behind_kept_profiles_are_those_of_reading_everything_anew(network, profiles, instruction):
    """A greedy decoding that reads the profile and the answer so far again for every token."""
    result, tokenizers = network
    rows = read_profiles(profiles.slice(0, 20), result.config)
    ids = [
        tokenizers.event_ids(part.texts, source.max_tokens)
        for source, part in zip(result.config.sources, rows.sources, strict=True)
    ]
    expected = []
    with torch.no_grad():
        tokens, mask = result.read_profile(result.profile_tensors(rows.batch(np.arange(20)), ids))
        for user in range(20):
            suffix, chosen = torch.from_numpy(start_vectors(*network, instruction))[None], []
            while len(chosen) < 6 and tokenizers.end not in chosen:
                hidden = result.read_packed(
                    tokens[user : user + 1], mask[user : user + 1], suffix, torch.ones(1, suffix.shape[1]).long()
                )
                chosen.append(int(result.token_logits(hidden[0, -1]).argmax()))
                suffix = torch.cat([suffix, result.token_vectors(torch.tensor([[chosen[-1]]]))], dim=1)
            expected.append(tokenizers.answer_text(chosen))
    assert inference.generate(*network, profiles.slice(0, 20), instruction, max_tokens=6, batch_size=7) == expected
    assert len(set(expected)) > 1, "an answer that says nothing of the user proves little"


def test_the_loss_is_equation_6():
    rng = np.random.default_rng(0)
    users = rng.normal(size=(9, 5))
    users /= np.linalg.norm(users, axis=1, keepdims=True)
    labels, tau = [4, 4, -1, 9, 9, 9, -1, 4, 9], 0.3
    prototypes = {}
    for k in set(labels):
        of_class = [u for u, label in zip(users, labels, strict=True) if label == k]
        mean = [sum(u[h] for u in of_class) / len(of_class) for h in range(5)]
        prototypes[k] = [value / math.sqrt(sum(x * x for x in mean)) for value in mean]
    total = 0.0
    for user, label in zip(users, labels, strict=True):
        scores = {k: math.exp(sum(a * b for a, b in zip(user, p, strict=True)) / tau) for k, p in prototypes.items()}
        total -= math.log(scores[label] / sum(scores.values()))
    result = prototype_loss(torch.from_numpy(users), torch.tensor(labels), temperature=tau)
    assert float(result) == pytest.approx(total / 9, abs=1e-12)


def test_tuning_lowers_the_loss_and_leaves_the_network_as_it_is(network, profiles, read):
    result, _ = network
    before = {name: weight.clone() for name, weight in result.state_dict().items()}
    labels, start = interests(profiles), start_vectors(*network, QUESTION)
    everyone = np.arange(USERS)
    config = TuningConfig(steps=12, check_every=4, batch_size=32)
    tuned = tune(read, everyone, labels, start, config=config, seed=3)
    assert [look.step for look in tuned.curve] == [0, 4, 8, 12]
    assert tuned.curve[-1].learned < 0.8 * tuned.curve[0].learned
    assert tuned.learned + tuned.held_out == USERS
    assert (tuned.vectors.shape, tuned.vectors.dtype) == (start.shape, np.float32)
    assert all(torch.equal(weight, before[name]) for name, weight in result.state_dict().items())
    assert all(weight.grad is None for weight in result.parameters())
    again = tune(read, everyone, labels, start, config=config, seed=3)
    np.testing.assert_array_equal(again.vectors, tuned.vectors)
    assert again.curve == tuned.curve


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_step_with_the_best_probe_of_the_users_held_out_is_taken(network, read, seed):
    """Labels that say nothing are learned by heart; the manual instruction is one of the steps to choose from."""
    start = start_vectors(*network, QUESTION)
    labels = np.random.default_rng(seed).integers(0, 2, USERS)
    config = TuningConfig(steps=9, learning_rate=0.3, check_every=3, margin=0)
    tuned = tune(read, np.arange(USERS), labels, start, config=config, seed=seed)
    assert tuned.curve[-1].learned < tuned.curve[0].learned
    best = min(tuned.curve, key=lambda look: look.probe)
    assert best.probe <= tuned.curve[0].probe
    assert tuned.step == best.step
    sure = tune(read, np.arange(USERS), labels, start, config=replace(config, margin=1e9), seed=seed)
    assert (sure.step, sure.curve) == (0, tuned.curve)
    np.testing.assert_array_equal(sure.vectors, start)
    shorter = tune(read, np.arange(USERS), labels, tuned.vectors, config=replace(config, steps=1), seed=seed)
    # The vectors are those of that step: a tuning that starts from them has that step's loss first.
    assert shorter.curve[0].probe == pytest.approx(best.probe, abs=1e-6)
    assert shorter.curve[0].learned == pytest.approx(best.learned, abs=1e-6)
    assert np.array_equal(tuned.vectors, start) == (tuned.step == 0)


@pytest.mark.parametrize("shots", [8, 20, 60])
def test_shots_have_each_class_in_its_share(shots):
    labels = np.array([5] * 80 + [2] * 20)
    rows = draw_shots(labels, shots, seed=1)
    assert len(set(rows.tolist())) == shots
    assert (labels[rows] == 2).sum() == pytest.approx(shots * 0.2, abs=2)
    assert set(rows) <= set(draw_shots(labels, shots + 5, seed=1)), "more shots are these and others"
    assert set(rows) != set(draw_shots(labels, shots, seed=2))


def test_more_shots_than_there_are_is_all_of_them():
    labels = [0, 1, 1, 0, 1]
    for shots in (None, 5, 500):
        np.testing.assert_array_equal(draw_shots(labels, shots), np.arange(5))


@pytest.mark.parametrize(
    ("labels", "shots", "message"),
    [
        ([1, 1, 1], None, r"have the labels \[1\] alone: label some of another"),
        ([], None, r"have the labels \[\] alone"),
        ([0, 0, 1], None, "only one user to tune with has the label 1: label more"),
        ([0, 0, 1, 1, 2, 2, 0], 5, "5 shots are too few for 3 classes: take at least 2 of each, 6 in all"),
    ],
)
def test_labels_that_cannot_be_tuned_with_are_refused(labels, shots, message):
    with pytest.raises(TuningError, match=message):
        draw_shots(labels, shots)


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"learning_rate": -1.0},
        {"temperature": float("nan")},
        {"batch_size": 0},
        {"held_out": 1.0},
        {"margin": -1.0},
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(TuningError, match=f"{next(iter(wrong))} is "):
        replace(TuningConfig(), **wrong)


def test_prototypes_are_normalised_means():
    users = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    result = class_prototypes(users, torch.tensor([0, 0, 1]))
    torch.testing.assert_close(result, torch.tensor([[0.5**0.5, 0.5**0.5], [0.6, 0.8]]))
