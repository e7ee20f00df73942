"""A wheel of the project, installed into environments of its own: nothing of the checkout is on their path."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from jobs.config.deployment import Deployment
from model import load
from tests.support import embedded, literal
from tests.support.deployment import deploy
from tests.support.messy import CHANGES, DAY1, make_lake, write
from tests.support.untrained import export_plain
from tests.support.userqa_lake import with_questions

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
UV = Path(sys.executable).with_name("uv")
BUILT_FROM = ("pyproject.toml", "README.md", "LICENSE", "jobs", "model", "feature_repo")
UNREACHABLE = ("Failed to fetch", "error sending request", "dns error", "network connectivity is disabled")
"""What uv prints where it cannot have a package, and not where packages contradict one another."""


def run(*command: object, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command outside the checkout, without the checkout's environment."""
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=300,
    )
    assert not check or done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    (source := folder / "source").mkdir()
    for name in BUILT_FROM:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source)
    run(UV, "build", "--wheel", "--no-build-isolation", "--python", sys.executable, "-o", folder, source, cwd=folder)
    [wheel] = folder.glob("*.whl")
    return wheel


def install(requirement: str, folder: Path) -> Path:
    """Install a requirement at the versions of the lock into a new environment, and return its folder of programs."""
    run(UV, "venv", "--quiet", "--python", sys.executable, folder, cwd=folder.parent)
    command = [UV, "pip", "install", "--python", folder / "bin" / "python"]
    command += ["--constraint", ROOT / "requirements.lock", requirement]
    done = run(*command, "--offline", cwd=folder.parent, check=False)
    if done.returncode:
        done = run(*command, cwd=folder.parent, check=False)
    if done.returncode and any(words in done.stderr for words in UNREACHABLE):
        pytest.skip(f"packages can be had neither from uv's cache nor from an index: {done.stderr[-500:]}")
    assert done.returncode == 0, done.stderr
    return folder / "bin"


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with the extras spark and store, before Delta's jars are put there."""
    return install(f"{wheel}[spark,store]", tmp_path_factory.mktemp("extras") / "env")


@pytest.fixture(scope="module")
def without_jars(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """A check before Delta's jars are put beside Spark's."""
    deployment = with_questions(deploy(tmp_path_factory.mktemp("jars"), **CHANGES))
    command = (programs / "instructue", "check", "--config", deployment.path)
    return run(*command, cwd=deployment.path.parent, check=False)


@pytest.fixture(scope="module")
def with_jars(programs: Path, without_jars: subprocess.CompletedProcess[str]) -> Path:
    done = run(programs / "python", "-m", "jobs.lake.delta_jars", cwd=programs.parent, check=False)
    if done.returncode and "could not be fetched" in done.stderr:
        pytest.skip(f"Delta's jars can be had neither from Ivy's cache nor from a repository: {done.stderr[-500:]}")
    assert done.returncode == 0, done.stderr
    return programs


def objects(text: str) -> list[Mapping]:
    return [json.loads(line) for line in text.splitlines()]


def test_help_lists_the_commands(programs: Path, tmp_path: Path) -> None:
    shown = run(programs / "instructue", "--help", cwd=tmp_path).stdout
    assert all(command in shown for command in ("assemble", "check", "lookup", "publish", "train"))


def test_neither_torch_nor_airflow_is_installed(programs: Path, tmp_path: Path) -> None:
    code = "from importlib.util import find_spec; print([n for n in ('torch', 'sklearn', 'airflow') if find_spec(n)])"
    assert run(programs / "python", "-c", code, cwd=tmp_path).stdout.strip() == "[]"


def test_a_command_of_another_extra_names_it(programs: Path, tmp_path: Path) -> None:
    deployment = deploy(tmp_path)
    done = run(programs / "instructue", "train", "--config", deployment.path, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert "pip install 'instructue[train]'" in done.stderr


def test_without_a_deployment_file_the_error_names_the_option(programs: Path, tmp_path: Path) -> None:
    done = run(programs / "instructue", "lookup", "u00", cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert "--config" in done.stderr


def test_check_without_jars_names_the_command_that_fetches_them(without_jars: subprocess.CompletedProcess[str]) -> None:
    assert without_jars.returncode == 2
    assert "run `python -m jobs.lake.delta_jars`" in without_jars.stderr


def test_check_counts_the_rows_of_a_lake(with_jars: Path, tmp_path: Path) -> None:
    deployment, lake = with_questions(deploy(tmp_path / "check", **CHANGES)), make_lake()
    write(deployment, lake)
    _, accounts = literal.profiles(deployment, lake, DAY1)
    command = (with_jars / "instructue", "check", "--config", deployment.path, "--as-of", DAY1, "--json")
    [result] = objects(run(*command, cwd=tmp_path).stdout)
    for name, source in result["sources"].items():
        counts = ("rows_in", "used", "outside", "rejected")
        assert {key: source["account"][key] for key in counts} == {key: accounts[name][key] for key in counts}, name


def test_lookup_reads_a_store_that_was_published(published: Deployment, programs: Path, tmp_path: Path) -> None:
    command = (programs / "instructue", "lookup", "u00", "u13", "--config", published.path, "--json")
    rows = {row["user_id"]: row for row in objects(run(*command, cwd=tmp_path).stdout)}
    expected = {key: row for key, (row, _) in embedded.latest(embedded.DAY3).items() if key[0] in rows}
    assert {(user, scenario) for user, row in rows.items() for scenario in row["vectors"]} == expected.keys()
    for (user, scenario), vector in expected.items():
        assert np.allclose(rows[user]["vectors"][scenario]["vector"], vector.astype(np.float16), atol=1e-6)


EMBED = """
import sys
import numpy
from pyarrow import parquet
from model import load

release, profiles, vectors = sys.argv[1:]
numpy.save(vectors, load(release).embed(parquet.read_table(profiles), ["universal"]))
assert "torch" not in sys.modules and "pydantic" not in sys.modules
"""


def test_the_core_alone_embeds_and_names_the_extra_of_the_command_line(wheel: Path, tmp_path: Path) -> None:
    exported = export_plain(tmp_path / "exported")
    parquet.write_table(exported.profiles, tmp_path / "profiles.parquet")
    programs = install(str(wheel), tmp_path / "env")
    files = (exported.release.path, tmp_path / "profiles.parquet", tmp_path / "vectors.npy")
    run(programs / "python", "-c", EMBED, *files, cwd=tmp_path)
    expected = load(exported.release.path).embed(exported.profiles, ["universal"])
    np.testing.assert_allclose(np.load(tmp_path / "vectors.npy"), expected, atol=1e-6)
    done = run(programs / "instructue", "--help", cwd=tmp_path, check=False)
    assert done.returncode != 0
    assert "pip install 'instructue[cli]'" in done.stderr
