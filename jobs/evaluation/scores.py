"""Fit probes on frozen vectors or features, one score for each scenario, method and split of the users.

Shapes: U users, D features, S splits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray

from jobs.training.labels import LabelledUsers
from model.progress import Progress, no_progress
from model.training.probe import MAX_ITERATIONS, SPLIT_SEEDS, ProbeError, nearest_class, probe, probe_baseline

Score = Mapping[str, Any]
"""`scenario`, `method` and either `why` there is no score, or `split_seed`, the fields of the probe's score and, for
vectors, `prototypes`."""
Measure = Literal["auc", "ks", "prototypes"]
CLASSIFIERS = {"regression": probe, "LightGBM": probe_baseline}


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A probe to fit.

    Attributes
    ----------
    features
        `[U, D]` of the group's users.
    split_seeds
        One split of the users into a fit half and a score half for each.
    classifier
        A key of `CLASSIFIERS`; LightGBM takes NaN for a missing feature.
    prototypes
        Whether to score the nearer class prototype too.
    """

    group: LabelledUsers
    method: str
    features: NDArray[np.floating[Any]]
    split_seeds: Sequence[str] = SPLIT_SEEDS
    classifier: str = "regression"
    prototypes: bool = False


def score(probes: Sequence[Probe], progress: Progress = no_progress) -> list[dict[str, Any]]:
    """Fit the probes in parallel and return their scores in order.

    A probe that cannot be fitted has one score with the reason as `why`; the other probes keep theirs.
    """
    fitted = Parallel(n_jobs=-1, return_as="generator", max_nbytes="1M")(delayed(_score)(one) for one in probes)
    progress(0, len(probes))
    scores: list[dict[str, Any]] = []
    for done, some in enumerate(fitted, start=1):
        scores += some
        progress(done, len(probes))
    return scores


def not_probed(scores: Iterable[Score]) -> dict[str, str]:
    """Return the scenarios without scores and the reason for each."""
    reasons: dict[str, str] = {}
    for one in scores:
        if "why" in one:
            reasons.setdefault(one["scenario"], one["why"])
    return reasons


def unconverged(scores: Iterable[Score]) -> str | None:
    """Return a note on the logistic regressions that reached the iteration limit, by scenario and method; or None."""
    fits: dict[tuple[str, str], list[int]] = {}
    for one in scores:
        if "fits" in one:
            slow, total = fits.setdefault((one["scenario"], one["method"]), [0, 0])
            fits[one["scenario"], one["method"]] = [slow + one["unconverged"], total + one["fits"]]
    parts = [
        f"{scenario}, {method}: {slow:,} of {total:,}" for (scenario, method), (slow, total) in fits.items() if slow
    ]
    limit = f"logistic regressions that reached the limit of {MAX_ITERATIONS:,} iterations"
    return f"{limit}: {'; '.join(parts)}" if parts else None


def comparable(scores_N: Sequence[Sequence[Score]]) -> list[list[Score]]:
    """Drop the scores of each scenario for which some method has none: means over other scenarios do not compare."""
    failed = not_probed(one for scores in scores_N for one in scores)
    return [[one for one in scores if "why" in one or one["scenario"] not in failed] for scores in scores_N]


def split_values(scores: Iterable[Score], measure: Measure) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Return a measure by scenario and method: an array `[S]` of each split's value."""
    values: dict[str, dict[str, list[float]]] = {}
    for one in scores:
        if measure in one:
            values.setdefault(one["scenario"], {}).setdefault(one["method"], []).append(one[measure])
    return {
        scenario: {method: np.array(values_S) for method, values_S in methods.items()}
        for scenario, methods in values.items()
    }


def _score(one: Probe) -> list[dict[str, Any]]:
    head = {"scenario": one.group.scenario, "method": one.method}
    users = one.features, one.group.label_U, one.group.user_ids
    try:
        fitted = CLASSIFIERS[one.classifier](*users, split_seeds=one.split_seeds)
        nearest = nearest_class(*users, split_seeds=one.split_seeds) if one.prototypes else None
    except ProbeError as error:
        return [head | {"why": str(error)}]
    scores: list[dict[str, Any]] = [
        head
        | {
            "split_seed": split.split_seed,
            "fitted": split.fitted,
            "scored": split.scored,
            "strength": split.strength,
            "auc": split.auc,
            "ks": split.ks,
            "fits": split.fits,
            "unconverged": split.unconverged,
        }
        for split in fitted.scores
    ]
    if nearest is not None:
        scores = [row | {"prototypes": near.auc} for row, near in zip(scores, nearest.scores, strict=True)]
    return scores
