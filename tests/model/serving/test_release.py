"""A release folder: written whole or not at all, checked byte by byte, and refused where it would not fit."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from model.serving import release
from model.serving.release import ReleaseError
from model.serving.release_draft import new_draft, seal
from tests.support.release_files import INSTRUCTIONS, VECTOR_SPEC, build, fill, instruction_vectors


def test_an_accepted_release_reads_back_whole(tmp_path):
    built = build(tmp_path)
    result = release.read(tmp_path / built.name)
    assert result == built
    assert result.scenarios == ("universal", "food")
    assert result.instructions["food"].text == "Predict food."
    np.testing.assert_array_equal(result.vectors()["food"], instruction_vectors()["food"])
    assert [entry.name for entry in tmp_path.iterdir()] == [built.name]


def test_the_same_export_again_is_the_same_release(tmp_path):
    first = build(tmp_path)
    manifest = (first.path / release.MANIFEST).read_bytes()
    assert build(tmp_path).path == first.path
    assert (first.path / release.MANIFEST).read_bytes() == manifest


@pytest.mark.parametrize(
    "file", ["user.onnx", "event_bill.onnx", "network.json", "event_tokenizer.json", "language_tokenizer.json"]
)
def test_what_shapes_a_vector_changes_the_model_version(tmp_path, file):
    assert build(tmp_path, **{file: b"other"}).model_version != build(tmp_path).model_version


@pytest.mark.parametrize("file", ["metrics.json", "MODEL_CARD.md", "deployment.yaml"])
def test_what_shapes_no_vector_leaves_the_model_version(tmp_path, file):
    assert build(tmp_path / "a", **{file: b"other"}).model_version == build(tmp_path / "b").model_version


def test_each_key_of_the_vector_spec_changes_the_model_version(tmp_path):
    versions = {build(tmp_path).model_version}
    for key, value in [
        ("template", "{item}"),
        ("max_events", 9),
        ("max_tokens", 7),
        ("window_days", 91),
        ("name", "bills"),
    ]:
        bill = VECTOR_SPEC["sources"][0] | {key: value}
        versions.add(build(tmp_path, VECTOR_SPEC | {"sources": [bill, VECTOR_SPEC["sources"][1]]}).model_version)
    versions.add(build(tmp_path, VECTOR_SPEC | {"sources": VECTOR_SPEC["sources"][::-1]}).model_version)
    versions.add(build(tmp_path, VECTOR_SPEC | {"numbers": ()}).model_version)
    assert len(versions) == 8


def test_instruction_vectors_change_their_hash_and_the_name_but_not_the_model_version(tmp_path):
    one, two = build(tmp_path), build(tmp_path, food=2.0)
    assert one.model_version == two.model_version
    assert one.instructions["food"].hash != two.instructions["food"].hash
    assert one.instructions["universal"].hash == two.instructions["universal"].hash
    assert one.path != two.path


def test_any_changed_byte_is_found(tmp_path):
    built = build(tmp_path)
    for file in sorted(built.path.iterdir()):
        whole = file.read_bytes()
        for position in {0, len(whole) // 2, len(whole) - 2}:
            file.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
            with pytest.raises(ReleaseError, match=file.name):
                release.read(built.path)
        file.write_bytes(whole)
    release.read(built.path)


def test_a_missing_file_is_named(tmp_path):
    built = build(tmp_path)
    (built.path / "user.onnx").unlink()
    with pytest.raises(ReleaseError, match=r"lacks user\.onnx"):
        release.read(built.path)


@pytest.mark.parametrize("file", ["user.onnx", release.MANIFEST])
@pytest.mark.parametrize("lost", [True, False])
def test_a_damaged_release_is_mended_as_the_message_says(tmp_path, file, lost):
    """The same export again has the damaged one's name, and must not be taken for it."""
    built = build(tmp_path)
    (built.path / file).unlink() if lost else (built.path / file).write_bytes(b"{}")
    with pytest.raises(ReleaseError, match=f"remove {built.path} and export again"):
        build(tmp_path)
    shutil.rmtree(built.path)
    assert build(tmp_path).path == built.path


def test_a_folder_without_a_manifest_is_no_release(tmp_path):
    with pytest.raises(ReleaseError, match="is no release"):
        release.read(tmp_path)


def test_a_draft_without_its_graphs_is_refused_and_leaves_nothing(tmp_path):
    with new_draft(tmp_path) as folder:
        fill(folder)
        (folder / "user.onnx").unlink()
        with pytest.raises(ReleaseError, match=r"lacks user\.onnx"):
            seal(folder, checkpoint="c", precision="fp32", vector_spec=VECTOR_SPEC, texts=INSTRUCTIONS)
    assert list(tmp_path.iterdir()) == []


def test_scenarios_without_vectors_are_refused(tmp_path):
    texts = INSTRUCTIONS | {"film": "Films."}
    with new_draft(tmp_path) as folder:
        fill(folder)
        with pytest.raises(ReleaseError, match="film"):
            seal(folder, checkpoint="c", precision="fp32", vector_spec=VECTOR_SPEC, texts=texts)


def test_a_deployment_that_shapes_vectors_otherwise_is_refused_with_the_keys(tmp_path):
    built = build(tmp_path)
    built.check_deployment(VECTOR_SPEC, INSTRUCTIONS)
    bill = VECTOR_SPEC["sources"][0] | {"template": "{item}", "max_events": 9}
    with pytest.raises(ReleaseError) as refusal:
        built.check_deployment(
            VECTOR_SPEC | {"sources": [bill, VECTOR_SPEC["sources"][1]], "numbers": ()}, INSTRUCTIONS
        )
    message = str(refusal.value)
    assert "sources.bill.template: '{item}' in the deployment, '{merchant}' in the release" in message
    assert "sources.bill.max_events: 9 in the deployment, 8 in the release" in message
    assert "numbers: [] in the deployment, ['age'] in the release" in message
    assert "window_days" not in message


def test_another_order_or_number_of_sources_is_refused(tmp_path):
    built = build(tmp_path)
    for sources in (VECTOR_SPEC["sources"][::-1], VECTOR_SPEC["sources"][:1]):
        with pytest.raises(ReleaseError, match=r"sources: \["):
            built.check_deployment(VECTOR_SPEC | {"sources": sources}, INSTRUCTIONS)


def test_a_scenario_that_is_missing_or_reworded_is_refused(tmp_path):
    built = build(tmp_path)
    built.check_deployment(VECTOR_SPEC, {"universal": None})
    with pytest.raises(ReleaseError, match="does not serve film"):
        built.check_deployment(VECTOR_SPEC, INSTRUCTIONS | {"film": "Films."})
    with pytest.raises(ReleaseError, match="another instruction for food"):
        built.check_deployment(VECTOR_SPEC, INSTRUCTIONS | {"food": "Predict drinks."})


def test_a_killed_export_leaves_no_release(tmp_path):
    """The process dies with a sealed draft in hand: no release is seen, and the next export works."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[2]); from pathlib import Path; import os, signal\n"
        "from model.serving.release_draft import new_draft, seal\n"
        "from tests.support.release_files import INSTRUCTIONS, VECTOR_SPEC, fill\n"
        "with new_draft(Path(sys.argv[1])) as folder:\n"
        "    fill(folder)\n"
        "    seal(folder, checkpoint='c', precision='fp32', vector_spec=VECTOR_SPEC, texts=INSTRUCTIONS)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).parents[3]
    killed = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), str(root)],
        check=False,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    assert killed.returncode == -9
    assert all(entry.name.startswith(".draft-") for entry in tmp_path.iterdir())
    built = build(tmp_path)
    for left in tmp_path.glob(".draft-*"):
        os.utime(left, (0, 0))
    assert build(tmp_path) == built
    assert list(tmp_path.iterdir()) == [built.path]


def test_no_file_is_a_pickle_and_all_are_listed(tmp_path):
    built = build(tmp_path)
    manifest = json.loads((built.path / release.MANIFEST).read_text())
    assert {entry.name for entry in built.path.iterdir()} == {*manifest["files"], release.MANIFEST}
    assert not any(name.endswith((".pkl", ".pickle", ".pt", ".pth", ".bin")) for name in manifest["files"])
