"""Jobs on a full disk: a file system of a few megabytes that is mounted for the process of the test alone."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import deltalake
import pyarrow as pa
import pytest
import yaml

from feature_repo.store import apply
from jobs.lake import run_log
from jobs.lake.delta import open_path
from jobs.lake.errors import translate_errors
from jobs.profiles.assemble import assemble
from jobs.serving.store_settings import store_settings
from tests.support.deployment import deploy
from tests.support.error_page import refused, row, says

ROOT = Path(__file__).parents[2]
DAY = date(2025, 3, 1)
USERS = 600
ALONE = ("unshare", "--user", "--map-root-user", "--mount")
"""Run a command that may mount file systems that no other process sees, in a user namespace."""
FILLED = """
set -e
mount -t tmpfs -o size=3m none lake
cp -r prepared/. lake
head -c $(( $(stat -f -c '%a * %S' lake) - ROOM )) /dev/zero > lake/filler
code=0
"$@" || code=$?
rm lake/filler
cp -r lake left
exit $code
"""


@pytest.fixture(scope="module")
def alone() -> None:
    mount = subprocess.run(
        [*ALONE, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, text=True, check=False
    )
    if mount.returncode:
        pytest.skip(f"no small file system can be mounted here: {mount.stderr.strip()}")


def run(folder: Path, room: int, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in `folder`, where `lake` is a disk with so many free bytes, and copy the disk to `left`."""
    for name in ("lake", "prepared"):
        (folder / name).mkdir(exist_ok=True)
    return subprocess.run(
        [*ALONE, "sh", "-c", FILLED.replace("ROOM", str(room)), "sh", sys.executable, "-m", "jobs", *command],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )


@pytest.mark.slow
@row("a full disk under the lake, when Spark writes")
def test_a_day_that_does_not_fit_is_refused_and_comes_out_when_there_is_room(
    wrong: str, alone: None, spark: Any, tmp_path: Path
) -> None:
    deployment = deploy(tmp_path, lake="prepared")
    rng, at = random.Random(0), pa.array([datetime(2025, 2, 20, tzinfo=UTC)] * USERS, pa.timestamp("us", "UTC"))
    users = [f"u{number}" for number in range(USERS)]
    # The merchants do not compress: the profiles need more space than is free, and the record of the run less.
    merchants = [rng.randbytes(450).hex() for _ in users]
    deltalake.write_deltalake(
        deployment.table("bills"),
        pa.table({"user_id": users, "paid_at": at, "bill_id": users, "merchant": merchants, "amount": [5.0] * USERS}),
    )
    deltalake.write_deltalake(
        deployment.table("searches"), pa.table({"user_id": users, "searched_at": at, "query": ["tea"] * USERS})
    )
    deploy(tmp_path)
    done = run(tmp_path, 150_000, "assemble", "-c", "deployment.yaml", "--as-of", str(DAY))
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    says(wrong, "refused", done.stderr)
    left = deploy(tmp_path, lake="left")
    assert not deltalake.DeltaTable.is_deltatable(left.table("user_profiles"))
    assert [one.status for one in run_log.read_runs(left, "assemble")] == ["failed"]
    assert assemble(spark, left, DAY).changed == USERS
    assert open_path(left.table("user_profiles")).to_pyarrow_table().num_rows == USERS


@pytest.mark.slow
@row(
    "a full disk under the lake, when Delta writes without Spark",
    said="error: no space is left on the disk of ...lake, which has ... MB free: free some, then run the command again",
)
def test_a_company_that_does_not_fit_is_refused(wrong: str, alone: None, tmp_path: Path) -> None:
    content = yaml.safe_load((ROOT / "conf" / "demo.yaml").read_text(encoding="utf-8"))
    content |= {"lake": "lake", "releases": "releases", "store": {"folder": "store"}}
    (tmp_path / "demo.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    done = run(tmp_path, 100_000, "generate", "--users", "100", "-c", "demo.yaml")
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    says(wrong, "refused", done.stderr)


@row("a full disk under the store")
def test_a_store_that_does_not_fit_is_refused(wrong: str, deployment: Any, tmp_path: Path) -> None:
    """Write a file of the store to a device that is always full."""
    if not Path("/dev/full").exists():
        pytest.skip("this machine has no /dev/full")
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "feature_store.yaml.part").symlink_to("/dev/full")
    with refused(wrong), translate_errors(deployment()):
        apply(store_settings(deployment()), width=8)
