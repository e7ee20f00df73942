"""The export: ONNX gives torch's vectors, an instruction needs no new graph, and a failing gate leaves nothing."""

import json
import shutil

import numpy as np
import onnx
import pytest
import torch
from safetensors.numpy import load_file, save_file

from model import load
from model.errors import InstructUEError
from model.network import inference
from model.serving.export import add_instructions, export
from model.serving.gates import check_gates
from model.serving.graphs import export_graphs
from model.serving.hashes import hash_file
from model.serving.release import ReleaseError
from model.training.checkpoint import load_checkpoint
from model.training.training import initialise
from tests.support.made_up import made_up_pairs, made_up_profiles, network_config, shallow_network_config
from tests.support.untrained import SCENARIOS, VECTOR_SPEC


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.einsum("ukh,ukh->uk", one, other)


def test_onnx_gives_the_vectors_of_torch(exported):
    """On users that the gates did not see."""
    profiles = made_up_profiles(50, seed=9, events=12, searches=6)
    network, tokenizers, _ = load_checkpoint(exported.checkpoint)
    expected = inference.embed(network, tokenizers, profiles, list(SCENARIOS.values()))
    assert cosines(load(exported.release.path).embed(profiles), expected).min() > 0.9999


@pytest.mark.parametrize("switch", [{"readout": "mean"}, {"head": 24}], ids=["averaged", "headed"])
def test_another_readout_is_exported_too(tmp_path, switch):
    profiles = made_up_profiles(24)
    checkpoint = initialise(
        profiles, made_up_pairs(profiles), shallow_network_config(**switch), tmp_path / "checkpoint"
    )
    release = export(
        checkpoint,
        tmp_path / "releases",
        scenarios=SCENARIOS,
        vector_spec=VECTOR_SPEC,
        deployment="",
        profiles=profiles,
    )
    network, tokenizers, _ = load_checkpoint(checkpoint)
    expected, runtime = inference.embed(network, tokenizers, profiles, list(SCENARIOS.values())), load(release.path)
    assert cosines(runtime.embed(profiles), expected).min() > 0.9999
    assert runtime.width == expected.shape[-1] == switch.get("head", network.config.backbone.width)


def test_a_graph_too_large_for_one_file_has_its_weights_beside_it(plain, tmp_path, monkeypatch):
    monkeypatch.setattr("model.serving.graphs.MOST_BYTES", 1000)
    release = export(
        plain.checkpoint,
        tmp_path,
        scenarios={"universal": None},
        vector_spec=VECTOR_SPEC,
        deployment="",
        profiles=plain.profiles,
    )
    assert {"user.onnx.data", "event.onnx.data"} < set(release.files)
    assert (release.path / "user.onnx").stat().st_size < (release.path / "user.onnx.data").stat().st_size
    whole = load(plain.release.path).embed(plain.profiles)
    assert cosines(load(release.path).embed(plain.profiles), whole).min() > 0.9999
    (release.path / "user.onnx.data").write_bytes(b"")
    with pytest.raises(ReleaseError, match=r"user\.onnx\.data was changed"):
        load(release.path)


def test_the_gates_are_in_the_metrics_and_on_the_card(exported):
    gates = json.loads((exported.release.path / "metrics.json").read_text())["gates"]
    assert set(gates["cosines"]) == {
        "event graph of bill",
        "event graph of search",
        "another batch",
        "another order",
        *(f"torch in scenario {name}" for name in SCENARIOS),
    }
    assert min(gates["cosines"].values()) > 0.9999
    assert gates["profiles"] == len(exported.profiles) + 1
    card = (exported.release.path / "MODEL_CARD.md").read_text()
    assert exported.release.model_version in card
    assert SCENARIOS["food"] in card
    assert "backbone: trained from scratch (2 layers of width 128" in card
    assert "trained for 0 steps" in card


def test_every_axis_is_dynamic_and_no_vocabulary_ships(exported):
    graph = onnx.load(exported.release.path / "user.onnx").graph
    _, _, config = load_checkpoint(exported.checkpoint)
    axes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in graph.input
    }
    assert axes["events_bill"] == ["users", "events_bill", config.encoder.width]
    assert axes["gaps_search"] == ["users", "events_search"]
    assert axes["instructions"] == ["tokens", config.backbone.width]
    assert axes["users"] == ["scenarios"]
    assert config.backbone.vocabulary not in {size for weight in graph.initializer for size in weight.dims}


def test_every_user_of_the_machine_may_read_the_files(exported):
    """Workers of a cluster may be another user than the one that exports."""
    modes = {path.name: path.stat().st_mode & 0o777 for path in exported.release.path.iterdir()}
    usual = exported.release.path / "manifest.json"
    assert modes == dict.fromkeys(modes, usual.stat().st_mode & 0o777)


def test_the_same_network_exports_to_the_same_bytes_without_traces(plain, tmp_path):
    network, _, _ = load_checkpoint(plain.checkpoint)
    export_graphs(network, tmp_path)
    assert {graph.name for graph in tmp_path.iterdir()} == {"event.onnx", "user.onnx"}
    for graph in tmp_path.iterdir():
        assert hash_file(graph) == plain.release.files[graph.name]
        assert b"site-packages" not in graph.read_bytes()


def test_an_instruction_is_added_without_a_new_graph(exported, capfd):
    required = SCENARIOS | {"games": "Will this user top up a game?"}
    example = add_instructions(
        exported.release, exported.checkpoint, required, deployment="name: other\n", profiles=exported.profiles
    )
    assert capfd.readouterr() == ("", "")
    assert example.model_version == exported.release.model_version
    assert example.path != exported.release.path
    assert {name for name in example.files if example.files[name] != exported.release.files[name]} == {
        "instructions.safetensors",
        "deployment.yaml",
        "metrics.json",
        "MODEL_CARD.md",
    }
    assert {name: example.instructions[name] for name in SCENARIOS} == exported.release.instructions
    network, tokenizers, _ = load_checkpoint(exported.checkpoint)
    expected = inference.embed(network, tokenizers, exported.profiles, list(required.values()))
    assert cosines(load(example.path).embed(exported.profiles, list(required)), expected).min() > 0.9999


def test_a_reworded_instruction_changes_its_own_hash_alone(exported):
    example = add_instructions(
        exported.release, exported.checkpoint, {"food": "Food?"}, deployment="", profiles=exported.profiles
    )
    changed = {name for name in SCENARIOS if example.instructions[name] != exported.release.instructions[name]}
    assert changed == {"food"}
    assert example.scenarios == exported.release.scenarios


def test_another_checkpoint_cannot_add_an_instruction(exported, tmp_path):
    other = initialise(exported.profiles, made_up_pairs(exported.profiles), network_config(), tmp_path, seed=1)
    with pytest.raises(ReleaseError, match="came from checkpoint"):
        add_instructions(exported.release, other, {"games": "Games?"}, deployment="", profiles=exported.profiles)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("encoders.1", "event graph of search 0\\."),
        ("source_adapters.0", "torch in scenario universal 0\\."),
        ("backbone.model.layers.1", "torch in scenario films 0\\."),
    ],
)
def test_a_network_whose_vectors_are_others_fails_the_gate(exported, part, message):
    network, tokenizers, _ = load_checkpoint(exported.checkpoint)
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in network.get_submodule(part).parameters():
            weight += 0.02 * torch.randn(weight.shape, generator=noise)
    with pytest.raises(ReleaseError, match=message):
        check_gates(load(exported.release.path), network, tokenizers, exported.profiles)


def test_vectors_that_are_no_numbers_leave_no_release(plain, tmp_path, capfd):
    broken = tmp_path / "checkpoint"
    shutil.copytree(plain.checkpoint, broken)
    weights = load_file(broken / "model.safetensors")
    name = next(name for name in weights if name.endswith("norm.weight") and "backbone" in name)
    weights[name] = np.full_like(weights[name], np.nan)
    save_file(weights, broken / "model.safetensors")
    with pytest.raises(InstructUEError, match="not of length 1"):
        export(
            broken,
            tmp_path / "releases",
            scenarios={"universal": None},
            vector_spec=VECTOR_SPEC,
            deployment="",
            profiles=plain.profiles,
        )
    assert list((tmp_path / "releases").iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_a_release_needs_profiles_to_be_tried_on(exported):
    network, tokenizers, _ = load_checkpoint(exported.checkpoint)
    with pytest.raises(ReleaseError, match="no profiles"):
        check_gates(load(exported.release.path), network, tokenizers, exported.profiles.slice(0, 0))


def test_the_plain_form_gives_the_vectors_of_torch_too(plain):
    profiles = made_up_profiles(20, seed=5)
    network, tokenizers, _ = load_checkpoint(plain.checkpoint)
    vectors = load(plain.release.path).embed(profiles)
    assert cosines(vectors, inference.embed(network, tokenizers, profiles, [None])).min() > 0.9999
