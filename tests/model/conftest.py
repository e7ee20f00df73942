"""Releases of untrained networks, each exported once for all tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.made_once import run_folder

if TYPE_CHECKING:
    from tests.support.untrained import Exported


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    from tests.support import untrained

    return untrained.export_full(run_folder(tmp_path_factory) / "full")


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    from tests.support import untrained

    return untrained.export_plain(run_folder(tmp_path_factory) / "plain")
