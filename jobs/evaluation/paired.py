"""Means over scenarios and differences of two methods on the same splits, with their intervals.

Shapes: S splits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from jobs.console.text import three_digits
from jobs.evaluation.scores import Score

CONFIDENCE = 0.95
Row = tuple[str, str]
"""The part of the tables and the method."""
Aucs = dict[Row, dict[str, dict[str, dict[str, float]]]]
"""By row, number of labels, scenario and split seed."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A mean difference and half the width of its interval; None with fewer than two splits."""

    mean: float
    half_width: float | None

    def __str__(self) -> str:
        around = "" if self.half_width is None else f"±{three_digits(self.half_width)}"
        return f"{'-' if self.mean < 0 else '+'}{three_digits(abs(self.mean))}{around}"


def aucs(scores: Iterable[Score]) -> Aucs:
    """Return the AUC of each score by row, number of labels, scenario and split."""
    values: Aucs = {}
    for one in scores:
        by_scenario = values.setdefault((one["part"], one["method"]), {}).setdefault(one["labels"], {})
        by_scenario.setdefault(one["scenario"], {})[one["split_seed"]] = one["auc"]
    return values


def mean_over_scenarios(values: Aucs, row: Row, labels: str, scenarios: Iterable[str]) -> float | None:
    """Return the mean over these scenarios of the mean over splits; None where one of them has no value."""
    by_scenario = values.get(row, {}).get(labels, {})
    if not all(scenario in by_scenario for scenario in scenarios):
        return None
    return float(np.mean([np.mean([*by_scenario[scenario].values()]) for scenario in scenarios]))


def difference(more: Mapping[str, Mapping[str, float]], less: Mapping[str, Mapping[str, float]]) -> Difference | None:
    """Return the mean over scenarios of one method's values less another's, by scenario and split; None without any.

    The interval is over the splits that all scenarios have.
    """
    scenarios = [scenario for scenario in more if scenario in less]
    if not scenarios:
        return None
    over = [{seed: more[name][seed] - less[name][seed] for seed in more[name]} for name in scenarios]
    shared = [seed for seed in over[0] if all(seed in one for one in over)]
    means_S = np.array([np.mean([one[seed] for one in over]) for seed in shared])
    mean = float(np.mean([np.mean([*one.values()]) for one in over]))
    return Difference(mean=mean, half_width=half_width(means_S))


def half_width(values_S: NDArray[np.float64]) -> float | None:
    """Return half the width of the interval of a mean over splits; None with fewer than two.

    Half of the users are scored, and the halves of two splits overlap. So the variance of the mean is that of one
    split times 1 / S + 1, the ratio of scored to fitted users (Nadeau and Bengio 2003), and not times 1 / S.
    """
    count = len(values_S)
    if count < 2:
        return None
    quantile = float(t.ppf((1 + CONFIDENCE) / 2, count - 1))
    return quantile * float(values_S.std(ddof=1)) * float(np.sqrt(1 / count + 1))
