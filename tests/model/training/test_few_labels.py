"""Classifiers for few labels give what literal versions of them give."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from model.training.few_labels import NEIGHBOURS, ROWS, STRENGTHS, TOLERANCE, neighbours, one_count, prototypes, ridge
from model.training.probe import fit_half, nearest_class
from model.training.ranking import auc, count_pairs
from model.training.trees import boosted_trees


def drawn(users: int, width: int, others: int = 9) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features of labelled users and of others, and labels that follow from the first feature."""
    rng = np.random.default_rng(users)
    features, more = rng.normal(size=(users, width)), rng.normal(size=(others, width))
    labels = (features[:, 0] + rng.normal(size=users) > 0.3).astype(int)
    return features, more, labels


@pytest.mark.parametrize(("users", "width"), [(12, 40), (40, 12)], ids=["wide", "long"])
def test_ridge_is_that_of_a_regression_fitted_again_without_each_user(users, width):
    features, more, labels = drawn(users, width)
    scale = features.std(axis=0)
    standard = (features - features.mean(axis=0)) / scale

    def weights(rows, values, strength):
        centred = rows - rows.mean(axis=0)
        return np.linalg.solve(centred.T @ centred + strength * np.eye(width), centred.T @ (values - values.mean()))

    def correlation(strength):
        predicted = []
        for user in range(users):
            kept = np.arange(users) != user
            rows = standard[kept]
            predicted.append((standard[user] - rows.mean(axis=0)) @ weights(rows, labels[kept], strength))
        return np.corrcoef(predicted, labels)[0, 1]

    correlations = {strength: correlation(strength) for strength in STRENGTHS}
    enough = max(correlations.values()) - TOLERANCE / np.sqrt(users)
    best = max(strength for strength in STRENGTHS if correlations[strength] >= enough)
    expected = more @ (weights(standard, labels, best) / scale)
    np.testing.assert_allclose(ridge(features, more)(labels), expected, rtol=1e-8, atol=1e-12)


def test_prototypes_rank_as_those_of_the_probe():
    features, _, labels = drawn(60, 8)
    users = [f"u{number}" for number in range(60)]
    fit = fit_half(users, "probe-1")
    [expected] = nearest_class(features, labels, users, split_seeds=["probe-1"]).scores
    scores = prototypes(features[fit], features[~fit])(labels[fit])
    assert auc(labels[~fit], scores) == pytest.approx(expected.auc, abs=1e-12)


def test_neighbours_are_the_nearest_by_the_cosine_of_centred_vectors():
    features, more, labels = drawn(50, 6, others=ROWS + 5)
    features, more = features + 3, more + 3  # far from 0, where cosines of vectors that are not centred are near 1
    mean = np.vstack([features, more]).mean(axis=0)
    expected = []
    for vector in more - mean:
        near = features - mean
        cosines = [row @ vector / np.linalg.norm(row) / np.linalg.norm(vector) for row in near]
        expected.append(np.mean([labels[user] for user in np.argsort(cosines)[::-1][:NEIGHBOURS]]))
    np.testing.assert_allclose(neighbours(features, more)(labels), expected)


def test_one_count_is_the_feature_with_the_auc_farthest_from_a_half():
    features, more, labels = drawn(40, 7)
    features, more = np.round(features), np.round(more)  # counts have equal values
    features[:, 3] = -2 * labels + (np.arange(40) % 3 == 0)
    aucs = [roc_auc_score(labels, column) for column in features.T]
    best = int(np.argmax(np.abs(np.array(aucs) - 0.5)))
    assert (best, aucs[best] < 0.5) == (3, True)
    np.testing.assert_array_equal(one_count(features, more)(labels), -more[:, 3])


def test_trees_can_split_sixteen_labels():
    features, more, _ = drawn(16, 5, others=200)
    scores = boosted_trees(features, more)((features[:, 1] > 0).astype(int))
    assert auc(more[:, 1] > 0, scores) > 0.8
    assert np.ptp(boosted_trees(features, more, leaf=20)((features[:, 1] > 0).astype(int))) == 0


def test_auc_counts_equal_scores_as_a_half():
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 60), rng.integers(0, 5, 60)
    assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))
    pairs = [(one, zero) for one in scores[labels == 1] for zero in scores[labels == 0]]
    ordered = sum(1.0 if one > zero else 0.5 * (one == zero) for one, zero in pairs)
    assert count_pairs(labels, scores) == (ordered, len(pairs))
    assert np.isnan(auc(np.ones(4), np.arange(4)))
