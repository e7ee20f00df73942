"""Releases and checkpoints that were damaged, mixed up or made otherwise: each is refused before it makes a vector."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from model.serving import release
from model.serving.hashes import hash_json
from model.serving.onnx_runtime import load
from model.serving.release import MANIFEST
from model.serving.release_draft import new_draft, seal
from model.training.checkpoint import load_checkpoint, read_metrics
from model.training.training import train
from tests.support import untrained
from tests.support.error_page import case, refused, row, says
from tests.support.made_up import made_up_pairs, made_up_profiles, network_config
from tests.support.release_files import INSTRUCTIONS, VECTOR_SPEC, build, fill

Change = Callable[[Path], object]


def flipped(name: str) -> Change:
    """One bit of the middle byte."""

    def change(folder: Path) -> None:
        whole = bytearray((folder / name).read_bytes())
        whole[len(whole) // 2] ^= 1
        (folder / name).write_bytes(whole)

    return change


def written(name: str, content: bytes) -> Change:
    return lambda folder: (folder / name).write_bytes(content)


def halved(name: str) -> Change:
    def change(folder: Path) -> None:
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2])

    return change


def lost(name: str) -> Change:
    return lambda folder: (folder / name).unlink()


def manifest(changed: Callable[[dict[str, Any]], object]) -> Change:
    """The manifest changed, and its digest made to fit: what an exporter of another kind might write."""

    def change(folder: Path) -> None:
        content = json.loads((folder / MANIFEST).read_text())
        del content["digest"]
        changed(content)
        content["digest"] = hash_json(content)
        (folder / MANIFEST).write_text(json.dumps(content))

    return change


DAMAGE = [
    case("a changed byte in the user graph", flipped("user.onnx")),
    case("a changed byte in an event graph", flipped("event_bill.onnx")),
    case("a changed byte in the instruction vectors", flipped("instructions.safetensors")),
    case("a changed byte in the network", flipped("network.json")),
    case("a changed byte in a tokenizer", flipped("event_tokenizer.json")),
    case("a changed byte in the deployment file", flipped("deployment.yaml")),
    case("a changed byte in the metrics", flipped("metrics.json")),
    case("a changed byte in the card", flipped("MODEL_CARD.md")),
    case(
        "a changed word in the manifest",
        lambda folder: (folder / MANIFEST).write_text(
            (folder / MANIFEST).read_text().replace('"precision": "fp32"', '"precision": "fp16"')
        ),
    ),
    case("a graph that was copied by half", halved("user.onnx")),
    case("an empty graph", written("event_bill.onnx", b"")),
    case("a graph that is lost", lost("user.onnx")),
    case("a tokenizer that is lost", lost("language_tokenizer.json")),
    case("instruction vectors that are lost", lost("instructions.safetensors")),
    case("a manifest that is lost", lost(MANIFEST)),
    case("an empty manifest", written(MANIFEST, b"")),
    case("a manifest of nothing", written(MANIFEST, b"{}")),
    case("a manifest that is a list", written(MANIFEST, b"[]")),
    case("a manifest that is not UTF-8", written(MANIFEST, b'{"format": "\xff"}')),
    case("a manifest that was copied by half", halved(MANIFEST)),
    case("a manifest of another format", manifest(lambda content: content.update(format=2))),
    case("a manifest that lists no user graph", manifest(lambda content: content["files"].pop("user.onnx"))),
    case(
        "a manifest that lists no event graph",
        manifest(lambda content: [content["files"].pop(name) for name in ("event_bill.onnx", "event_search.onnx")]),
    ),
    case("a manifest without instructions", manifest(lambda content: content.pop("instructions"))),
    case(
        "a manifest whose instructions have no hash",
        manifest(lambda content: content["instructions"]["food"].pop("hash")),
    ),
]


@pytest.mark.parametrize(("wrong", "damage"), DAMAGE)
def test_a_damaged_release_is_refused(wrong: str, damage: Change, tmp_path: Path) -> None:
    made = build(tmp_path)
    damage(made.path)
    with refused(wrong):
        release.read(made.path)


@row("a file that the manifest does not list")
def test_what_the_manifest_does_not_list_is_not_read(wrong: str, tmp_path: Path) -> None:
    made = build(tmp_path)
    (made.path / "event_evil.onnx").write_bytes(b"not in the manifest")
    assert release.read(made.path) == made
    says(wrong, "used", "nothing")


@pytest.mark.parametrize(
    ("wrong", "path"), [case("a release that is not there", "nowhere"), case("a file for a release", "file")]
)
def test_what_is_no_release_is_refused(wrong: str, path: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with refused(wrong):
        release.read(tmp_path / path)


BILL, SEARCH = VECTOR_SPEC["sources"]


@pytest.mark.parametrize(
    ("wrong", "changes", "texts"),
    [
        case("a release of another template", {"sources": [BILL | {"template": "{item}"}, SEARCH]}, INSTRUCTIONS),
        case("a release of another number of events", {"sources": [BILL | {"max_events": 9}, SEARCH]}, INSTRUCTIONS),
        case("a release of another window", {"sources": [BILL | {"window_days": 91}, SEARCH]}, INSTRUCTIONS),
        case("a release of other sources", {"sources": [BILL | {"name": "app"}, SEARCH]}, INSTRUCTIONS),
        case("a release of one source more", {"sources": [BILL]}, INSTRUCTIONS),
        case("a release of another order of sources", {"sources": [SEARCH, BILL]}, INSTRUCTIONS),
        case("a release of other tabular columns", {"numbers": ()}, INSTRUCTIONS),
        case(
            "a release of other aggregates", {"aggregates": [{"name": "bills_7d", "function": "count"}]}, INSTRUCTIONS
        ),
        case("a release of another precision", {"precision": "fp16"}, INSTRUCTIONS),
        case("a release without a scenario", {}, INSTRUCTIONS | {"film": "Films."}),
        case("a release of another instruction", {}, INSTRUCTIONS | {"food": "Predict drinks."}),
    ],
)
def test_a_release_that_would_make_other_vectors_is_refused(
    wrong: str, changes: dict[str, Any], texts: dict[str, str | None], tmp_path: Path
) -> None:
    with refused(wrong):
        build(tmp_path).check_deployment(VECTOR_SPEC | changes, texts)


@pytest.mark.parametrize(
    ("wrong", "file"),
    [case("a draft without its user graph", "user.onnx"), case("a draft without an event graph", "event_*.onnx")],
)
def test_a_draft_that_is_not_whole_is_refused(wrong: str, file: str, tmp_path: Path) -> None:
    with new_draft(tmp_path) as folder:
        fill(folder)
        for path in folder.glob(file):
            path.unlink()
        with refused(wrong):
            seal(folder, checkpoint="c", precision="fp32", vector_spec=VECTOR_SPEC, texts=INSTRUCTIONS)
    assert list(tmp_path.iterdir()) == []


def of_opset(version: int) -> Change:
    def change(folder: Path) -> None:
        graph = onnx.load(folder / "user.onnx")
        graph.opset_import[0].version = version
        (folder / "user.onnx").write_bytes(graph.SerializeToString())

    return change


def of_other_sources(folder: Path) -> None:
    """A network that reads a source more, its graph among the others: a release mixed of two."""
    network = json.loads((folder / "network.json").read_text())
    network["sources"].append({"name": "search", "max_events": 4, "max_tokens": 8})
    (folder / "network.json").write_text(json.dumps(network))


MADE_OTHERWISE = [
    case("a graph of another opset", of_opset(99)),
    case("a graph that is no ONNX", written("user.onnx", b"<html>404</html>")),
    case("a graph of other sources than the network", of_other_sources),
    case("a network of another version", written("network.json", b'{"sources": []}')),
    case(
        "a tokenizer of another kind",
        lambda folder: shutil.copy(folder / "language_tokenizer.json", folder / "event_tokenizer.json"),
    ),
    case("a tokenizer that is none", written("event_tokenizer.json", b"{}")),
    case("instruction vectors that are a pickle", written(release.INSTRUCTIONS, b"\x80\x04.")),
]


@pytest.mark.parametrize(("wrong", "change"), MADE_OTHERWISE)
def test_a_release_that_was_sealed_with_what_cannot_run_is_refused(
    wrong: str, change: Change, plain: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "release"
    shutil.copytree(plain.release.path, folder)
    change(folder)
    with refused(wrong):
        seal(folder, checkpoint="c", precision="fp32", vector_spec=untrained.VECTOR_SPEC, texts={"universal": None})
        load(folder, threads=1)


@row("a provider that this build lacks")
def test_a_provider_that_this_build_lacks_is_refused(wrong: str, plain: Any) -> None:
    with refused(wrong):
        load(plain.release.path, providers=["AbacusExecutionProvider"])


@pytest.mark.parametrize(
    ("wrong", "damage"),
    [
        case("a checkpoint without its weights", lost("model.safetensors")),
        case("a checkpoint whose weights were copied by half", halved("model.safetensors")),
        case("a checkpoint without its config", lost("config.json")),
        case("a checkpoint whose config is no JSON", written("config.json", b"{")),
        case("a checkpoint whose config is not UTF-8", written("config.json", b"\xff")),
        case(
            "a checkpoint whose config is another network's",
            lambda folder: (folder / "config.json").write_text(
                (folder / "config.json").read_text().replace('"feedforward": 128', '"feedforward": 64')
            ),
        ),
        case("a checkpoint without a tokenizer", lost("event_tokenizer.json")),
    ],
)
def test_a_damaged_checkpoint_is_refused(wrong: str, damage: Change, plain: Any, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(plain.checkpoint, folder)
    damage(folder)
    with refused(wrong):
        load_checkpoint(folder)


@row("a checkpoint whose metrics are no JSON")
def test_metrics_that_cannot_be_read_are_refused(wrong: str, tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text("{")
    with refused(wrong):
        read_metrics(tmp_path)


@row("a saved state of training that is broken")
def test_a_saved_state_that_cannot_be_read_is_refused(wrong: str, tmp_path: Path) -> None:
    from model.training.training_config import TrainingConfig

    some = made_up_profiles(12)
    (tmp_path / "state-5").mkdir()
    (tmp_path / "state-5" / "state.json").write_text("{")
    with refused(wrong):
        train(
            some,
            made_up_pairs(some),
            network_config(shared_encoder=True),
            TrainingConfig(steps=1, profiles_per_step=4, warm_start=False),
            tmp_path,
        )
