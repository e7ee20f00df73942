"""A release with focus: onnxruntime gives torch's vectors, and reads an instruction that is given on the spot."""

import json

import numpy as np
import pytest

from model import load
from model.network import inference
from model.serving.export import add_instructions, instruction_vectors
from model.serving.instruction_encoder import InstructionEncoder, InstructionError, KnownQuestion, focus
from model.serving.release import FocusEntry, ReleaseError
from model.training.checkpoint import load_checkpoint
from tests.support.made_up import made_up_profiles
from tests.support.shop import SCENARIOS as DEPLOYED
from tests.support.shop import company

ASKED = "Does this user play games at night?"
SCENARIOS = {"universal": None} | {scenario["name"]: scenario["instruction"] for scenario in DEPLOYED}


@pytest.fixture(scope="module", params=["universal", pytest.param("suffix", marks=pytest.mark.slow)])
def focused(request, shop_releases, tmp_path_factory):
    """A release, its checkpoint, network and tokenizers, and users that neither training nor gates saw."""
    form = request.param
    release = shop_releases.install(company(tmp_path_factory.mktemp(form)), focus=form, decoder=True)
    network, tokenizers, _ = load_checkpoint(release.decoder)
    return release, shop_releases.checkpoint(focus=form), network, tokenizers, made_up_profiles(12, seed=9)


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return (one * other).sum(-1)


def test_onnx_gives_the_vectors_of_torch(focused):
    release, _, network, tokenizers, profiles = focused
    expected = inference.embed(network, tokenizers, profiles, list(SCENARIOS.values()))
    runtime = load(release.path)
    assert cosines(runtime.embed(profiles), expected).min() > 0.9999
    assert cosines(runtime.embed(profiles, ["films", "universal"]), expected[:, [2, 0]]).min() > 0.9999
    others = instruction_vectors(network, tokenizers, {"games": ASKED})
    beside = runtime.embed(profiles, ["food", "games"], others=others)
    expected = inference.embed(network, tokenizers, profiles, [SCENARIOS["food"], ASKED])
    assert cosines(beside, expected).min() > 0.9999


def test_an_instruction_on_the_spot_focuses_stored_vectors(focused):
    release, _, network, tokenizers, profiles = focused
    encoder = InstructionEncoder(release)
    vectors_IH, mask_KI = inference.instruction_vectors(network, tokenizers, [ASKED])
    direction = encoder.encode(f" {ASKED} ")
    assert cosines(direction, network.directions(vectors_IH, mask_KI)[0].detach().numpy()) > 0.9999
    universal = load(release.path).embed(profiles, ["universal"])[:, 0]
    moved = focus(universal, direction, encoder.scale)
    assert np.linalg.norm(moved, axis=1) == pytest.approx(1, abs=1e-5)
    if release.focus.form == "universal":
        expected = inference.embed(network, tokenizers, profiles, [ASKED])[:, 0]
        assert cosines(moved, expected).min() > 0.9999
        assert cosines(universal, expected).min() < 0.99


def test_the_nearest_question_is_one_of_the_training(focused):
    encoder = InstructionEncoder(focused[0])
    for question in ("What does this user like?", "How many bills does this user have?"):
        known = encoder.nearest(encoder.encode(question))
        assert known.question == question
        assert known.cosine == pytest.approx(1, abs=1e-3)
    assert KnownQuestion(question="a", cosine=0.5).warning is None
    assert "nearest question of the training is 'a', with a cosine of 0.30" in str(
        KnownQuestion(question="a", cosine=0.3).warning
    )
    with pytest.raises(InstructionError, match="the instruction is blank"):
        encoder.encode(" \n")


def test_manifest_card_and_gates_say_it(focused):
    release, _, network, *_ = focused
    assert release.focus == FocusEntry(form=network.config.focus, scale=float(network.focus.scale))
    assert {"text.onnx", "tokens.safetensors", "directions.safetensors", "questions.safetensors"} < set(release.files)
    assert f"focus `{network.config.focus}`" in (release.path / "MODEL_CARD.md").read_text()
    gates = json.loads((release.path / "metrics.json").read_text())["gates"]["cosines"]
    assert gates["text graph"] > 0.9999


def test_an_added_instruction_is_focused_too(focused):
    release, checkpoint, network, tokenizers, profiles = focused
    more = add_instructions(release, checkpoint, SCENARIOS | {"games": ASKED}, deployment="", profiles=profiles)
    assert (more.focus, more.model_version) == (release.focus, release.model_version)
    expected = inference.embed(network, tokenizers, profiles, [SCENARIOS["food"], ASKED])
    assert cosines(load(more.path).embed(profiles, ["food", "games"]), expected).min() > 0.9999


def test_a_release_without_focus_stays_as_it_was(exported):
    assert exported.release.focus is None
    assert "focus" not in json.loads((exported.release.path / "manifest.json").read_text())
    assert not {"text.onnx", "tokens.safetensors", "questions.safetensors"} & set(exported.release.files)
    with pytest.raises(ReleaseError, match="has no focus"):
        InstructionEncoder(exported.release)
