"""Releases and checkpoints that were damaged, mixed up or made otherwise: each is refused before it makes a vector."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import onnx
import pytest

from model.serving import release
from model.serving.onnx_runtime import load
from model.serving.release import MANIFEST
from model.serving.release_draft import new_draft, seal
from model.training.checkpoint import load_checkpoint, read_metrics
from model.training.training import train
from tests.support import untrained
from tests.support.damage import Change, flipped, halved, lost, manifest, written
from tests.support.error_page import case, refused, row, says
from tests.support.made_up import made_up_pairs, made_up_profiles, network_config
from tests.support.release_files import INSTRUCTIONS, VECTOR_SPEC, build, fill

DAMAGE = [
    case("a changed byte in the user graph", flipped("user.onnx")),
    case(
        "a changed byte in an event graph",
        flipped("event_bill.onnx"),
        said="event_bill.onnx was changed after the export",
    ),
    case(
        "a changed byte in the instruction vectors",
        flipped("instructions.safetensors"),
        said="instructions.safetensors was changed after the export",
    ),
    case("a changed byte in the network", flipped("network.json"), said="network.json was changed after the export"),
    case(
        "a changed byte in a tokenizer",
        flipped("event_tokenizer.json"),
        said="event_tokenizer.json was changed after the export",
    ),
    case(
        "a changed byte in the deployment file",
        flipped("deployment.yaml"),
        said="deployment.yaml was changed after the export",
    ),
    case("a changed byte in the metrics", flipped("metrics.json"), said="metrics.json was changed after the export"),
    case("a changed byte in the card", flipped("MODEL_CARD.md"), said="MODEL_CARD.md was changed after the export"),
    case(
        "a changed word in the manifest",
        lambda folder: (folder / MANIFEST).write_text(
            (folder / MANIFEST).read_text().replace('"precision": "fp32"', '"precision": "fp16"')
        ),
        said="manifest.json was changed after the export",
    ),
    case("a graph that was copied by half", halved("user.onnx"), said="user.onnx was changed after the export"),
    case("an empty graph", written("event_bill.onnx", b""), said="event_bill.onnx was changed after the export"),
    case("a graph that is lost", lost("user.onnx")),
    case("a tokenizer that is lost", lost("language_tokenizer.json"), said="lacks language_tokenizer.json"),
    case("instruction vectors that are lost", lost("instructions.safetensors"), said="lacks instructions.safetensors"),
    case("a manifest that is lost", lost(MANIFEST)),
    case(
        "an empty manifest",
        written(MANIFEST, b""),
        said="manifest.json is not JSON (Expecting value: line 1 column 1 (char 0)); copy the whole folder again",
    ),
    case(
        "a manifest of nothing",
        written(MANIFEST, b"{}"),
        said="manifest.json is not of format 1; copy the whole folder again",
    ),
    case("a manifest that is a list", written(MANIFEST, b"[]"), said="manifest.json is not of format 1"),
    case(
        "a manifest that is not UTF-8",
        written(MANIFEST, b'{"format": "\xff"}'),
        said="manifest.json is not JSON ('utf-8' codec can't decode byte 0xff",
    ),
    case("a manifest that was copied by half", halved(MANIFEST), said="manifest.json is not JSON"),
    case("a manifest of another format", manifest(lambda content: content.update(format=2))),
    case(
        "a manifest that lists no user graph",
        manifest(lambda content: content["files"].pop("user.onnx")),
        said="manifest.json lists no user.onnx",
    ),
    case(
        "a manifest that lists no event graph",
        manifest(lambda content: [content["files"].pop(name) for name in ("event_bill.onnx", "event_search.onnx")]),
        said="manifest.json lists no event graph",
    ),
    case(
        "a manifest without instructions",
        manifest(lambda content: content.pop("instructions")),
        said="manifest.json lacks what format 1 holds ('instructions')",
    ),
    case(
        "a manifest whose instructions have no hash",
        manifest(lambda content: content["instructions"]["food"].pop("hash")),
        said="manifest.json lacks what format 1 holds (... 'hash')",
    ),
]


@pytest.mark.parametrize(("wrong", "damage"), DAMAGE)
def test_a_damaged_release_is_refused(wrong: str, damage: Change, tmp_path: Path) -> None:
    example = build(tmp_path)
    damage(example.path)
    with refused(wrong):
        release.read(example.path)


@row("a file that the manifest does not list", happens="used", said="nothing")
def test_what_the_manifest_does_not_list_is_not_read(wrong: str, tmp_path: Path) -> None:
    example = build(tmp_path)
    (example.path / "event_evil.onnx").write_bytes(b"not in the manifest")
    assert release.read(example.path) == example
    says(wrong, "used", "nothing")


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        case(
            "a release that is not there",
            "nowhere",
            said="nowhere is no release: it has no manifest.json; run `instructue export`",
        ),
        case("a file for a release", "file", said="file is no release: it has no manifest.json"),
    ],
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
        case(
            "a release of another number of events",
            {"sources": [BILL | {"max_events": 9}, SEARCH]},
            INSTRUCTIONS,
            said="sources.bill.max_events: 9 in the deployment, 8 in the release",
        ),
        case(
            "a release of another window",
            {"sources": [BILL | {"window_days": 91}, SEARCH]},
            INSTRUCTIONS,
            said="sources.bill.window_days: 91 in the deployment, 90 in the release",
        ),
        case("a release of other sources", {"sources": [BILL | {"name": "app"}, SEARCH]}, INSTRUCTIONS),
        case(
            "a release of one source more",
            {"sources": [BILL]},
            INSTRUCTIONS,
            said="sources: ['bill'] in the deployment, ['bill', 'search'] in the release",
        ),
        case(
            "a release of another order of sources",
            {"sources": [SEARCH, BILL]},
            INSTRUCTIONS,
            said="sources: ['search', 'bill'] in the deployment, ['bill', 'search'] in the release",
        ),
        case(
            "a release of other tabular columns",
            {"numbers": ()},
            INSTRUCTIONS,
            said="numbers: [] in the deployment, ['age'] in the release",
        ),
        case(
            "a release of other aggregates",
            {"aggregates": [{"name": "bills_7d", "function": "count"}]},
            INSTRUCTIONS,
            said="aggregates: ['bills_7d'] in the deployment, [] in the release",
        ),
        case(
            "a release of another precision",
            {"precision": "fp16"},
            INSTRUCTIONS,
            said="precision: 'fp16' in the deployment, 'fp32' in the release",
        ),
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
    [
        case("a draft without its user graph", "user.onnx", said="lacks user.onnx; a release needs it"),
        case("a draft without an event graph", "event_*.onnx", said="lacks event graph; a release needs it"),
    ],
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
    case(
        "a graph of another opset",
        of_opset(99),
        said=(
            "cannot open ...user.onnx (... failed: ONNX Runtime only *guarantees* support "
            "for ... Opset 99 is under development ...); install the version that the "
            "release was made with, or export again"
        ),
    ),
    case("a graph that is no ONNX", written("user.onnx", b"<html>404</html>"), said="cannot open ...user.onnx"),
    case(
        "a graph of other sources than the network",
        of_other_sources,
        said="user.onnx does not read search, which network.json names: they are of two networks; export again",
    ),
    case(
        "a network of another version",
        written("network.json", b'{"sources": []}'),
        said="network.json: this is no network configuration of this version ('tabular'): train or export it again",
    ),
    case(
        "a tokenizer of another kind",
        lambda folder: shutil.copy(folder / "language_tokenizer.json", folder / "event_tokenizer.json"),
        said=(
            "event_tokenizer.json is no event tokenizer, which begins with a token such as "
            "<cls> and has no <USER>: train or export again"
        ),
    ),
    case(
        "a tokenizer that is none",
        written("event_tokenizer.json", b"{}"),
        said="cannot read the tokenizer ...event_tokenizer.json",
    ),
    case(
        "instruction vectors that are a pickle",
        written(release.INSTRUCTIONS, b"\x80\x04."),
        said="instructions.safetensors cannot be read",
    ),
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
        case(
            "a checkpoint whose weights were copied by half",
            halved("model.safetensors"),
            said="is no whole checkpoint (...): train into it again",
        ),
        case(
            "a checkpoint without its config",
            lost("config.json"),
            said="is no whole checkpoint (...config.json...): train into it again",
        ),
        case(
            "a checkpoint whose config is no JSON",
            written("config.json", b"{"),
            said="is no whole checkpoint (this is no network configuration of this version",
        ),
        case(
            "a checkpoint whose config is not UTF-8",
            written("config.json", b"\xff"),
            said="is no whole checkpoint ('utf-8' codec can't decode byte 0xff",
        ),
        case(
            "a checkpoint whose config is another network's",
            lambda folder: (folder / "config.json").write_text(
                (folder / "config.json").read_text().replace('"feedforward": 128', '"feedforward": 64')
            ),
            said="is no whole checkpoint (...size mismatch",
        ),
        case(
            "a checkpoint without a tokenizer",
            lost("event_tokenizer.json"),
            said="cannot read the tokenizer ...event_tokenizer.json",
        ),
    ],
)
def test_a_damaged_checkpoint_is_refused(wrong: str, damage: Change, plain: Any, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(plain.checkpoint, folder)
    damage(folder)
    with refused(wrong):
        load_checkpoint(folder)


@row("a checkpoint whose metrics are no JSON", said="metrics.json cannot be read (...): remove ... and train again")
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
