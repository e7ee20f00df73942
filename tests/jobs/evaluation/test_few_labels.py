"""Scores at several numbers of labels, and what is computed from them, beside literal versions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t
from sklearn.metrics import roc_auc_score

from jobs.evaluation.baselines.hand_made import Features
from jobs.evaluation.baselines.instruction_words import count_instruction_words
from jobs.evaluation.few_labels import CLASSIFIERS, MOST_DRAWS, Method, Ranking, Task, score_few_labels
from jobs.evaluation.paired import aucs, difference, half_width, mean_over_scenarios
from jobs.evaluation.variance import variance_shares
from jobs.training.labels import LabelledUsers
from model.training.probe import fit_half
from model.training.shots import draw_shots

USERS = 160
SEEDS = ("probe-1", "probe-2")


def group(scenario: str, rows: np.ndarray) -> LabelledUsers:
    """Return a scenario whose labels follow from the user's number and the scenario's name."""
    labels = (((np.arange(USERS) + len(scenario)) * 5) % 7 < 3).astype(np.int64)[rows]
    return LabelledUsers(scenario=scenario, user_ids=[f"u{row}" for row in rows], row_U=rows, label_U=labels)


def test_scores_are_those_of_a_loop_over_scenarios_splits_and_draws():
    rng = np.random.default_rng(0)
    features = {name: rng.normal(size=(USERS, 6)) for name in ("a", "b", "c")}
    rank = rng.normal(size=USERS)
    everybody, some = np.arange(USERS), np.arange(0, USERS, 2)
    groups = [group("food", everybody), group("films", everybody), group("tea", some)]
    methods = [
        Method(part="p", name="one", classifier="regression", features=("a",)),
        Method(part="p", name="several", classifier="prototypes", features=("a", "b", "c")),
        Method(part="n", name="near", classifier="neighbours", features=("b",)),
        Method(part="n", name="tuned", classifier="regression", features=("c",), least=64),
        Method(part="n", name="trees", classifier="LightGBM", features=("a",), with_all=False),
    ]
    tasks = [
        Task(
            group=one,
            rankings=(Ranking(part="p", name="rank", scores=(rank[one.row_U], -(rank[one.row_U] ** 2))),),
            methods=tuple(methods),
            split_seeds=SEEDS if one.scenario != "films" else SEEDS[:1],
        )
        for one in groups
    ]
    steps: list[tuple[int, int]] = []
    scores = score_few_labels(tasks, features, lambda done, total: steps.append((done, total)))
    assert steps == [(done, 4) for done in range(5)], "two splits of the shared users, two of the others"
    expected = {}
    for task in tasks:
        users, labels = np.array(task.group.user_ids), task.group.label_U
        for seed in task.split_seeds:
            fit = fit_half(task.group.user_ids, seed)
            key = (task.group.scenario, seed)
            for scored in [~fit]:
                of_rank = [roc_auc_score(labels[scored], one[scored]) for one in task.rankings[0].scores]
                expected[(*key, "rank", "0")] = np.mean(of_rank)
                for method in methods:
                    for shots in (16, 64, 256, None):
                        least = max(method.least, 21 if method.classifier == "neighbours" else 0)
                        if shots is None and not method.with_all:
                            continue
                        if (shots and shots >= fit.sum()) or (shots or fit.sum()) < least:
                            continue
                        draws = 1 if shots is None or method.classifier == "LightGBM" else MOST_DRAWS
                        values = []
                        for draw in range(draws):
                            rows = np.flatnonzero(fit)
                            if shots:
                                rows = rows[draw_shots(labels[fit], shots, draw, user_ids=users[fit])]
                            for name in method.features:
                                of_group = features[name][task.group.row_U]
                                fitted = CLASSIFIERS[method.classifier](of_group[rows], of_group[scored])
                                values.append(roc_auc_score(labels[scored], fitted(labels[rows])))
                        expected[(*key, method.name, "all" if shots is None else str(shots))] = np.mean(values)
    actual = {(one["scenario"], one["split_seed"], one["method"], one["labels"]): one["auc"] for one in scores}
    assert actual == pytest.approx(expected)
    assert {key[3] for key in actual if key[2] == "tuned"} == {"64", "all"}
    assert len(actual) == len(scores)


def test_differences_are_paired_by_split_and_their_interval_is_that_of_overlapping_halves():
    rows = [
        {"part": "p", "method": method, "labels": "16", "scenario": scenario, "split_seed": seed, "auc": value}
        for scenario, per_split in {"a": [(0.7, 0.6), (0.8, 0.7), (0.9, 0.85)], "b": [(0.6, 0.6), (0.7, 0.5)]}.items()
        for seed, values in zip("123", per_split, strict=False)
        for method, value in zip(("more", "less"), values, strict=True)
    ]
    values = aucs(rows)
    assert mean_over_scenarios(values, ("p", "more"), "16", ["a", "b"]) == pytest.approx((0.8 + 0.65) / 2)
    assert mean_over_scenarios(values, ("p", "more"), "16", ["a", "c"]) is None
    over = difference(values["p", "more"]["16"], values["p", "less"]["16"])
    assert over.mean == pytest.approx((0.25 / 3 + 0.1) / 2)
    shared = np.array([(0.1 + 0.0) / 2, (0.1 + 0.2) / 2])  # the third split is not one of both scenarios
    assert over.half_width == pytest.approx(t.ppf(0.975, 1) * shared.std(ddof=1) * np.sqrt(1 / 2 + 1))
    assert half_width(np.array([0.1])) is None
    assert difference(values["p", "more"]["16"], {}) is None
    assert str(over).startswith("+.092±")


def test_variance_is_divided_by_user_instruction_and_both():
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(7, 3, 4)) + 2 * rng.normal(size=(7, 1, 4)) + rng.normal(size=(1, 3, 4))
    mean = vectors.mean(axis=(0, 1))
    sums = {"total": 0.0, "user": 0.0, "instruction": 0.0, "both": 0.0}
    for user in range(7):
        for number in range(3):
            of_user, of_number = vectors[user].mean(axis=0) - mean, vectors[:, number].mean(axis=0) - mean
            rest = vectors[user, number] - mean - of_user - of_number
            for name, part in (("user", of_user), ("instruction", of_number), ("both", rest)):
                sums[name] += part @ part
            sums["total"] += (vectors[user, number] - mean) @ (vectors[user, number] - mean)
    shares = variance_shares(vectors)
    assert (shares.user, shares.instruction, shares.both) == pytest.approx(
        tuple(sums[name] / sums["total"] for name in ("user", "instruction", "both"))
    )
    assert variance_shares(np.ones((3, 2, 4))) is None


def test_words_of_an_instruction_are_counted_the_rarer_the_more():
    counts = np.array([[3, 0, 1, 5], [0, 0, 2, 5], [1, 4, 0, 5], [0, 0, 0, 5]])
    features = Features(
        names=("bill: films", "search: film", "bill: tea", "tabular: cinemas"), values=np.log1p(counts).astype(float)
    )
    score = count_instruction_words(features, ["bill", "search"], "Tell whether this user prefers films and cinemas.")
    # Two of four users have "films" in bills, one of four has "film" in searches.
    np.testing.assert_allclose(score, np.log1p(counts[:, 0]) * np.log(2) + np.log1p(counts[:, 1]) * np.log(4))
    assert count_instruction_words(features, ["bill", "search"], "Does this user drink coffee?") is None
