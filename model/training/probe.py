"""The linear probe of frozen embeddings: a logistic regression fitted on half the users, scored on the other half.

A split divides the users into a fit half and a score half; its split seed and the user's id alone decide the half.
Baselines are scored on the same splits. This module needs numpy and scikit-learn only.

A user may have several rows, of labels at several times: they are always in one half and in one fold.

Shapes: U users (or their labels), D features, S splits.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler

from model.errors import InstructUEError
from model.training.few_labels import prototypes
from model.training.trees import LEAF, boosted_trees

SPLITS = 5
"""Splits of a probe by default."""
STRENGTHS = tuple(float(c) for c in np.logspace(-4, 1, 6))
"""Values of C, from strong to weak regularisation."""
FOLDS = 3
"""Folds of the cross-validation within the fit half."""
MAX_ITERATIONS = 3_000
"""Iteration limit of a logistic regression; most stop before 100."""


def split_seeds(splits: int) -> tuple[str, ...]:
    """Return the seeds of this many splits; more splits have the seeds of fewer, and others."""
    return tuple(f"probe-{number}" for number in range(1, splits + 1))


SPLIT_SEEDS = split_seeds(SPLITS)


class ProbeError(InstructUEError):
    """Labels or features by which no probe can be fitted."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """The result of one split.

    Attributes
    ----------
    fitted, scored
        Users of the fit half and of the score half.
    strength
        The C that was selected; None where no regression was fitted.
    auc, ks
        Area under the ROC curve and Kolmogorov-Smirnov statistic of the score half.
    fits, unconverged
        Logistic regressions that were fitted, and those that stopped at `MAX_ITERATIONS`.
    """

    split_seed: str
    fitted: int
    scored: int
    strength: float | None
    auc: float
    ks: float
    fits: int = 0
    unconverged: int = 0


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """The scores of all splits, their mean and standard deviation."""

    scores: tuple[Score, ...]

    @property
    def aucs(self) -> NDArray[np.float64]:
        """The AUC of each split, `[S]`."""
        return np.array([score.auc for score in self.scores])

    @property
    def auc(self) -> float:
        """Mean AUC."""
        return float(self.aucs.mean())

    @property
    def auc_std(self) -> float:
        """Standard deviation of the AUC over the splits."""
        return float(self.aucs.std())

    @property
    def ks(self) -> float:
        """Mean KS."""
        return float(np.mean([score.ks for score in self.scores]))

    @property
    def ks_std(self) -> float:
        """Standard deviation of the KS over the splits."""
        return float(np.std([score.ks for score in self.scores]))


def probe(
    features: ArrayLike, labels: ArrayLike, user_ids: Sequence[str], *, split_seeds: Sequence[str] = SPLIT_SEEDS
) -> ProbeResult:
    """Fit and score a logistic regression on each split; cross-validation within the fit half selects its C.

    Parameters
    ----------
    features
        `[U, D]`, such as embeddings; they are standardised by the fit half.
    labels
        `[U]` of 0 and 1.
    user_ids
        `[U]`; with the split seed they decide the halves.
    split_seeds
        The seeds of the splits.

    Raises
    ------
    ProbeError
        When sizes differ, a feature is no finite number, a label is neither 0 nor 1, or a half has one class.
    """
    return _score(_finite(features), labels, user_ids, split_seeds, _fit_regression)


def probe_baseline(
    features: ArrayLike, labels: ArrayLike, user_ids: Sequence[str], *, split_seeds: Sequence[str] = SPLIT_SEEDS
) -> ProbeResult:
    """Fit and score LightGBM on the same splits; a NaN among the `[U, D]` features is a missing value.

    Raises
    ------
    ProbeError
        When sizes differ, a label is neither 0 nor 1, or a half has one class.
    """
    return _score(np.asarray(features, dtype=np.float64), labels, user_ids, split_seeds, _fit_trees)


def nearest_class(
    features: ArrayLike, labels: ArrayLike, user_ids: Sequence[str], *, split_seeds: Sequence[str] = SPLIT_SEEDS
) -> ProbeResult:
    """Score users by how much nearer their `[U, D]` vector is to class 1's prototype than to class 0's (eq. 6).

    A class's prototype is the normalised mean of its vectors in the fit half. Nothing else is fitted, so the score
    shows the geometry of the vectors, which a regression on many labels can distort.

    Raises
    ------
    ProbeError
        When sizes differ, a feature is no finite number, a label is neither 0 nor 1, or a half has one class.
    """
    return _score(_finite(features), labels, user_ids, split_seeds, _fit_prototypes)


def fit_half(user_ids: Sequence[str], split_seed: str) -> NDArray[np.bool_]:
    """Return `[U]`, True for the users of the fit half: `sha2(concat(split_seed, user_id), 256) < '8'` in SQL."""
    digests = (hashlib.sha256(f"{split_seed}{user}".encode()).digest() for user in user_ids)
    return np.array([digest[0] < 128 for digest in digests], dtype=bool)


def kolmogorov_smirnov(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return KS, the largest distance between true and false positive rate over all thresholds."""
    false_rate, true_rate, _ = roc_curve(labels, scores, drop_intermediate=False)
    return float(np.abs(true_rate - false_rate).max())


Predict = Callable[[NDArray[np.float64]], NDArray[np.float64]]


class Classifier(NamedTuple):
    """A fitted classifier; `Score` explains its fields."""

    predict: Predict
    strength: float | None = None
    fits: int = 0
    unconverged: int = 0


Fit = Callable[[NDArray[np.float64], NDArray[np.int64], NDArray[np.str_]], Classifier]
"""Takes the features, the labels and the users of the fit half."""


def _finite(features: ArrayLike) -> NDArray[np.float64]:
    features_UD = np.asarray(features, dtype=np.float64)
    if not np.isfinite(features_UD).all():
        row = int(np.flatnonzero(~np.isfinite(features_UD).all(axis=1))[0])
        raise ProbeError(f"row {row} of the features has a NaN or infinite value: leave users without an embedding out")
    return features_UD


def _score(
    features_UD: NDArray[np.float64], labels: ArrayLike, user_ids: Sequence[str], split_seeds: Sequence[str], fit: Fit
) -> ProbeResult:
    labels_U, users_U = _checked_labels(features_UD, labels, user_ids), np.array(user_ids)
    scores = []
    for split_seed in split_seeds:
        fit_U = fit_half(user_ids, split_seed)
        _check_classes(labels_U, users_U, fit_U, split_seed)
        classifier = fit(features_UD[fit_U], labels_U[fit_U], users_U[fit_U])
        predicted = classifier.predict(features_UD[~fit_U])
        scores.append(
            Score(
                split_seed=split_seed,
                fitted=len(np.unique(users_U[fit_U])),
                scored=len(np.unique(users_U[~fit_U])),
                strength=classifier.strength,
                auc=float(roc_auc_score(labels_U[~fit_U], predicted)),
                ks=kolmogorov_smirnov(labels_U[~fit_U], predicted),
                fits=classifier.fits,
                unconverged=classifier.unconverged,
            )
        )
    return ProbeResult(scores=tuple(scores))


def _checked_labels(features_UD: NDArray[np.float64], labels: ArrayLike, user_ids: Sequence[str]) -> NDArray[np.int64]:
    labels_U = np.asarray(labels)
    if features_UD.ndim != 2 or not len(features_UD) == len(labels_U) == len(user_ids):
        raise ProbeError(
            f"features of shape {features_UD.shape}, {len(labels_U)} labels and {len(user_ids)} users do not "
            "belong together: pass one row, one label and one id for each user"
        )
    if not np.isin(labels_U, (0, 1)).all():
        raise ProbeError(f"labels are {sorted(set(labels_U.tolist()), key=str)[:5]}: a probe takes 0 and 1")
    return labels_U.astype(np.int64)


def _check_classes(
    labels_U: NDArray[np.int64], users_U: NDArray[np.str_], fit_U: NDArray[np.bool_], split_seed: str
) -> None:
    for half_U, name in ((fit_U, "fit"), (~fit_U, "score")):
        counts = [len(np.unique(users_U[half_U & (labels_U == label)])) for label in (0, 1)]
        if min(counts) < FOLDS:
            raise ProbeError(
                f"the {name} half of split {split_seed!r} has {counts[1]} users labelled 1 and {counts[0]} "
                f"labelled 0: a probe takes at least {FOLDS} of each; label more users"
            )


def _fit_regression(features: NDArray[np.float64], labels: NDArray[np.int64], users: NDArray[np.str_]) -> Classifier:
    aucs = np.zeros(len(STRENGTHS))
    unconverged = 0
    for inner, outer in _folds(labels, users):
        predictors, stopped = _regressions(features[inner], labels[inner], STRENGTHS)
        unconverged += stopped
        for number, predict in enumerate(predictors):
            aucs[number] += roc_auc_score(labels[outer], predict(features[outer]))
    # argmax takes the first of equal values, that of the strongest regularisation.
    strength = STRENGTHS[int(np.argmax(aucs))]
    [predict], stopped = _regressions(features, labels, [strength])
    return Classifier(predict, strength, fits=FOLDS * len(STRENGTHS) + 1, unconverged=unconverged + stopped)


def _folds(labels: NDArray[np.int64], users: NDArray[np.str_]) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Yield the rows of each fold's inner and outer part; all rows of a user are in one of them.

    Users are stratified by the labels that they have.
    """
    _, first, user = np.unique(users, return_index=True, return_inverse=True)
    order = np.argsort(first)  # the users in the order of their first rows
    has = [np.isin(np.arange(len(first)), user[labels == label]) for label in (0, 1)]
    labels_of_user = (has[0] + 2 * has[1])[order]
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")
        splits = [*folds.split(labels_of_user, labels_of_user)]
    for _, outer_users in splits:
        outer = np.isin(user, order[outer_users])
        if min(len(np.unique(labels[part])) for part in (outer, ~outer)) < 2:
            raise ProbeError("too few users have one label alone for a cross-validation by user: label more users")
        yield ~outer, outer


def _regressions(
    features: NDArray[np.float64], labels: NDArray[np.int64], strengths: Sequence[float]
) -> tuple[list[Predict], int]:
    """Return a regression for each strength, each begun with the weights of the one before, and how many stopped early.

    A weak regularisation converges slowly on nearly collinear features; one that stops at `MAX_ITERATIONS` is scored as
    it is, and counted.
    """
    scaler = StandardScaler().fit(features)
    standard = scaler.transform(features)
    regression = LogisticRegression(max_iter=MAX_ITERATIONS, warm_start=True)
    predictors: list[Predict] = []
    unconverged = 0
    for strength in strengths:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            regression.set_params(C=strength).fit(standard, labels)
        unconverged += int(regression.n_iter_[0] >= MAX_ITERATIONS)
        weights, bias = regression.coef_[0].copy(), float(regression.intercept_[0])
        predictors.append(lambda x, w=weights, b=bias: scaler.transform(x) @ w + b)  # type: ignore[misc]
    return predictors, unconverged


def _fit_prototypes(features: NDArray[np.float64], labels: NDArray[np.int64], users: NDArray[np.str_]) -> Classifier:
    return Classifier(lambda x: prototypes(features, x)(labels))


def _fit_trees(features: NDArray[np.float64], labels: NDArray[np.int64], users: NDArray[np.str_]) -> Classifier:
    return Classifier(lambda x: boosted_trees(features, x, leaf=LEAF)(labels))
