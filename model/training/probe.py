"""How much frozen embeddings know: logistic regression fitted on half the users, scored on the other half.

numpy and scikit-learn only. A rival, LightGBM on features of its own, is scored on the same halves.

Shapes: U users, D features.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler

from model.errors import InstructUEError

SPLITS = 5
STRENGTHS = tuple(float(c) for c in np.logspace(-4, 1, 6))
FOLDS = 3


def split_seeds(halves: int) -> tuple[str, ...]:
    """The salts of so many pairs of halves; the first are the same for any number."""
    return tuple(f"probe-{number}" for number in range(1, halves + 1))


SPLIT_SEEDS = split_seeds(SPLITS)


class ProbeError(InstructUEError):
    """Labels or features that a probe cannot be fitted on."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """One salt's halves: users fitted and scored on, the strength chosen (None: not a regression), AUC and
    KS.
    """

    salt: str
    fitted: int
    scored: int
    strength: float | None
    auc: float
    ks: float


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """The scores of all salts, their mean and standard deviation."""

    scores: tuple[Score, ...]

    @property
    def aucs(self) -> NDArray[np.float64]:
        """`[S]`, the AUC of each salt."""
        return np.array([score.auc for score in self.scores])

    @property
    def auc(self) -> float:
        """Mean AUC."""
        return float(self.aucs.mean())

    @property
    def auc_std(self) -> float:
        """Standard deviation of the AUC over the salts."""
        return float(self.aucs.std())

    @property
    def ks(self) -> float:
        """Mean KS."""
        return float(np.mean([score.ks for score in self.scores]))

    @property
    def ks_std(self) -> float:
        """Standard deviation of the KS over the salts."""
        return float(np.std([score.ks for score in self.scores]))


def probe(
    features: ArrayLike, labels: ArrayLike, user_ids: Sequence[str], *, salts: Sequence[str] = SPLIT_SEEDS
) -> ProbeResult:
    """Fit and score logistic regressions, their strength C chosen by cross-validation within the fit half.

    Parameters
    ----------
    features
        `[U, D]`, such as embeddings; standardised by the fit half.
    labels
        `[U]` of 0 and 1.
    user_ids
        `[U]`; they alone decide the halves.
    salts
        One pair of halves each.

    Raises
    ------
    ProbeError
        When sizes differ, a feature is no finite number, a label is neither 0 nor 1, or a half has one class.
    """
    return _score(_finite(features), labels, user_ids, salts, _fit_regression)


def probe_baseline(
    features: ArrayLike, labels: ArrayLike, user_ids: Sequence[str], *, salts: Sequence[str] = SPLIT_SEEDS
) -> ProbeResult:
    """Fit and score LightGBM on the same halves; a NaN among the `[U, D]` features is a missing value.

    Raises
    ------
    ProbeError
        When sizes differ, a label is neither 0 nor 1, or a half has one class.
    """
    return _score(np.asarray(features, dtype=np.float64), labels, user_ids, salts, _fit_trees)


def nearest_class(
    features: ArrayLike, labels: ArrayLike, user_ids: Sequence[str], *, salts: Sequence[str] = SPLIT_SEEDS
) -> ProbeResult:
    """Score users by how much nearer their `[U, D]` vector is to class 1's prototype than to class 0's (eq. 6).

    A class's prototype is the normalised mean of its vectors in the fit half: nothing is fitted, so what is seen is
    the space itself, which a regression on many labels may bend as it likes.

    Raises
    ------
    ProbeError
        When sizes differ, a feature is no finite number, a label is neither 0 nor 1, or a half has one class.
    """
    return _score(_finite(features), labels, user_ids, salts, _fit_prototypes)


def fit_half(user_ids: Sequence[str], salt: str) -> NDArray[np.bool_]:
    """Return `[U]`, True for the users to fit on: those where `sha2(concat(salt, user_id), 256) < '8'` in
    SQL.
    """
    return np.array([hashlib.sha256(f"{salt}{user}".encode()).digest()[0] < 128 for user in user_ids], dtype=bool)


def kolmogorov_smirnov(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return KS, the largest distance between true and false positive rate over all thresholds."""
    false_rate, true_rate, _ = roc_curve(labels, scores, drop_intermediate=False)
    return float(np.abs(true_rate - false_rate).max())


Predict = Callable[[NDArray[np.float64]], NDArray[np.float64]]
Fit = Callable[[NDArray[np.float64], NDArray[np.int64]], tuple[Predict, float | None]]


def _finite(features: ArrayLike) -> NDArray[np.float64]:
    features_UD = np.asarray(features, dtype=np.float64)
    if not np.isfinite(features_UD).all():
        row = int(np.flatnonzero(~np.isfinite(features_UD).all(axis=1))[0])
        raise ProbeError(f"row {row} of the features has a NaN or infinite value: leave users without an embedding out")
    return features_UD


def _score(
    features_UD: NDArray[np.float64], labels: ArrayLike, user_ids: Sequence[str], salts: Sequence[str], fit: Fit
) -> ProbeResult:
    labels_U = np.asarray(labels)
    if features_UD.ndim != 2 or not len(features_UD) == len(labels_U) == len(user_ids):
        raise ProbeError(
            f"features of shape {features_UD.shape}, {len(labels_U)} labels and {len(user_ids)} users do not "
            "belong together: pass one row, one label and one id for each user"
        )
    if not np.isin(labels_U, (0, 1)).all():
        raise ProbeError(f"labels are {sorted(set(labels_U.tolist()), key=str)[:5]}: a probe takes 0 and 1")
    labels_U = labels_U.astype(np.int64)
    scores = []
    for salt in salts:
        fit_U = fit_half(user_ids, salt)
        for half, name in ((fit_U, "fit"), (~fit_U, "score")):
            counts = np.bincount(labels_U[half], minlength=2)
            if counts.min() < FOLDS:
                raise ProbeError(
                    f"the {name} half of salt {salt!r} has {counts[1]} users labelled 1 and {counts[0]} "
                    f"labelled 0: a probe takes at least {FOLDS} of each; label more users"
                )
        predict, strength = fit(features_UD[fit_U], labels_U[fit_U])
        predicted = predict(features_UD[~fit_U])
        scores.append(
            Score(
                salt=salt,
                fitted=int(fit_U.sum()),
                scored=int((~fit_U).sum()),
                strength=strength,
                auc=float(roc_auc_score(labels_U[~fit_U], predicted)),
                ks=kolmogorov_smirnov(labels_U[~fit_U], predicted),
            )
        )
    return ProbeResult(scores=tuple(scores))


def _fit_regression(features: NDArray[np.float64], labels: NDArray[np.int64]) -> tuple[Predict, float]:
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    aucs = np.zeros(len(STRENGTHS))
    for inner, outer in folds.split(features, labels):
        for number, predict in enumerate(_regressions(features[inner], labels[inner], STRENGTHS)):
            aucs[number] += roc_auc_score(labels[outer], predict(features[outer]))
    # The first of equals: the grid rises from strong regularisation to weak.
    strength = STRENGTHS[int(np.argmax(aucs))]
    return _regressions(features, labels, [strength])[0], strength


def _regressions(features: NDArray[np.float64], labels: NDArray[np.int64], strengths: Sequence[float]) -> list[Predict]:
    scaler = StandardScaler().fit(features)
    standard = scaler.transform(features)
    regression = LogisticRegression(max_iter=300, warm_start=True)
    fitted: list[Predict] = []
    for strength in strengths:
        regression.set_params(C=strength).fit(standard, labels)
        weights, bias = regression.coef_[0].copy(), float(regression.intercept_[0])
        fitted.append(lambda x, w=weights, b=bias: scaler.transform(x) @ w + b)  # type: ignore[misc]
    return fitted


def _fit_prototypes(features: NDArray[np.float64], labels: NDArray[np.int64]) -> tuple[Predict, None]:
    means = [features[labels == label].mean(axis=0) for label in (0, 1)]
    apart = means[1] / np.linalg.norm(means[1]) - means[0] / np.linalg.norm(means[0])
    return lambda x: x @ apart, None


def _fit_trees(features: NDArray[np.float64], labels: NDArray[np.int64]) -> tuple[Predict, None]:
    from lightgbm import LGBMClassifier  # takes a second to import, and only a comparison needs it

    # One thread: as fast at this size, and the same trees on any machine.
    trees = LGBMClassifier(
        n_estimators=200,
        learning_rate=0.03,
        num_leaves=15,
        subsample=0.8,
        subsample_freq=1,
        random_state=0,
        n_jobs=1,
        deterministic=True,
        force_col_wise=True,
        verbose=-1,
    ).fit(features, labels)

    def predict(x: NDArray[np.float64]) -> NDArray[np.float64]:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="X does not have valid feature names")
            return np.asarray(trees.predict_proba(x))[:, 1]

    return predict, None
