"""What instructions are worth, on a release: the figures, the page, the files and the gate of `promote`."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console
from sklearn.metrics import roc_auc_score

from jobs.cli.main import app
from jobs.cli.pages.evaluate import evaluation_page
from jobs.config.deployment import Deployment
from jobs.evaluation.baselines.hand_made import deployment_features
from jobs.evaluation.baselines.past_answers import past_answer_scores
from jobs.evaluation.evaluate import evaluate
from jobs.evaluation.few_labels import MOST_DRAWS
from jobs.evaluation.instructions import VAGUE
from jobs.lake.run_log import RunRecord
from jobs.training.registry import checkpoints_folder, current_release, promote, releases_folder
from model import load
from model.serving.instruction_encoder import InstructionEncoder, focus
from model.training.few_labels import prototypes, ridge
from model.training.probe import SPLIT_SEEDS, fit_half
from model.training.ranking import auc
from model.training.shots import draw_shots
from tests.support import shop
from tests.support.error_page import refused, row
from tests.support.made_up import INTERESTS, made_up_pairs, made_up_profiles
from tests.support.training_tables import label_row, write_day, write_labels

USERS = 120
LABELS_AS_OF = datetime(2025, 3, 3, tzinfo=UTC)
SCENARIOS = [{**scenario, "labels": "labels"} for scenario in shop.SCENARIOS]
PAST_USERS = 140
NONE = ("Few bills.", *(f"The user likes {INTERESTS[interest]}." for interest in (1, 2, 4)))
"""Answers that count as the `none` of their question."""
LIKES, BILLS = "What does this user like?", "How many bills does this user have?"


def company(folder, profiles: pa.Table, **changes) -> Deployment:
    """Write a company with labels of two scenarios, training profiles and questions with a `none`."""
    deployment = shop.company(folder, scenarios=SCENARIOS, **changes)
    write_day(deployment, "user_profiles", profiles, date(2025, 3, 2))
    rows = profiles.to_pylist()
    labels = [label_row(user["user_id"], int(user["interest"] < 3)) for user in rows]
    write_labels(deployment, "labels", labels + [label_row(u["user_id"], u["interest"] % 2, "films") for u in rows])
    past = made_up_profiles(PAST_USERS, seed=8, events=15.0)
    pairs = made_up_pairs(past)
    none = pa.array([answer in NONE for answer in pairs["answer"].to_pylist()])
    write_day(deployment, "training_profiles", past, date(2025, 1, 1))
    write_day(deployment, "userqa", pairs.append_column("is_none", none), date(2025, 1, 1))
    return deployment


@pytest.fixture(scope="module")
def profiles() -> pa.Table:
    return made_up_profiles(USERS, seed=3, events=8.0)


@pytest.fixture(scope="module")
def focused(tmp_path_factory, shop_releases, profiles):
    """The company with a release with focus, and its evaluation."""
    folder = tmp_path_factory.mktemp("focused")
    shop_releases.install(shop.company(folder), focus="universal", decoder=True)  # as other tests, without labels
    deployment = company(folder, profiles)
    return deployment, evaluate(deployment)


def test_figures_are_those_of_vectors_focused_by_hand(focused, profiles):
    deployment, result = focused
    release = load(current_release(deployment))
    encoder = InstructionEncoder(release.release)
    universal = release.embed(profiles, ["universal"])[:, 0]
    texts = {scenario.name: scenario.instruction for scenario in deployment.scenarios}
    labels = {"food": np.array(profiles["interest"]) < 3, "films": np.array(profiles["interest"]) % 2 == 1}
    users = np.array(profiles["user_id"].to_pylist())
    for name, label in labels.items():
        [other] = {*texts} - {name}
        instructions = {"manual": [texts[name]], "vague": VAGUE, "another's": [texts[other]]}
        for method, some in instructions.items():
            zero, few = [], []
            for seed in SPLIT_SEEDS:
                fit = fit_half(users.tolist(), seed)
                for text in some:
                    direction = encoder.encode(text)
                    zero.append(roc_auc_score(label[~fit], (universal @ direction)[~fit]))
                    vectors = focus(universal, direction, encoder.scale)
                    for draw in range(MOST_DRAWS):
                        shots = np.flatnonzero(fit)[draw_shots(label[fit], 16, draw, user_ids=users[fit])]
                        score = prototypes(vectors[shots], vectors[~fit])(label[shots].astype(int))
                        few.append(roc_auc_score(label[~fit], score))
            parts = result.worth.scenarios[name]
            assert parts["similarity to it"][method]["0"] == pytest.approx(np.mean(zero), abs=2e-3)
            assert parts["prototypes"][method]["16"] == pytest.approx(np.mean(few), abs=2e-3)
        known = encoder.nearest(encoder.encode(texts[name]))
        assert (result.worth.nearest[name].question, known.question in (LIKES, BILLS)) == (known.question, True)


def test_all_rows_are_there_and_the_gate_is_the_mean_over_scenarios(focused):
    _, result = focused
    worth = result.worth
    assert {part: list(methods) for part, methods in worth.means.items()} == {
        "similarity to it": ["manual", "vague", "another's"],
        **{key: ["universal", "manual", "vague", "another's"] for key in ("prototypes", "neighbours", "regression")},
        "hand-made": ["past answers", "regression", "regression, log values", "LightGBM", "one count"],
    }
    assert list(worth.means["prototypes"]["manual"]) == ["16", "all"], "the fit half has fewer than 64 users"
    assert list(worth.means["neighbours"]["manual"]) == ["all"]
    rows = {"0": "similarity to it", "16": "prototypes", "all": "regression"}
    for labels, part in rows.items():
        of_scenarios = [parts[part]["manual"][labels] for parts in worth.scenarios.values()]
        assert worth.gate[labels] == pytest.approx(np.mean(of_scenarios), abs=1e-4)
        assert worth.means[part]["manual"][labels] == pytest.approx(np.mean(of_scenarios), abs=1e-4)
    over = worth.differences["prototypes"]["manual - another's"]["16"]
    means = worth.means["prototypes"]
    assert over.mean == pytest.approx(means["manual"]["16"] - means["another's"]["16"], abs=2e-4)
    assert over.half_width > 0
    hand_made = {method: cells["16"] for method, cells in worth.means["hand-made"].items() if "16" in cells}
    assert worth.best_baseline["16"] == max(hand_made, key=hand_made.__getitem__)
    assert worth.variance.user + worth.variance.instruction + worth.variance.both == pytest.approx(1)
    assert result.questions.keys() == {"interest", "bills"}


def test_the_page_fits_a_terminal_and_files_hold_every_scenario(focused):
    deployment, result = focused
    console = Console(width=80)
    with console.capture() as captured:
        console.print(evaluation_page(result))
    page = captured.get()
    for words in ("AUC by the number of labelled users", "similarity to it", "Variance of", "Answers to the questions"):
        assert words in page
    folder = releases_folder(deployment) / "evaluations"
    written = json.loads((folder / f"{result.release}.json").read_text())
    assert written["worth"]["gate"] == result.worth.gate
    text = (folder / f"{result.release}.md").read_text()
    assert all(f"\n## {title}\n" in text for title in ("mean over scenarios", "food", "films"))
    assert (folder / f"{result.release}.png").read_bytes().startswith(b"\x89PNG")


@row("a release below the gate of the deployment file")
def test_promote_compares_the_evaluation_with_the_deployment(focused, wrong):
    deployment, result = focused
    folder = deployment.path.parent

    def gated(**least) -> Deployment:
        return shop.company(folder, scenarios=SCENARIOS, promote={"least_auc": least})

    assert promote(gated(**{"16": 0.1, "0": 0.1}), result.release).release.name == result.release
    with refused(wrong) as caught:
        promote(gated(**{"16": 0.99, "0": 0.1}), result.release)
    assert f"16 labels: {result.worth.gate['16']}, at least 0.99" in str(caught.value)
    path = releases_folder(deployment) / "evaluations" / f"{result.release}.json"
    path.rename(path.with_suffix(".away"))
    with refused(wrong):
        promote(gated(all=0.1), result.release)
    path.with_suffix(".away").rename(path)
    shop.company(folder, scenarios=SCENARIOS)


@pytest.mark.slow
def test_a_release_without_focus_says_what_is_missing_and_its_checkpoint_reads_it(tmp_path, shop_releases, profiles):
    shop_releases.install(shop.company(tmp_path))
    deployment = company(tmp_path, profiles)
    bare = evaluate(deployment, baselines=False, splits=2).worth
    assert "so vague instructions and figures without labels are missing" in bare.missing
    assert list(bare.means["prototypes"]) == ["universal", "manual", "another's"]
    assert (bare.nearest, "similarity to it" in bare.means) == ({}, False)
    shop_releases.copy_checkpoint(checkpoints_folder(deployment) / "first")
    read = evaluate(deployment, baselines=False, splits=2).worth
    assert read.missing is None
    assert list(read.means["similarity to it"]) == ["manual", "vague", "another's"]
    assert list(read.means["prototypes"]) == ["universal", "manual", "vague", "another's"]
    assert {known.question for known in read.nearest.values()} <= {LIKES, BILLS}
    assert read.scenarios["food"]["prototypes"]["manual"] == bare.scenarios["food"]["prototypes"]["manual"]


def test_past_answers_are_regressed_on_the_features_of_their_profiles(focused, profiles):
    deployment, _ = focused
    past = made_up_profiles(PAST_USERS, seed=8, events=15.0)
    with RunRecord.kept(deployment, "evaluate", date(2025, 3, 4)) as run:
        scores = past_answer_scores(run, profiles, {"food": LIKES, "films": "Not a question."}, LABELS_AS_OF)
        none = past_answer_scores(run, profiles, {"food": LIKES}, datetime(2024, 1, 1, tzinfo=UTC))
        unknown = past_answer_scores(run, profiles, {"food": "Not a question."}, LABELS_AS_OF)
    assert (list(scores), none, unknown) == (["food"], {}, {})
    columns = ["bill", "search", "ages", "tabular"]
    together = pa.concat_tables([past.select(columns), profiles.select(columns)])
    features = deployment_features(deployment, together).filled
    likes = np.array([user["interest"] not in (1, 2, 4) for user in past.to_pylist()]).astype(int)
    expected = ridge(features[:PAST_USERS], features[PAST_USERS:])(likes)
    np.testing.assert_allclose(scores["food"], expected, rtol=1e-6, atol=1e-9)
    assert auc(~np.isin(profiles["interest"], (1, 2, 4)), scores["food"]) > 0.8


@pytest.mark.slow
def test_the_command_evaluates_a_trained_release(study_lake, capsys):
    """Train, export, evaluate and promote by the command line, in the form `suffix`, over many splits."""
    folder = study_lake.path.parent
    from tests.support import study_company

    model = study_company.MODEL | {"network": study_company.NETWORK | {"focus": "suffix", "head": 24}}
    deployment = study_company.company(folder, model=model, promote={"least_auc": {"0": 0.05}})
    config = ["-c", str(deployment.path)]
    for command in (["train"], ["export"], ["evaluate", "--splits", "20", "--json"], ["promote"]):
        app([*command, *config], standalone_mode=False)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    result = json.loads(lines[0])
    assert result["splits"] == 20
    seeds = {
        one["split_seed"]
        for one in json.loads((releases_folder(deployment) / "evaluations" / f"{result['release']}.json").read_text())[
            "scores"
        ]
    }
    assert len(seeds) == 20
    assert {*result["worth"]["means"]} == {"similarity to it", "prototypes", "neighbours", "regression", "hand-made"}
    assert current_release(deployment).name == result["release"]
    study_company.company(folder)
