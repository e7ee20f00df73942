"""The study of baselines: the same figures as `evaluate`, kept results, and the choice of baselines."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jobs.config.deployment import Deployment
from jobs.evaluation.baselines.inputs import BaselineOptions
from jobs.evaluation.baselines.language_model import PRETRAINED
from jobs.evaluation.baselines.registry import BASELINES
from jobs.evaluation.evaluate import evaluate
from jobs.evaluation.figures import ALL, Figure, line_over_splits
from jobs.evaluation.results import Result
from jobs.evaluation.studies.baselines import UNTRAINED, baseline_inputs, select
from jobs.evaluation.studies.registry import StudyOptions, run_study
from jobs.evaluation.studies.study import Study, StudyError
from jobs.training.registry import checkpoints_folder, releases_folder, set_current_checkpoint
from tests.support import shop
from tests.support.made_up import AS_OF, made_up_profiles
from tests.support.study_company import means
from tests.support.training_tables import label_row, write_day, write_labels

OPTIONS = BaselineOptions(lifestream=Path("/nowhere/python"))


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory, shop_releases: shop.ReleaseCache) -> Deployment:
    """Return a company with a release of an untrained network, training profiles, and labels that the texts show."""
    company = shop.company(tmp_path_factory.mktemp("baselines"))
    trained = shop_releases.copy_checkpoint(checkpoints_folder(company) / "one")
    set_current_checkpoint(company, trained)
    shop_releases.install(company)
    for day, days in ((date(2025, 1, 1), 60), (date(2025, 2, 1), 30)):
        cut_off = AS_OF - timedelta(days=days)
        known = [
            row | {name: [event for event in row[name] if event["event_time"] < cut_off] for name in ("bill", "search")}
            for row in made_up_profiles(90, seed=5).to_pylist()
        ]
        write_day(company, "training_profiles", pa.Table.from_pylist(known, made_up_profiles(1).schema), day)
    write_day(company, "training_profiles", made_up_profiles(7), shop.DAY3)
    labelled = made_up_profiles(90, seed=3)
    write_day(company, "user_profiles", labelled, shop.DAY2)
    labels = [label_row(row["user_id"], int(row["interest"] < 3)) for row in labelled.to_pylist()]
    write_labels(company, "labels", labels)
    return company


def run(deployment: Deployment, *only: str) -> Result:
    options = StudyOptions(only=only, baselines=OPTIONS)
    result, _ = run_study(deployment, "baselines", seeds=1, options=options)
    return result


def test_training_profiles_are_older_than_the_labels(deployment: Deployment) -> None:
    with Study.open(deployment, "evaluate_test", seeds=1, reads=("training_profiles",)) as study:
        inputs = baseline_inputs(study, OPTIONS)
    assert len(inputs.training) == 180, "the rows of the day of the labels are not used"
    assert len(inputs.texts) == len(inputs.profiles) == len(study.groups[0].label_U) == 90


def test_figures_are_those_of_evaluate_and_finished_cells_are_kept(deployment: Deployment) -> None:
    result = run(deployment, "InstructUE", "hand", "CPC")
    mean = {name: figures[ALL].mean for name, figures in means(result, "").items()}
    expected = evaluate(deployment).auc["food"]
    for name, method in (
        ("InstructUE, universal", "universal"),
        ("InstructUE, manual", "manual"),
        ("hand-made features, regression", "hand-made features, regression"),
        ("hand-made features, LightGBM", "hand-made features, LightGBM"),
    ):
        assert mean[name] == pytest.approx(expected[method], abs=1e-4)
    assert means(result, UNTRAINED)["InstructUE, universal"][ALL].mean == pytest.approx(
        mean["InstructUE, universal"] - mean["InstructUE, universal, untrained"]
    )
    notes = "\n".join(result.notes)
    assert "CPC is left out: there is no /nowhere/python" in notes
    assert PRETRAINED in notes

    # A finished cell is read again, also when a later run does not choose its baseline.
    change_kept_scores(deployment, "hand-made features, regression", auc=0.125)
    result = run(deployment, "MLP")
    figures = means(result, "")
    assert str(figures["hand-made features, regression"]["food"]) == "0.125 ± 0.000"
    assert "MLP on pooled events, untrained" in figures
    assert "CoLES" not in figures

    # Another version of training_profiles makes it run again.
    write_day(deployment, "training_profiles", made_up_profiles(2), date(2025, 1, 5))
    assert means(run(deployment, "regression"), "")["hand-made features, regression"]["food"].mean != 0.125


def change_kept_scores(deployment: Deployment, method: str, **values: Any) -> None:
    """Change the kept scores of a method, so that a run that reads them is recognised."""
    for path in (releases_folder(deployment) / "evaluations" / "cells").glob("*.json"):
        cell = json.loads(path.read_text())
        if cell["inputs"].get("methods") == [method]:
            cell["result"] = [score | values for score in cell["result"]]
            path.write_text(json.dumps(cell))


def test_an_unknown_baseline_is_refused() -> None:
    chosen = select(BASELINES, ["co", "cpc"])
    assert [one.methods[0] for one in chosen] == ["CPC", "CoLES"]
    with pytest.raises(StudyError, match=r"no baseline 'BERT'.*'CoLES'"):
        select(BASELINES, ["BERT"])


def test_a_line_has_means_and_spreads_over_seeds_and_splits() -> None:
    auc_NSA = np.array([[[0.6, 0.7], [0.8, 0.9]], [[0.8, 0.9], [0.8, 0.9]]])
    scores_N = [
        [
            {"scenario": scenario, "method": "x", "auc": auc, "ks": auc}
            for scenario, auc_A in zip(("food", "film"), auc_SA, strict=True)
            for auc in auc_A
        ]
        for auc_SA in auc_NSA.tolist()
    ]
    line = line_over_splits("x", scores_N, "x")
    assert {name: str(figure) for name, figure in line.auc.items()} == {
        "food": "0.750 ± 0.112",
        "film": "0.850 ± 0.050",
        ALL: "0.800 ± 0.071",
    }
    assert line.auc[ALL] == Figure(mean=pytest.approx(auc_NSA.mean()), spread=pytest.approx(auc_NSA.mean(1).std()))
