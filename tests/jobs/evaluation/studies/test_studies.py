"""Studies over seeds: killed runs continue at the next cell, and each comparison reads the intended inputs."""

from __future__ import annotations

import json
import logging
import re
from base64 import b64decode

import deltalake
import numpy as np
import pyarrow as pa
import pytest
import yaml

from jobs.cli.main import main
from jobs.config.deployment import Deployment
from jobs.evaluation.figures import ALL, DIFFERENCES, line
from jobs.evaluation.instructions import VAGUE
from jobs.evaluation.labelled_data import EvaluationError
from jobs.evaluation.scores import comparable
from jobs.evaluation.studies.figure5 import sample
from jobs.evaluation.studies.registry import StudyOptions, run_study
from jobs.evaluation.studies.study import Study
from jobs.evaluation.studies.table2 import tuned_vectors
from jobs.evaluation.studies.unseen import nearest
from jobs.training.labels import LabelledUsers
from jobs.training.registry import checkpoints_folder
from jobs.training.train import train
from model.network.kv_cache import ProfileKVCache
from model.training.probe import SPLIT_SEEDS, fit_half, nearest_class, probe
from model.training.shots import TuningError
from model.training.tuning import start_vectors
from tests.support.error_page import case, refused, row
from tests.support.study_company import FILMS, FOOD, FOOD_TABLE, SCENARIOS, company, means, trainings
from tests.support.training_tables import LABELS_AS_OF, LABELS_SCHEMA


@pytest.fixture(scope="module")
def opened(study_lake):
    """Open a study of one seed."""
    with Study.open(study_lake, "evaluate_test", seeds=1) as study:
        yield study


@pytest.fixture
def records(caplog):
    """Return the log records of this project from level INFO."""
    for name in ("jobs", "model"):
        caplog.set_level(logging.INFO, name)
    return caplog


def test_a_killed_run_goes_on_at_its_next_cell_and_a_finished_one_trains_nothing(study_lake, records):
    def kill(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(study_lake, "table", **FOOD_TABLE, progress=kill)
    assert len(trainings(records.messages)) == 1
    seen = []
    records.clear()
    result, at = run_study(study_lake, "table", **FOOD_TABLE, progress=lambda *counts: seen.append(counts))
    # For each seed a cell of universal and manual, and one tuned.
    assert records.messages[0] == "2 of 4 cells were done before"
    assert (seen[0], seen[-1]) == ((2, 4), (4, 4))
    assert len(trainings(records.messages)) == 1, "of the second seed"
    records.clear()
    again, _ = run_study(study_lake, "table", **FOOD_TABLE)
    assert records.messages == ["4 of 4 cells were done before"]
    assert again == result
    assert [*means(result, "")] == ["universal", "manual", "tuned (16)"]
    written = json.loads((at / "table_2.json").read_text())
    assert written["tables"][0]["columns"] == ["vectors", "food", "mean"]
    assert (at / "table_2.md").read_text().count("\n| tuned (16) |") == 3, "AUC, KS and by prototypes"
    run = deltalake.DeltaTable(study_lake.table("job_runs")).to_pyarrow_table(filters=[("job", "=", "evaluate_table")])
    assert run["status"].to_pylist() == ["ok"]


def test_a_seeds_network_is_that_of_train_and_its_figures_are_the_probes(study_lake, study_profiles, opened):
    done = train(study_lake, seed=1)
    before = {path.name for path in checkpoints_folder(study_lake).iterdir()}
    result, _ = run_study(study_lake, "table", **FOOD_TABLE)
    assert {path.name for path in checkpoints_folder(study_lake).iterdir()} == before
    assert done.checkpoint.name in before
    vectors = opened.trained(opened.plan, 1).embed([None, FOOD], study_profiles.sort_by("user_id"))
    label, ids = (np.array(study_profiles["interest"]) < 3).astype(int), study_profiles["user_id"].to_pylist()
    by_seed = [
        np.mean([score["auc"] for score in scores if score["method"] == "manual"]) for scores in result.data["scores"]
    ]
    assert by_seed[1] == pytest.approx(probe(vectors[:, 1], label, ids).auc, abs=0.005)
    nearest = [score["prototypes"] for score in result.data["scores"][1] if score["method"] == "manual"]
    assert np.mean(nearest) == pytest.approx(nearest_class(vectors[:, 1], label, ids).auc, abs=1e-6)
    assert means(result, "")["manual"]["food"].mean == pytest.approx(np.mean(by_seed))
    assert means(result, "")["manual"]["food"].spread == pytest.approx(np.std(by_seed, ddof=1))
    universal = [
        np.mean([score["auc"] for score in scores if score["method"] == "universal"])
        for scores in result.data["scores"]
    ]
    apart = means(result, DIFFERENCES)
    assert [*apart] == ["manual - universal", "tuned (16) - universal", "tuned (16) - manual"]
    gains = np.subtract(by_seed, universal)
    assert apart["manual - universal"]["food"].mean == pytest.approx(np.mean(gains))
    assert apart["manual - universal"]["food"].spread == pytest.approx(np.std(gains, ddof=1))


def test_shuffled_labels_are_a_coin_toss(study_lake, study_profiles, tmp_path):
    rng = np.random.default_rng(1)
    rows = [
        {"user_id": user, "as_of": LABELS_AS_OF, "scenario": name, "label": int(rng.random() < 0.5)}
        for user in study_profiles["user_id"].to_pylist()
        for name in ("food", "films")
    ]
    deltalake.write_deltalake(study_lake.table("shuffled"), pa.Table.from_pylist(rows, LABELS_SCHEMA), mode="overwrite")
    path = study_lake.path.parent / "shuffled.yaml"
    path.write_text(study_lake.path.read_text().replace("labels: labels", "labels: shuffled"))
    result, _ = run_study(Deployment.read(path), "table", seeds=1, options=StudyOptions(shots=[16]))
    true, _ = run_study(study_lake, "table", **FOOD_TABLE)
    # Over two scenarios and five overlapping halves of 50 users each the mean wanders by .05.
    assert all(abs(figures[ALL].mean - 0.5) < 0.13 for figures in means(result, "").values())
    assert means(true, "")["universal"][ALL].mean > 0.65


def test_tuning_sees_nothing_of_the_half_that_is_scored(opened):
    trained, group = opened.trained(opened.plan, 0), opened.groups[0]
    read = ProfileKVCache(trained.network, trained.tokenizers, trained.profiles.take(group.row_U))
    start_IH = start_vectors(trained.network, trained.tokenizers, FOOD)

    def tuned(labels: np.ndarray) -> np.ndarray:
        changed = LabelledUsers(scenario="food", user_ids=group.user_ids, row_U=group.row_U, label_U=labels)
        return tuned_vectors(read, changed, start_IH, SPLIT_SEEDS[0], None, seed=0)

    fit_U = fit_half(group.user_ids, SPLIT_SEEDS[0])
    vectors = tuned(group.label_U)
    for others in (1 - group.label_U, np.zeros_like(group.label_U)):
        np.testing.assert_array_equal(tuned(np.where(fit_U, group.label_U, others)), vectors)
    # While labels of the other half decide: of one class alone nothing can be learned.
    with pytest.raises(TuningError, match=r"have the labels \[0\] alone"):
        tuned(np.where(fit_U, 0, group.label_U))


def test_vague_and_wrong_instructions_are_other_texts(study_lake, opened, study_profiles, records):
    result, _ = run_study(study_lake, "precision", seeds=1)
    assert [*means(result, "")] == ["exact", "vague", "wrong", "universal"]
    assert len({FOOD, FILMS, *VAGUE}) == 2 + len(VAGUE)
    vectors = opened.trained(opened.plan, 0).embed([*VAGUE, FILMS], study_profiles.sort_by("user_id"))
    label, ids = (np.array(study_profiles["interest"]) < 3).astype(int), study_profiles["user_id"].to_pylist()
    aucs = [probe(vectors[:, number], label, ids).auc for number in range(len(VAGUE) + 1)]
    assert means(result, "")["vague"]["food"].mean == pytest.approx(np.mean(aucs[:-1]), abs=0.005)
    assert means(result, "")["wrong"]["food"].mean == pytest.approx(aucs[-1], abs=0.005)
    assert aucs[0] != aucs[-1]
    for figures in means(result, "").values():
        assert figures[ALL].mean == pytest.approx((figures["food"].mean + figures["films"].mean) / 2)
    for other in ("vague", "wrong", "universal"):
        exact, less = (means(result, "")[name]["food"].mean for name in ("exact", other))
        assert means(result, DIFFERENCES)[f"exact - {other}"]["food"].mean == pytest.approx(exact - less)
    # Another number of steps is another cell, of another network.
    records.clear()
    run_study(study_lake, "precision", seeds=1, steps=0, scenarios=["food"])
    assert len(trainings(records.messages)) == 1


def test_the_command_prints_tables_or_json(study_lake, capsys, monkeypatch):
    run_study(study_lake, "precision", seeds=1)  # so that nothing is left to train
    for more, expected in (([], "AUC"), (["--json"], '{"name": "precision"')):
        monkeypatch.setattr(
            "sys.argv", ["instructue", "evaluate", "--precision", "--seeds", "1", "-c", str(study_lake.path), *more]
        )
        with pytest.raises(SystemExit) as exit:
            main()
        assert exit.value.code == 0
        said = capsys.readouterr()
        assert expected in said.out
        assert "1 of 1 cells were done before" in said.err


def test_noise_is_a_table_and_a_plot(study_lake):
    result, _ = run_study(study_lake, "noise", seeds=1, scenarios=["food"])
    for part in ("universal", "manual"):
        assert [*means(result, part)] == ["0%", "20%", "40%", "60%"]
    table, _ = run_study(study_lake, "table", seeds=1, scenarios=["food"], options=StudyOptions(shots=[16]))
    assert means(result, "manual")["0%"] == means(table, "")["manual"]
    assert result.plots[0].read_bytes().startswith(b"\x89PNG")


def test_the_figure_is_a_plot_and_one_page_with_its_numbers(study_lake):
    result, at = run_study(study_lake, "figure", seeds=1)
    png, page = (at / name for name in ("figure_5.png", "figure_5.html"))
    assert result.plots == (png, page)
    text = page.read_text()
    assert b64decode(re.search(r'base64,([^"]+)"', text)[1]) == png.read_bytes()
    assert not re.search(r'(?:src|href)="(?!data:)', text)
    assert f"{result.data['silhouette']['manual']:+.3f}" in text
    assert -1 <= result.data["silhouette"]["universal"] < 0.1, "universal vectors do not know the scenario"
    assert result.data["silhouette"]["manual"] > result.data["silhouette"]["universal"]


def test_a_scenario_that_one_method_lacks_is_in_no_mean():
    """Otherwise the means of two lines would be over different scenarios."""
    figures = {"salt": "1", "auc": 0.6, "ks": 0.1, "prototypes": 0.6}
    scores = [{"scenario": scenario, "method": method} | figures for scenario in "ab" for method in ("manual", "tuned")]
    scores[3] = {"scenario": "b", "method": "tuned", "why": "too few"}
    [left] = comparable([scores])
    assert line("manual", [left], "manual").auc.keys() == line("tuned", [left], "tuned").auc.keys() == {"a", ALL}


def test_too_few_shots_are_refused(study_lake):
    with pytest.raises(EvaluationError, match="2 shots are too few for 2 classes"):
        run_study(study_lake, "table", seeds=1, options=StudyOptions(shots=[2]), scenarios=["food"])


def test_a_user_of_the_figure_has_one_scenario():
    groups = [
        LabelledUsers(scenario=name, user_ids=[], row_U=rows, label_U=rows)
        for name, rows in (("food", np.arange(40)), ("films", np.arange(20, 30)))
    ]
    rows, scenario = sample(groups, 8, seed=0)
    assert len({*rows.tolist()}) == len(rows) == 16
    for number, group in enumerate(groups):
        assert {*rows[scenario == number].tolist()} <= {*group.row_U.tolist()}
        assert (scenario == number).sum() == 8


def test_the_nearest_questions_are_left_out_of_training_and_no_others(study_lake, monkeypatch):
    monkeypatch.setattr("jobs.evaluation.studies.unseen.NEAREST", 1)  # two questions are asked here
    result, _ = run_study(study_lake, "unseen", seeds=1)
    left_out = result.data["left_out"]
    assert [*left_out["films"]] == ["What does this user like?"]
    trained = [json.loads(path.read_text()) for path in checkpoints_folder(study_lake).glob("*/inputs.json")]
    assert ["What does this user like?"] in [one.get("left_out") for one in trained]
    lines = means(result, "manual")
    for name in ("food", "films", ALL):
        full, less, lost = (figures[name].mean for figures in lines.values())
        assert lost == pytest.approx(full - less)
    current = checkpoints_folder(study_lake) / "CURRENT"
    if current.exists():
        inputs = current.parent / current.read_text().strip() / "inputs.json"
        assert "left_out" not in json.loads(inputs.read_text())


def test_nearness_is_of_rare_words():
    questions = ["Does this user like films?", "Does this user like trains?", "How old is this user?"]
    assert [*nearest("Predict whether this user goes to films.", questions, 1)] == ["Does this user like films?"]


def relabelled(deployment: Deployment, name: str, rows: list[dict], labels: str) -> Deployment:
    """Return the same deployment with other labels of films; `labels` names each scenario's table."""
    deltalake.write_deltalake(deployment.table(name), pa.Table.from_pylist(rows, LABELS_SCHEMA), mode="overwrite")
    food, films = (scenario | {"labels": table} for scenario, table in zip(SCENARIOS, labels.split(), strict=True))
    path = deployment.path.parent / f"{name}.yaml"
    content = yaml.safe_load(deployment.path.read_text()) | {"scenarios": [food, films]}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return Deployment.read(path)


def films(users: list[str], label: int | None = None) -> list[dict]:
    return [
        {"user_id": user, "as_of": LABELS_AS_OF, "scenario": "films", "label": number % 2 if label is None else label}
        for number, user in enumerate(users)
    ]


@row("labels of one class alone, over seeds")
def test_a_scenario_that_cannot_be_probed_is_named_and_costs_the_others_nothing(wrong, study_lake, study_profiles):
    deployment = relabelled(study_lake, "ones", films(study_profiles["user_id"].to_pylist(), 1), "labels ones")
    result, _ = run_study(deployment, "precision", seeds=1)
    assert means(result, "")["exact"].keys() == {"food", ALL}
    assert any(note.startswith("films was not probed: ") for note in result.notes)
    with refused(wrong):
        run_study(deployment, "precision", seeds=1, scenarios=["films"])


@pytest.mark.parametrize(
    ("wrong", "kind", "options"),
    [
        case("a scenario to evaluate that has no labels", "table", {"scenarios": ["fod"]}),
        case(
            "a variant that there is none of",
            "ablations",
            {"options": StudyOptions(only=["no-noise"])},
            said="there is no variant 'no-noise'; use some of text-only, without-sequences, ...",
        ),
        case(
            "a figure of one scenario",
            "figure",
            {"scenarios": ["films"]},
            said="the figure compares scenarios, and one alone has labels: name labels of another",
        ),
        case("too few questions to leave some out", "unseen", {}),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_trained(wrong, kind, options, study_lake, records):
    with refused(wrong):
        run_study(study_lake, kind, seeds=1, **options)
    assert records.messages == []


@row("an evaluation over seeds where no scenario has labels")
def test_without_labels_there_is_nothing_to_compare(wrong, tmp_path):
    with refused(wrong):
        run_study(company(tmp_path, scenarios=[{"name": "films", "instruction": FILMS}]), "table")


@row(
    "too few users for a figure",
    said=("the figure needs 5 users of scenario 'films' that no other scenario has, and there are 3: label more users"),
)
def test_a_figure_of_too_few_users_is_refused(wrong, study_lake, study_profiles):
    few = relabelled(study_lake, "few", films(study_profiles["user_id"].to_pylist()[:3]), "labels few")
    with refused(wrong):
        run_study(few, "figure", seeds=1)
