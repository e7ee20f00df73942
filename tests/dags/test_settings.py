"""A setting of the DAG that cannot be read is named, with its value and the right form."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


LOAD = """
import os, runpy, sys
for name in sys.argv[2:]:
    os.environ[name] = "1 January"
    try:
        runpy.run_path(sys.argv[1])
    except ValueError as error:
        print(error)
    del os.environ[name]
"""


def test_a_day_that_does_not_parse_is_named(tmp_path: Path) -> None:
    names = ["INSTRUCTUE_START", "INSTRUCTUE_END"]
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(ROOT / "dags" / "embed_users.py"), *names],
        cwd=tmp_path,
        text=True,
        capture_output=True,
        env={**os.environ, "AIRFLOW_HOME": str(tmp_path)},
        timeout=120,
    )
    errors = [f"{name} = '1 January' is not a day; write it as 2026-01-31" for name in names]
    assert [line for line in done.stdout.splitlines() if line.startswith("INSTRUCTUE")] == errors, done.stderr
