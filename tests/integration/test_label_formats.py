"""Labels as Parquet files and as a view: evaluate, tune and userqa make the same of them as of a Delta table."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import deltalake
import pyarrow.parquet as pq
import pytest

from jobs.config.deployment import Deployment
from jobs.evaluation.evaluate import evaluate
from jobs.lake.run_log import read_runs
from jobs.training.registry import checkpoints_folder
from jobs.training.tune import tune
from jobs.userqa.questions import QuestionError
from jobs.userqa.userqa import userqa
from model.training.tuning import TuningConfig
from tests.support import literal_answers, shop, userqa_lake
from tests.support.deployment import deploy
from tests.support.made_up import made_up_profiles
from tests.support.training_tables import label_row, write_day, write_labels

PARQUET = {"table": "./label_files", "format": "parquet"}
VIEW = {"table": "labelled.food"}


@pytest.fixture(autouse=True)
def _database(spark: Any, tmp_path: Path) -> Iterator[None]:
    spark.sql(f"CREATE DATABASE labelled LOCATION '{tmp_path}/labelled'")
    yield
    spark.sql("DROP DATABASE labelled CASCADE")


def copy_labels(spark: Any, deployment: Deployment) -> None:
    """Write the rows of the Delta table of labels in the other formats too."""
    folder = deployment.path.parent / "label_files"
    folder.mkdir(exist_ok=True)
    pq.write_table(deltalake.DeltaTable(deployment.table("labels")).to_pyarrow_table(), folder / "a.parquet")
    spark.sql(f"CREATE OR REPLACE VIEW labelled.food AS SELECT * FROM delta.`{deployment.table('labels')}`")


@pytest.mark.slow
def test_evaluate_and_tune_have_the_figures_of_a_delta_table(spark: Any, shop_releases: Any, tmp_path: Path) -> None:
    deployment = shop.company(tmp_path)
    shop_releases.copy_checkpoint(checkpoints_folder(deployment) / "first")
    shop_releases.install(deployment)
    profiles = made_up_profiles(120, seed=3)
    write_day(deployment, "user_profiles", profiles, date(2025, 3, 2))
    rows = [label_row(row["user_id"], int(row["interest"] < 3)) for row in profiles.to_pylist()]
    write_labels(deployment, "labels", [label_row("nobody"), rows[0], *rows])
    copy_labels(spark, deployment)

    def company(labels: Any) -> Deployment:
        return shop.company(tmp_path, scenarios=[shop.SCENARIOS[0] | {"labels": labels}, shop.SCENARIOS[1]])

    def figures(labels: Any) -> tuple[Any, ...]:
        result = evaluate(company(labels), baselines=False, splits=2)
        return result.auc, result.ks, result.left_out

    def tuned(labels: Any) -> tuple[Any, ...]:
        result = tune(company(labels), "food", shots=24, config=TuningConfig(margin=0))
        return result.step, result.probe, result.probe_manual

    expected = figures("labels")
    assert str(expected[-1]["food"]) == "1 labelled user left out; 1 label without a profile; 1 label repeated"
    assert figures(PARQUET) == figures(VIEW) == expected
    assert tuned(PARQUET) == tuned("labels")


@pytest.mark.slow
def test_userqa_reads_no_event_after_the_first_label_of_a_view(spark: Any, tmp_path: Path) -> None:
    scenarios = [{"name": "food", "instruction": "Food?", "labels": VIEW}]
    d = deploy(tmp_path, **userqa_lake.CHANGES | {"scenarios": scenarios})
    lake = userqa_lake.make_lake()
    userqa_lake.write(d, lake)
    userqa_lake.write_questions(tmp_path)
    userqa_lake.write_labels(d)
    copy_labels(spark, d)
    userqa(spark, d)
    literal_answers.require_true(SimpleNamespace(lake=lake), userqa_lake.table(d, "userqa"))
    [run] = read_runs(d, "userqa")
    assert VIEW["table"] not in run.versions
    spark.sql(f"INSERT INTO delta.`{d.table('labels')}` VALUES ('u2', TIMESTAMP'2025-02-10', 'food', 1)")
    copy_labels(spark, d)
    with pytest.raises(QuestionError, match="after the earliest label's as_of 2025-02-10"):
        userqa(spark, d)
