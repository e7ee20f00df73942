"""A setting of the DAG that cannot be read is named, with its value and how to write it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["INSTRUCTUE_START", "INSTRUCTUE_END"])
def test_a_day_that_does_not_parse_is_named(tmp_path: Path, name: str):
    looked = subprocess.run(
        [sys.executable, str(ROOT / "dags" / "embed_users.py")],
        cwd=tmp_path,
        text=True,
        capture_output=True,
        env={**os.environ, "AIRFLOW_HOME": str(tmp_path), name: "1 January"},
        timeout=120,
    )
    assert looked.returncode != 0
    assert f"{name} = '1 January' is no day; write it as 2026-01-31" in looked.stderr
