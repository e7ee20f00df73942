"""The record of runs: what one that did not succeed leaves behind, and that no Spark is needed to read it."""

from __future__ import annotations

import subprocess
import sys
from datetime import date

import pytest

from jobs.lake import run_log
from jobs.lake.delta import TableError
from jobs.lake.run_log import RunRecord

DAY = date(2025, 3, 1)


def test_no_spark_is_imported():
    code = (
        "import sys, jobs.training.train, jobs.training.export, jobs.evaluation.evaluate\n"
        "sys.exit('pyspark' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


def test_what_failed_first_is_what_is_raised(deployment):
    """The lake can no longer be written: the run's own error must not be lost in that."""

    def work() -> None:
        with RunRecord.kept(deployment(), "train", DAY) as run:
            run.versions["userqa"] = "no number"  # type: ignore[assignment]
            raise KeyError("the first")

    with pytest.raises(KeyError, match="the first") as caught:
        work()
    assert "was not recorded in job_runs" in caught.value.__notes__[0]


def test_the_last_run_decides_and_its_command_is_named(deployment):
    shop = deployment()
    assert run_log.read_runs(shop, "assemble") == []
    with pytest.raises(KeyError), RunRecord.kept(shop, "assemble", DAY):
        raise KeyError("a worker was lost")
    [failed] = run_log.read_runs(shop, "assemble")
    with pytest.raises(
        TableError,
        match=r"assemble for 2025-03-01 did not succeed .*a worker was lost.*"
        r"run `instructue assemble --as-of 2025-03-01` again",
    ):
        failed.require_ok()
    with RunRecord.kept(shop, "assemble", DAY):
        pass
    run_log.read_runs(shop, "assemble")[0].require_ok()


def test_what_fails_before_it_writes_keeps_the_versions_that_the_rows_were_made_of(deployment):
    shop = deployment()

    def fail(version: int, *, replacing: bool) -> None:
        with RunRecord.kept(shop, "assemble", DAY) as run:
            run.versions["bills"] = version
            if replacing:
                run.replacing()
            raise KeyError("searches")

    with RunRecord.kept(shop, "assemble", DAY) as run:
        run.versions["bills"] = 3
        run.replacing()
    for version, replacing, noted in ((5, False, 3), (6, True, 6), (7, False, 6)):
        with pytest.raises(KeyError):
            fail(version, replacing=replacing)
        [failed] = run_log.read_runs(shop, "assemble")
        assert (failed.status, failed.versions) == ("failed", {"bills": noted})
