"""The third-party packages that a user of a part of `model` needs; pyarrow imports pandas where it is installed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from pyarrow import parquet

from tests.support.untrained import Exported

HEAVY = {"torch", "transformers", "sklearn", "scipy", "pyspark", "delta", "deltalake", "feast", "airflow"}


def imported(code: str) -> set[str]:
    """Return the packages of `HEAVY`, and jobs, that are imported after the code has run in a process of its own."""
    report = "import json, sys; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    run = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"], timeout=120, check=True, capture_output=True, text=True
    )
    return {*json.loads(run.stdout.splitlines()[-1])} & (HEAVY | {"jobs"})


@pytest.mark.parametrize("module", ["model", "model.data.config", "model.data.profiles", "model.data.text"])
def test_data_needs_neither_torch_nor_scikit_learn(module: str) -> None:
    assert imported(f"import {module}") == set()


def test_the_probe_needs_scikit_learn_and_not_torch() -> None:
    assert imported("import model.training.probe").isdisjoint({"torch", "transformers", "pyspark", "jobs"})


def test_the_runtime_needs_neither_torch_nor_scikit_learn(exported: Exported, tmp_path: Path) -> None:
    parquet.write_table(exported.profiles, tmp_path / "profiles.parquet")
    code = f"""
import model
from pyarrow import parquet
runtime = model.load({str(exported.release.path)!r}, threads=1)
assert len(runtime.embed(parquet.read_table({str(tmp_path / "profiles.parquet")!r}))) == {len(exported.profiles)}
"""
    assert imported(code) == set()


def test_an_unknown_name_of_the_package_is_an_attribute_error() -> None:
    import model

    with pytest.raises(AttributeError, match="unheard_of"):
        model.unheard_of  # noqa: B018
