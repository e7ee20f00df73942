"""Means and spreads of scores, as the rows of a table: methods down, scenarios across.

A seed's value is the mean over the splits. A row shows the mean over seeds, with the standard deviation over seeds or
over seeds and splits.

Shapes: N seeds, S splits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.evaluation.results import Table
from jobs.evaluation.scores import Measure, Score, split_values

TITLES: Mapping[Measure, str] = {"auc": "AUC", "ks": "KS", "prototypes": "AUC by class prototypes"}
PROTOTYPES = "by class prototypes: nothing is fitted but each class's mean vector in the fit half (eq. 6's classifier)"
DIFFERENCES = "differences, seed by seed"
"""The part of a table that holds differences of two methods."""
ALL = "all"
"""The key of the mean over scenarios."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A mean and its standard deviation; None where there is one value."""

    mean: float
    spread: float | None

    def __str__(self) -> str:
        return f"{self.mean:.3f}" + ("" if self.spread is None else f" ± {self.spread:.3f}")

    @classmethod
    def over_seeds(cls, values_N: Sequence[float]) -> Figure:
        """Return the mean over seeds and the standard deviation of a sample."""
        spread = float(np.std(values_N, ddof=1)) if len(values_N) > 1 else None
        return cls(mean=float(np.mean(values_N)), spread=spread)

    @classmethod
    def over_splits(cls, values_NS: Sequence[NDArray[np.float64]]) -> Figure:
        """Return the mean and the standard deviation over seeds and splits."""
        return cls(mean=float(np.stack(values_NS).mean()), spread=float(np.stack(values_NS).std()))


@dataclass(frozen=True, kw_only=True)
class Line:
    """A row of a table: its figures by scenario, `ALL` for the mean over them; each `part` is a table of its own."""

    part: str
    name: str
    auc: dict[str, Figure]
    ks: dict[str, Figure]
    prototypes: dict[str, Figure]


def line(name: str, seeds_N: Sequence[Sequence[Score]], method: str, *, part: str = "") -> Line:
    """Return a method's row over the scores of each seed, with the spread over seeds."""

    def figures(measure: Measure) -> dict[str, Figure]:
        return _over_seeds([_means(scores, method, measure) for scores in seeds_N])

    return _line(part, name, figures)


def line_over_splits(name: str, seeds_N: Sequence[Sequence[Score]], method: str) -> Line:
    """Return a method's row over the scores of each seed, with the spread over seeds and splits."""

    def figures(measure: Measure) -> dict[str, Figure]:
        values_N = [_splits(scores, method, measure) for scores in seeds_N]
        return {name: Figure.over_splits([values[name] for values in values_N]) for name in values_N[0]}

    return _line("", name, figures)


def difference(
    name: str,
    more: tuple[Sequence[Sequence[Score]], str],
    less: tuple[Sequence[Sequence[Score]], str],
    *,
    part: str = "",
) -> Line:
    """Return one method's values less another's, seed by seed: an effect that all methods of a seed share cancels."""

    def figures(measure: Measure) -> dict[str, Figure]:
        (more_N, more_method), (less_N, less_method) = more, less
        pairs = [
            (_means(high, more_method, measure), _means(low, less_method, measure))
            for high, low in zip(more_N, less_N, strict=True)
        ]
        return _over_seeds([{key: high[key] - low[key] for key in high.keys() & low.keys()} for high, low in pairs])

    return _line(part, name, figures)


def tables(
    lines: Sequence[Line], scenarios: Sequence[str], first: str, measures: Sequence[Measure] = ("auc", "ks")
) -> tuple[Table, ...]:
    """Return a table for each part and measure: lines down, scenarios and their mean across."""
    result = []
    names = [name for name in scenarios if any(name in line.auc for line in lines)]
    for part in dict.fromkeys(line.part for line in lines):
        for measure in measures:
            rows = [
                (line.name, *(str(getattr(line, measure).get(name, "")) for name in (*names, ALL)))
                for line in lines
                if line.part == part
            ]
            title = ", ".join(words for words in (TITLES[measure], part) if words)
            result.append(Table(title=title, columns=(first, *names, "mean"), rows=tuple(rows)))
    return tuple(result)


def _line(part: str, name: str, figures: Callable[[Measure], dict[str, Figure]]) -> Line:
    return Line(part=part, name=name, **{measure: figures(measure) for measure in TITLES})


def _splits(scores: Sequence[Score], method: str, measure: Measure) -> dict[str, NDArray[np.float64]]:
    """Return each scenario's values `[S]`, and their mean over scenarios."""
    values = {
        scenario: methods[method] for scenario, methods in split_values(scores, measure).items() if method in methods
    }
    return values | ({ALL: np.mean([*values.values()], axis=0)} if values else {})


def _means(scores: Sequence[Score], method: str, measure: Measure) -> dict[str, float]:
    """Return each scenario's mean over splits, and the mean of those."""
    values = split_values(scores, measure)
    means = {scenario: float(methods[method].mean()) for scenario, methods in values.items() if method in methods}
    return means | ({ALL: float(np.mean([*means.values()]))} if means else {})


def _over_seeds(means_N: Sequence[Mapping[str, float]]) -> dict[str, Figure]:
    return {name: Figure.over_seeds([means[name] for means in means_N]) for name in means_N[0]}
