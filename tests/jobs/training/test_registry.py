"""The registry: a release is a candidate until it is promoted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from jobs.cli.main import app
from jobs.config.deployment import Deployment
from jobs.training import registry
from jobs.training.registry import (
    candidate_release,
    current_release,
    open_release,
    promote,
    releases_folder,
    set_candidate,
)
from model.errors import InstructUEError
from model.serving.release import Release, ReleaseError
from tests.support import release_files
from tests.support.deployment import deploy


def build(deployment: Deployment, value: float, made_for: Deployment | None = None) -> Release:
    """Write a release of the deployment; `value` decides its name."""
    return release_files.build(releases_folder(deployment), (made_for or deployment).vector_spec(), value)


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return deploy(tmp_path)


def test_a_candidate_is_current_once_it_is_promoted(deployment):
    first, second = build(deployment, 1), build(deployment, 2)
    assert candidate_release(deployment) is None
    assert set_candidate(deployment, first)
    assert candidate_release(deployment) == first.path
    with pytest.raises(ReleaseError, match=f"CURRENT names no release; promote the candidate {first.path.name} with"):
        current_release(deployment)
    done = promote(deployment)
    assert (done.release, done.former, candidate_release(deployment)) == (first.path, None, None)
    assert open_release(deployment) == first
    set_candidate(deployment, second)
    assert open_release(deployment) == first
    assert promote(deployment).former == first.path.name
    assert open_release(deployment) == second


def test_a_former_release_is_promoted_by_its_name_and_the_candidate_stays(deployment):
    first, second, third = (build(deployment, value) for value in (1, 2, 3))
    for release in (first, second):
        set_candidate(deployment, release)
        promote(deployment)
    set_candidate(deployment, third)
    done = promote(deployment, first.path.name)
    assert (done.release, done.former) == (first.path, second.path.name)
    assert (current_release(deployment), candidate_release(deployment)) == (first.path, third.path)
    assert promote(deployment, third.path).release == third.path
    assert candidate_release(deployment) is None


def test_the_command_promotes_the_candidate(deployment, capsys):
    release = build(deployment, 1)
    set_candidate(deployment, release)
    app(["promote", "--json", "-c", str(deployment.path)], standalone_mode=False)
    printed = json.loads(capsys.readouterr().out)
    assert (Path(printed["release"]), printed["former"]) == (release.path, None)
    assert current_release(deployment) == release.path


def test_the_current_release_made_again_is_no_candidate(deployment):
    first, second = build(deployment, 1), build(deployment, 2)
    promote(deployment, first.path)
    set_candidate(deployment, second)
    assert not set_candidate(deployment, build(deployment, 1))
    assert candidate_release(deployment) is None


def test_a_pointer_of_an_earlier_version_opens(deployment):
    release = build(deployment, 1)
    (releases_folder(deployment) / "CURRENT").write_text(f"{release.path.name}\n")
    assert open_release(deployment) == release
    assert open_release(deployment, release.path.name) == open_release(deployment, release.path) == release
    with pytest.raises(ReleaseError, match=f"no candidate to promote; .* one of its releases: {release.path.name}"):
        promote(deployment)


def test_what_cannot_be_used_is_not_promoted(deployment, tmp_path):
    good = build(deployment, 1)
    promote(deployment, good.path)
    sources = [source.model_dump() | {"max_events": 9} for source in deployment.sources]
    other = build(deployment, 2, made_for=deploy(tmp_path / "other", sources=sources))
    changed, elsewhere = build(deployment, 3), shutil.copytree(good.path, tmp_path / good.path.name)
    (changed.path / "user.onnx").write_bytes(b"changed")
    for path, message in (
        (other.path, "max_events"),
        (changed.path, "user.onnx was changed"),
        (Path("another"), "is no release"),
        (elsewhere, "copy the release there"),
    ):
        with pytest.raises(ReleaseError, match=message):
            promote(deployment, path)
    assert current_release(deployment) == good.path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "CURRENT names no release; run `instructue export`, then `instructue promote`"),
        (b"\n", "CURRENT holds '', which is no release's name; write one of "),
        (b"../elsewhere\n", "CURRENT holds '../elsewhere', which is no release's name"),
        (b"\xff\xfe\x00", "which is no release's name; write one of "),
        (b"0123456789ab-01234567\n", "0123456789ab-01234567 is no release: it has no manifest.json"),
    ],
    ids=["none", "empty", "elsewhere", "not UTF-8", "removed"],
)
def test_a_pointer_that_names_no_release_is_refused(content, message, deployment):
    build(deployment, 1)
    if content is not None:
        (releases_folder(deployment) / registry.CURRENT).write_bytes(content)
    with pytest.raises(InstructUEError) as caught:
        open_release(deployment)
    assert message in str(caught.value)
