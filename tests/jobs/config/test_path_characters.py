"""Special characters in paths: refused when the file is read where a library reads them as another path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.config.deployment import DeploymentError
from tests.support.deployment import DEPLOYMENT, ODD_NAME, deploy
from tests.support.error_page import case, refused


@pytest.mark.parametrize(
    ("wrong", "changes"),
    [
        case("a lake with brackets in its path", {"lake": "lake[1]"}),
        case("a path that a library decodes", {"lake": "/data/a%20b"}),
        case("a file URI with an escape", {"lake": "file:///data/a%20b"}),
        case("a store with a question mark in its path", {"store": {"folder": "what?"}}),
        case(
            "a source with a backslash in its path",
            {"sources": [{**DEPLOYMENT["sources"][0], "table": r"/data\bills"}]},
            said=r"sources.bill.table = '/data\\bills': /data\bills has '\\', which the libraries",
        ),
        case(
            "a metastore with a semicolon in its path",
            {"spark": {"metastore": "ware;house"}},
            said="spark.metastore = 'ware;house': ... has ';', which the libraries",
        ),
        case("a lake with a fragment in its URI", {"lake": "file:/data/a#b"}, said="has '#' in a URI; write the path"),
    ],
)
def test_a_path_that_a_library_reads_as_another_is_refused(
    wrong: str, changes: dict[str, Any], deployment: Any
) -> None:
    with refused(wrong):
        deployment(**changes)


@pytest.mark.parametrize("character", ["[", "]", "^", "|", "\\", "\t", "\n", "\x7f", "%2F", "%aF"])
def test_a_lake_with_such_a_character_is_refused(character: str, tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match=r"(?s)lake = .lake.: .* has "):
        deploy(tmp_path / f"a{character}b")


@pytest.mark.parametrize("character", ["?", "$x", "${x}"])
def test_a_store_with_such_a_character_is_refused_and_a_lake_is_not(character: str, tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match=r"1 error\n.*store.folder = 'store': .* has "):
        deploy(tmp_path / f"a{character}b")
    assert deploy(tmp_path / f"a{character}b", store={"folder": str(tmp_path)}).lake == "lake"


def test_every_other_character_is_accepted(tmp_path: Path) -> None:
    read = deploy(tmp_path / ODD_NAME)
    assert read.resolve(read.lake) == str(tmp_path / ODD_NAME / "lake")
