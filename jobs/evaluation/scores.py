"""Scores of frozen vectors over scenarios, salted halves and seeds, and their means and spreads.

AUC and KS are of a linear probe; `prototypes` is the AUC of the nearer of two class prototypes, nothing fitted.

A seed's figure is the mean over the probe's salts; what is shown is the mean over seeds and their standard deviation.

Shapes: U users, D features, N seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray

from jobs.evaluation.results import Table
from jobs.training.labels import LabelledUsers
from model.training.probe import SPLIT_SEEDS, ProbeError, nearest_class, probe

Score = Mapping[str, Any]
"""`scenario`, `method`, and `salt`, `auc`, `ks`, `prototypes`, or `why` there are none: what a cell keeps."""
Measure = Literal["auc", "ks", "prototypes"]
TITLES: Mapping[Measure, str] = {"auc": "AUC", "ks": "KS", "prototypes": "AUC by class prototypes"}
PROTOTYPES = "by class prototypes: nothing is fitted but each class's mean vector in the fit half (eq. 6's classifier)"
DIFFERENCES = "differences, seed by seed"
"""The part of lines that hold one method against another."""
ALL = "all"
"""In place of a scenario: the mean over scenarios."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A probe to be fitted: `features` are [U, D] of the group's users."""

    group: LabelledUsers
    method: str
    features: NDArray[np.floating[Any]]
    salts: Sequence[str] = SPLIT_SEEDS


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A mean over seeds, and their standard deviation (sample's); None with one seed."""

    mean: float
    spread: float | None

    def __str__(self) -> str:
        return f"{self.mean:.3f}" + ("" if self.spread is None else f" ±{self.spread:.3f}")

    @classmethod
    def of(cls, values_N: Sequence[float]) -> Figure:
        """The figure of so many seeds."""
        spread = float(np.std(values_N, ddof=1)) if len(values_N) > 1 else None
        return cls(mean=float(np.mean(values_N)), spread=spread)


@dataclass(frozen=True, kw_only=True)
class Line:
    """A row of a table: its figures by scenario, `ALL` for the mean over them; a part is a table of its own."""

    part: str
    name: str
    auc: dict[str, Figure]
    ks: dict[str, Figure]
    prototypes: dict[str, Figure]


def score(probes: Sequence[Probe]) -> list[dict[str, Any]]:
    """Fit these probes, each on a core of its own.

    A scenario with too few labels has one score without figures, which says why: it must not cost the others theirs.
    """
    fitted = Parallel(n_jobs=-1, max_nbytes="1M")(delayed(_scored)(one) for one in probes)
    return [found for scores in fitted for found in scores]


def _scored(one: Probe) -> list[dict[str, Any]]:
    head = {"scenario": one.group.scenario, "method": one.method}
    users = one.features, one.group.label_U, one.group.user_ids
    try:
        fitted, nearest = probe(*users, split_seeds=one.salts), nearest_class(*users, split_seeds=one.salts)
    except ProbeError as error:
        return [head | {"why": str(error)}]
    return [
        head | {"salt": half.split_seed, "auc": half.auc, "ks": half.ks, "prototypes": near.auc}
        for half, near in zip(fitted.scores, nearest.scores, strict=True)
    ]


def line(name: str, seeds_N: Sequence[Sequence[Score]], method: str, *, part: str = "") -> Line:
    """A method's figures over the scores of each seed."""
    return _line(part, name, lambda measure: [_means(scores, method, measure) for scores in seeds_N])


def difference(
    name: str,
    more: tuple[Sequence[Sequence[Score]], str],
    less: tuple[Sequence[Sequence[Score]], str],
    *,
    part: str = "",
) -> Line:
    """How much more one method's figures are than another's, seed by seed: what all methods share falls out."""

    def differences(measure: Measure) -> list[dict[str, float]]:
        (more_N, more_method), (less_N, less_method) = more, less
        pairs = [
            (_means(high, more_method, measure), _means(low, less_method, measure))
            for high, low in zip(more_N, less_N, strict=True)
        ]
        return [{key: high[key] - low[key] for key in high.keys() & low.keys()} for high, low in pairs]

    return _line(part, name, differences)


def not_probed(scores: Iterable[Score]) -> dict[str, str]:
    """Why, by scenario; it has no figures then."""
    return {found["scenario"]: found["why"] for found in scores if "why" in found}


def comparable(scores_N: Sequence[Sequence[Score]]) -> list[list[Score]]:
    """The scores without figures of a scenario that some method lacks: means over other scenarios do not compare."""
    failed = not_probed(found for scores in scores_N for found in scores)
    return [[found for found in scores if "why" in found or found["scenario"] not in failed] for scores in scores_N]


def tables(
    lines: Sequence[Line], scenarios: Sequence[str], first: str, measures: Sequence[Measure] = ("auc", "ks")
) -> tuple[Table, ...]:
    """For each part and measure: lines down, scenarios across, and their mean."""
    made = []
    names = [name for name in scenarios if any(name in line.auc for line in lines)]
    for part in dict.fromkeys(line.part for line in lines):
        for measure in measures:
            rows = [
                (line.name, *(str(getattr(line, measure).get(name, "")) for name in (*names, ALL)))
                for line in lines
                if line.part == part
            ]
            title = ", ".join(words for words in (TITLES[measure], part) if words)
            made.append(Table(title=title, columns=(first, *names, "mean"), rows=tuple(rows)))
    return tuple(made)


def _line(part: str, name: str, means_N: Callable[[Measure], Sequence[Mapping[str, float]]]) -> Line:
    return Line(part=part, name=name, **{measure: _figures(means_N(measure)) for measure in TITLES})


def _means(scores: Sequence[Score], method: str, measure: Measure) -> dict[str, float]:
    """Each scenario's mean over salts, and the mean of those."""
    values: dict[str, list[float]] = {}
    for found in scores:
        if found["method"] == method and measure in found:
            values.setdefault(found["scenario"], []).append(found[measure])
    means = {scenario: float(np.mean(some)) for scenario, some in values.items()}
    return means | ({ALL: float(np.mean([*means.values()]))} if means else {})


def _figures(means_N: Sequence[Mapping[str, float]]) -> dict[str, Figure]:
    return {name: Figure.of([means[name] for means in means_N]) for name in means_N[0]}
