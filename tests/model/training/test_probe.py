"""The probe against brute force, and against leaks between its fit and score halves."""

import hashlib
import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler

from model.training.probe import (
    SPLIT_SEEDS,
    ProbeError,
    _folds,
    fit_half,
    kolmogorov_smirnov,
    nearest_class,
    probe,
    probe_baseline,
)

USERS = 600
IDS = [f"user-{number}" for number in range(USERS)]


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(USERS, 8)) * [1, 100, 1, 1, 1, 1, 1, 1] + 5
    labels = (features[:, 0] + 0.01 * features[:, 1] + rng.normal(size=USERS) > 5.5).astype(int)
    return features, labels


def test_halves_are_those_of_sha2() -> None:
    for split_seed in SPLIT_SEEDS:
        expected = [hashlib.sha256((split_seed + user).encode()).hexdigest() < "8" for user in IDS]
        assert fit_half(IDS, split_seed).tolist() == expected
        assert 0.4 < np.mean(expected) < 0.6
    assert len({fit_half(IDS, split_seed).tobytes() for split_seed in SPLIT_SEEDS}) == len(SPLIT_SEEDS) == 5


def test_ks_is_the_largest_distance_over_every_threshold() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 60)
    scores = np.round(rng.normal(size=60) + labels, 1)  # with ties
    literal = max(abs((scores[labels == 1] >= cut).mean() - (scores[labels == 0] >= cut).mean()) for cut in scores)
    assert kolmogorov_smirnov(labels, scores) == pytest.approx(literal)
    assert kolmogorov_smirnov(labels, -scores) == pytest.approx(
        max(abs((scores[labels == 1] <= cut).mean() - (scores[labels == 0] <= cut).mean()) for cut in scores)
    )


def test_each_score_is_that_of_a_regression_fitted_on_the_fit_half(data: tuple[np.ndarray, np.ndarray]) -> None:
    features, labels = data
    result = probe(features, labels, IDS)
    for score in result.scores:
        fit = fit_half(IDS, score.split_seed)
        scaler = StandardScaler().fit(features[fit])
        regression = LogisticRegression(C=score.strength, max_iter=1000)
        regression.fit(scaler.transform(features[fit]), labels[fit])
        predicted = regression.predict_proba(scaler.transform(features[~fit]))[:, 1]
        assert score.auc == pytest.approx(roc_auc_score(labels[~fit], predicted), abs=2e-3)
        wins = np.subtract.outer(predicted[labels[~fit] == 1], predicted[labels[~fit] == 0])
        assert score.auc == pytest.approx(((wins > 0) + 0.5 * (wins == 0)).mean(), abs=2e-3)
        assert (score.fitted, score.scored) == (fit.sum(), (~fit).sum())
    assert result.auc == pytest.approx(np.mean([score.auc for score in result.scores]))
    assert result.ks_std == pytest.approx(np.std([score.ks for score in result.scores]))
    assert result.auc > 0.7


def test_fits_at_the_iteration_limit_are_counted_without_a_warning(
    data: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {(score.fits, score.unconverged) for score in probe(*data, IDS).scores} == {(3 * 6 + 1, 0)}
    monkeypatch.setattr("model.training.probe.MAX_ITERATIONS", 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert all(0 < score.unconverged <= score.fits for score in probe(*data, IDS).scores)


def test_the_nearest_class_is_by_the_cosine_to_each_classs_mean(data: tuple[np.ndarray, np.ndarray]) -> None:
    features, labels = data
    vectors = features / np.linalg.norm(features, axis=1, keepdims=True)
    result = nearest_class(vectors, labels, IDS, split_seeds=SPLIT_SEEDS[:2])
    for score in result.scores:
        fit = fit_half(IDS, score.split_seed)
        prototypes = [
            np.mean([v for v, one, own in zip(vectors, labels, fit, strict=True) if own and one == c], 0)
            for c in (0, 1)
        ]
        nearer = [
            v @ prototypes[1] / np.linalg.norm(prototypes[1]) - v @ prototypes[0] / np.linalg.norm(prototypes[0])
            for v in vectors[~fit]
        ]
        assert score.auc == pytest.approx(roc_auc_score(labels[~fit], nearer))
        assert score.ks == pytest.approx(kolmogorov_smirnov(labels[~fit], nearer))
    assert result.auc > 0.6


def test_noise_scores_like_noise(data: tuple[np.ndarray, np.ndarray]) -> None:
    """Were C chosen or the regression fitted on the score half, 100 features of noise would look better."""
    noise = np.random.default_rng(2).normal(size=(USERS, 100))
    assert abs(probe(noise, data[1], IDS).auc - 0.5) < 0.05


def test_a_score_does_not_depend_on_the_order_of_users(data: tuple[np.ndarray, np.ndarray]) -> None:
    features, labels = data
    turn = np.random.default_rng(3).permutation(USERS)
    turned = probe(features[turn], labels[turn], [IDS[row] for row in turn], split_seeds=SPLIT_SEEDS[:1])
    assert turned.auc == pytest.approx(probe(features, labels, IDS, split_seeds=SPLIT_SEEDS[:1]).auc, abs=0.01)


def test_the_baseline_is_scored_on_the_same_splits_and_takes_missing_values(
    data: tuple[np.ndarray, np.ndarray],
) -> None:
    features, labels = data
    features = features.copy()
    features[::5, 3] = np.nan
    result = probe_baseline(features, labels, IDS, split_seeds=SPLIT_SEEDS[:2])
    ours = probe(np.nan_to_num(features), labels, IDS, split_seeds=SPLIT_SEEDS[:2])
    assert [(s.split_seed, s.fitted, s.scored) for s in result.scores] == [
        (s.split_seed, s.fitted, s.scored) for s in ours.scores
    ]
    assert result.auc > 0.65


def test_what_cannot_be_probed_says_why(data: tuple[np.ndarray, np.ndarray]) -> None:
    features, labels = data
    with pytest.raises(ProbeError, match="half of split 'probe-1' has 0 users labelled 1"):
        probe(features, np.zeros(USERS), IDS)
    one_sided = fit_half(IDS, "probe-1").astype(int) * labels
    with pytest.raises(ProbeError, match="the score half of split 'probe-1'"):
        probe(features, one_sided, IDS)
    with pytest.raises(ProbeError, match="0 and 1"):
        probe(features, labels * 3, IDS)
    with pytest.raises(ProbeError, match=r"row 7 .* NaN"):
        probe(np.where(np.arange(USERS)[:, None] == 7, np.nan, features), labels, IDS)
    with pytest.raises(ProbeError, match=r"row 7 .* NaN"):
        nearest_class(np.where(np.arange(USERS)[:, None] == 7, np.nan, features), labels, IDS)
    with pytest.raises(ProbeError, match="one row, one label"):
        probe(features[:-1], labels, IDS)


def test_rows_of_one_user_stay_together(data: tuple[np.ndarray, np.ndarray]) -> None:
    """Each user's vector is noise and repeated, with one label: a user in both halves would be recognised."""
    rng = np.random.default_rng(4)
    noise, labels = rng.normal(size=(150, 40)), rng.integers(0, 2, 150)
    user = rng.permutation(np.repeat(np.arange(150), 4))
    ids = [f"user-{number}" for number in user]
    result = probe(noise[user] + 1e-3 * rng.normal(size=(600, 40)), labels[user], ids)
    assert abs(result.auc - 0.5) < 0.12
    for score in result.scores:
        assert score.fitted == len({one for one, own in zip(ids, fit_half(ids, score.split_seed), strict=True) if own})
        assert score.fitted + score.scored == 150


def test_folds_hold_each_user_once_whatever_labels_they_have() -> None:
    rng = np.random.default_rng(5)
    users = np.array([f"u{number}" for number in rng.integers(0, 60, 300)])
    labels = rng.integers(0, 2, 300)  # most users have both
    folds = [*_folds(labels, users)]
    for inner, outer in folds:
        assert not {*users[inner]} & {*users[outer]}
        assert (inner ^ outer).all()
    assert sum(outer.astype(int) for _, outer in folds).tolist() == [1] * 300
    alone = np.array([f"u{number}" for number in range(300)])
    literal = StratifiedKFold(3, shuffle=True, random_state=0).split(labels, labels)
    for (_, outer), (_, rows) in zip(_folds(labels, alone), literal, strict=True):
        assert np.flatnonzero(outer).tolist() == rows.tolist(), "a label per user: the folds of former versions"
    with pytest.raises(ProbeError, match="too few users have one label alone"):
        [*_folds(np.array([0, 0, 0, 1, 1, 1]), np.array(["a", "b", "c", "d", "d", "d"]))]


def test_the_halves_count_users_not_rows() -> None:
    ids, labels = ["u1", "u2"] * 100, [0, 1] * 100
    with pytest.raises(ProbeError, match=r"has [01] users labelled 1 and [01] labelled 0"):
        probe(np.zeros((200, 2)), labels, ids)
