"""Evaluate: probes and baselines read the profile as of the label and nothing later."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date, timedelta

import deltalake
import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from jobs.cli.pages.evaluate import SHORT, evaluation_page
from jobs.config.deployment import Deployment
from jobs.evaluation.baselines.hand_made import hand_made_features
from jobs.evaluation.evaluate import BASELINES, METHODS, VECTORS, EvaluationResult, evaluate
from jobs.evaluation.labelled_data import EvaluationError
from jobs.lake.delta import TableError
from jobs.lake.handoff import AssembleHandoff
from jobs.lake.run_log import RunRecord
from jobs.training.label_tables import LabelError
from jobs.training.labels import LeftOut
from jobs.training.registry import open_release, releases_folder, scenario_instructions
from model.serving.release import ReleaseError
from model.training.checkpoint import load_checkpoint
from model.training.probe import probe
from tests.support import shop
from tests.support.made_up import EVENT, made_up_profiles
from tests.support.training_tables import LABELS_AS_OF, LABELS_SCHEMA, label_row, write_day, write_labels

LABEL_DAY = date(2025, 3, 3)
USERS = 120


@pytest.fixture(scope="module")
def labelled(tmp_path_factory, shop_releases) -> tuple[Deployment, pa.Table]:
    """A company with a release, profiles on two days, and labels that follow from the later ones."""
    deployment = shop.company(tmp_path_factory.mktemp("labelled"))
    shop_releases.install(deployment)
    day_profiles = made_up_profiles(USERS, seed=3)
    stale = made_up_profiles(USERS, seed=4)
    write_day(deployment, "user_profiles", stale, date(2025, 3, 1))
    write_day(deployment, "user_profiles", day_profiles, date(2025, 3, 2))
    write_day(deployment, "user_profiles", stale, date(2025, 3, 4))
    labels = [label_row(row["user_id"], int(row["interest"] < 3)) for row in day_profiles.to_pylist()]
    write_labels(deployment, "labels", [*labels, label_row("nobody")])
    return deployment, day_profiles


def test_figures_are_those_of_the_profiles_as_of_the_label(labelled, shop_releases):
    from model.network.inference import embed
    from model.serving.export import checkpoint_hash

    deployment, day_profiles = labelled
    result = evaluate(deployment, baselines=False)
    checkpoint = shop_releases.checkpoint()
    assert checkpoint_hash(checkpoint) == open_release(deployment).checkpoint
    network, tokenizers, _ = load_checkpoint(checkpoint)
    texts = scenario_instructions(deployment)
    vectors = embed(network, tokenizers, day_profiles, [texts["universal"], texts["food"]])
    label, ids = (np.array(day_profiles["interest"]) < 3).astype(int), day_profiles["user_id"].to_pylist()
    expected = {
        "universal": vectors[:, 0],
        "manual": vectors[:, 1],
        "universal and manual": np.hstack([vectors[:, 0], vectors[:, 1]]),
    }
    assert set(result.auc["food"]) == set(expected)
    for method, values in expected.items():
        probed = probe(values, label, ids)
        assert result.auc["food"][method] == pytest.approx(probed.auc, abs=0.01)
        assert result.ks_std["food"][method] == pytest.approx(probed.ks_std, abs=0.02)
    left_out = LeftOut(repeated=0, superseded=0, no_profile=1, deactivated=0, users=1)
    assert (result.users, result.left_out, result.as_of) == ({"food": USERS}, {"food": left_out}, LABEL_DAY)
    assert (result.difference, result.best_baseline) == ({}, {})
    assert result.next is None, "the release is the current one"
    assert "vague instructions and figures without labels are missing" in shown(result), "without focus and checkpoint"


def test_the_baselines_are_scored_on_the_same_users_and_all_is_written(labelled):
    deployment, _ = labelled
    seen = []
    result = evaluate(deployment, progress=lambda result, total: seen.append((result, total)))
    assert tuple(result.auc["food"]) == METHODS
    assert result.auc["food"]["hand-made features, regression"] > 0.9, "the texts contain the interest"
    assert [*dict.fromkeys(seen)] == [(number, 10) for number in range(11)], "five methods, and five splits"
    written = json.loads((releases_folder(deployment) / "evaluations" / f"{result.release}.json").read_text())
    assert written["auc"] == result.auc
    probes = [score for score in written["scores"] if "fitted" in score]
    assert len(probes) == 5 * 5
    assert {score["fitted"] + score["scored"] for score in probes} == {USERS}
    run = deltalake.DeltaTable(deployment.table("job_runs")).to_pyarrow_table(filters=[("job", "=", "evaluate")])
    assert run.to_pylist()[0]["left_out"] == [("food: no profile", 1)]


def test_vectors_are_compared_with_the_best_baseline_split_by_split(labelled):
    deployment, _ = labelled
    result = evaluate(deployment, splits=3)
    written = json.loads((releases_folder(deployment) / "evaluations" / f"{result.release}.json").read_text())
    aucs = {
        method: np.array([score["auc"] for score in written["scores"] if score["method"] == method and "ks" in score])
        for method in METHODS
    }
    assert {len(auc_S) for auc_S in aucs.values()} == {result.splits} == {3}
    assert result.best_baseline == {"food": max(BASELINES, key=lambda method: aucs[method].mean())}
    for vector in VECTORS:
        less_S = aucs[vector] - aucs[result.best_baseline["food"]]
        assert result.difference["food"][vector] == round(float(np.mean(less_S)), 4)
        assert result.difference_std["food"][vector] == round(float(np.std(less_S)), 4)
    above, spread = (
        f"{result.difference['food']['universal']:+z.3f}",
        f" ± {result.difference_std['food']['universal']:.3f}",
    )
    assert f"{above}{spread} " in line_of_food(result)
    for alone in (replace(result, splits=1), replace(result, tuned={"food": 16})):
        assert f"{above} " in line_of_food(alone)
        assert "±" not in line_of_food(alone), "one split has no spread"


# pega-datascientist-tools #947: repeated rows raise an AUC
def test_repeated_labels_change_no_figure_and_the_page_counts_what_is_left_out(labelled):
    deployment, day_profiles = labelled
    users = day_profiles["user_id"].to_pylist()
    once = evaluate(deployment, baselines=False)
    label = {row["user_id"]: int(row["interest"] < 3) for row in day_profiles.to_pylist()}
    rows = [label_row(user, label[user]) for user in [*reversed(users), *users, *users]] + [label_row("nobody")]
    write_labels(deployment, "many_labels", rows)
    many = [shop.SCENARIOS[0] | {"labels": "many_labels"}, shop.SCENARIOS[1]]
    result = evaluate(shop.company(deployment.path.parent, scenarios=many), baselines=False)
    shop.company(deployment.path.parent)
    assert (result.auc, result.ks) == (once.auc, once.ks)
    assert result.left_out["food"] == replace(once.left_out["food"], repeated=2 * USERS)
    assert "food: 1 labelled user left out; 1 label without a profile; 240 labels repeated" in shown(result)
    run = deltalake.DeltaTable(deployment.table("job_runs")).to_pyarrow_table(filters=[("job", "=", "evaluate")])
    [row] = run.to_pylist()
    assert dict(row["left_out"]) == {"food: no profile": 1, "food: repeated": 2 * USERS}
    assert (row["rows_in"], dict(row["versions"])["many_labels"]) == (3 * USERS + 1, 0)


# scikit-learn #9193, FLAML #107
def test_a_user_with_labels_at_several_times_is_on_one_side(labelled):
    """Labels at two times of which each has its own profile."""
    deployment, day_profiles = labelled
    rows = [
        label_row(row["user_id"], int(row["interest"] < 3)) | {"as_of": LABELS_AS_OF + timedelta(days=days)}
        for row in day_profiles.to_pylist()
        for days in (0, 2)
    ]
    write_labels(deployment, "later_labels", rows)
    later = [shop.SCENARIOS[0] | {"labels": "later_labels"}, shop.SCENARIOS[1]]
    result = evaluate(shop.company(deployment.path.parent, scenarios=later), baselines=False)
    shop.company(deployment.path.parent)
    assert (result.users, result.left_out["food"].users) == ({"food": USERS}, 0)
    written = json.loads((releases_folder(deployment) / "evaluations" / f"{result.release}.json").read_text())
    assert {score["fitted"] + score["scored"] for score in written["scores"] if "fitted" in score} == {USERS}


def shown(result: EvaluationResult) -> str:
    """Return the page as a terminal shows it."""
    console = Console(width=200)
    with console.capture() as page:
        console.print(evaluation_page(result))
    return page.get()


def line_of_food(result: EvaluationResult) -> str:
    """Return the shown line of `food` with its best baseline."""
    begin = f" food       {SHORT[result.best_baseline['food']]}"
    return next(line for line in shown(result).splitlines() if line.startswith(begin))


def test_a_scenario_that_cannot_be_probed_costs_the_others_nothing(labelled):
    deployment, day_profiles = labelled
    users = day_profiles["user_id"].to_pylist()
    write_labels(deployment, "film_labels", [label_row(user, scenario="films") for user in users])
    films = shop.SCENARIOS[1] | {"labels": "film_labels"}
    result = evaluate(shop.company(deployment.path.parent, scenarios=[shop.SCENARIOS[0], films]), baselines=False)
    assert result.auc.keys() == result.ks.keys() == {"food"}
    assert list(result.not_probed) == ["films"]
    assert "users labelled 1 and 0 labelled 0" in result.not_probed["films"]
    run = deltalake.DeltaTable(deployment.table("job_runs")).to_pyarrow_table(filters=[("job", "=", "evaluate")])
    assert dict(run.to_pylist()[0]["left_out"]) == {"food: no profile": 1, "films: not probed": USERS}
    alone = shop.company(deployment.path.parent, scenarios=[films])
    with pytest.raises(EvaluationError, match=r"no scenario could be probed:\n  films: .*label more users"):
        evaluate(alone, baselines=False)
    shop.company(deployment.path.parent)


@pytest.mark.parametrize(
    ("column", "values", "problem"),
    [
        ("user_id", pa.array([b"a", b"b"]), "column user_id is binary; write texts, whole numbers or decimals"),
        ("as_of", pa.array([1, 2]), "column as_of is int64; write timestamps, dates or ISO texts"),
        (
            "as_of",
            pa.array([LABELS_AS_OF, None], pa.timestamp("us", "UTC")),
            "1 row of scenario 'food': no as_of; correct or remove them",
        ),
        ("label", pa.array([1, None]), "1 row of scenario 'food': no label; correct or remove them"),
        (
            "label",
            pa.array([0.2, 0.7]),
            "2 rows of scenario 'food': label is no whole number of 64 bits, such as 0.2; correct or remove them",
        ),
        ("label", pa.array(["0", "1"]), "column label is string; write whole numbers, 0 and 1"),
        ("label", pa.array([1, 3]), "scenario 'food' has labels such as 3; write 0 and 1"),
        ("label", None, "there is no column label; write one of whole numbers"),
    ],
)
def test_labels_that_are_not_labels_are_refused_with_their_key(labelled, column, values, problem):
    deployment, _ = labelled
    table = pa.Table.from_pylist([label_row("a"), label_row("b")], LABELS_SCHEMA)
    at = table.column_names.index(column)
    table = table.remove_column(at) if values is None else table.set_column(at, column, values)
    deltalake.write_deltalake(deployment.table("odd"), table, mode="overwrite", schema_mode="overwrite")
    odd = shop.company(deployment.path.parent, scenarios=[shop.SCENARIOS[0] | {"labels": "odd"}])
    with pytest.raises(LabelError, match=rf"scenarios\.food\.labels = odd: {problem}"):
        evaluate(odd)
    shop.company(deployment.path.parent)


def test_a_day_of_profiles_that_was_left_half_replaced_is_not_judged_on(labelled):
    deployment, _ = labelled
    for day in (date(2025, 3, 2), date(2025, 3, 4)):
        with pytest.raises(KeyError), RunRecord.kept(deployment, "assemble", day):
            raise KeyError("killed")
    with pytest.raises(TableError, match=r"assemble for 2025-03-02 .*run `instructue assemble --as-of 2025-03-02`"):
        evaluate(deployment, baselines=False)
    with RunRecord.kept(deployment, "assemble", date(2025, 3, 2)) as run:
        run.handoff = AssembleHandoff(vector_spec=deployment.vector_spec() | {"categories": []}, users=USERS)
    with pytest.raises(ReleaseError, match=r"categories: \['city'\] in the deployment, \[\] in the profiles"):
        evaluate(deployment, baselines=False)
    with RunRecord.kept(deployment, "assemble", date(2025, 3, 2)) as run:
        run.handoff = AssembleHandoff(vector_spec=deployment.vector_spec(), users=USERS)
    # The day that failed and is not done again lies after the labels.
    assert evaluate(deployment, baselines=False).users == {"food": USERS}


def test_without_labels_there_is_nothing_to_measure(labelled, tmp_path):
    deployment, _ = labelled
    bare = shop.company(tmp_path, scenarios=[{"name": "films", "instruction": "What films?"}])
    with pytest.raises(EvaluationError, match="no scenario has labels"):
        evaluate(bare)
    assert deployment.scenarios


def test_hand_made_features():
    """Ten of eleven users bought coffee, as often as their number; a rare word is no feature."""
    rows = [
        {
            "bill": [{"text": "Coffee, ~8"}] * user + [{"text": f"rare{user}"}],
            "ages": {"bill": user},
            "tabular": {"income": None if user == 4 else float(user), "city": "a" if user % 2 else None},
        }
        for user in range(11)
    ]
    profiles = pa.Table.from_pylist(
        rows,
        pa.schema(
            {
                "bill": pa.list_(EVENT),
                "ages": pa.struct([("bill", pa.int32())]),
                "tabular": pa.struct([("income", pa.float64()), ("city", pa.string())]),
            }
        ),
    )
    day_profiles = hand_made_features(profiles, ["bill"], ["income"], ["city"])
    assert day_profiles.names == (
        "bill: events",
        "bill: days since, band",
        "bill: coffee",
        "bill: ~8",
        "tabular: income",
        "city: a",
    )
    users = np.arange(11)
    np.testing.assert_allclose(day_profiles.values[:, 0], np.log1p(users + 1))
    np.testing.assert_allclose(day_profiles.values[:, 2], np.log1p(users))
    np.testing.assert_allclose(day_profiles.values[:, 5], users % 2)
    assert np.isnan(day_profiles.values[4, 4])
    assert day_profiles.filled.shape == (11, 7)
    assert day_profiles.filled[4, 4] == 5.5
    np.testing.assert_array_equal(day_profiles.filled[:, 6], users == 4)
