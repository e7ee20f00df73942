"""The page of `evaluate` on a release."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import mean
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from jobs.console.tables import table
from jobs.console.text import count, three_digits

if TYPE_CHECKING:
    from jobs.evaluation.evaluate import EvaluationResult

SHORT = {
    "universal and manual": "both",
    "hand-made features, regression": "regression",
    "hand-made features, LightGBM": "LightGBM",
}
"""Titles of columns that fit into 80 characters."""
OF_A_SCENARIO = (
    ("similarity to it", "manual"),
    ("prototypes", "manual"),
    ("prototypes", "universal"),
    ("prototypes", "another's"),
    ("regression", "manual"),
)
"""The rows that the page shows of each scenario, beside its best baseline."""
LOWEST = 3
"""The questions with the lowest AUC that the page names."""


def evaluation_page(result: EvaluationResult) -> RenderableType:
    """Return AUC and KS with all labels, AUC by the number of labels, and what is known about the instructions."""
    parts = [_scores(result)]
    if result.difference:
        parts.append(_differences(result))
    parts += [_by_labels(result), _paired(result), _by_scenario(result)]
    if result.worth.nearest:
        parts.append(_nearest(result))
    return Group(*parts, *(Text(line) for line in _notes(result)))


def _scores(result: EvaluationResult) -> RenderableType:
    methods = list(dict.fromkeys(method for scores in result.auc.values() for method in scores))
    rows = [
        (
            scenario,
            *(
                f"{three_digits(scores[method])} {three_digits(result.ks[scenario][method])}"
                if method in scores
                else ""
                for method in methods
            ),
        )
        for scenario, scores in result.auc.items()
    ]
    means = ("mean", *(three_digits(mean(scores[method] for scores in result.auc.values())) for method in methods))
    title = f"Probe of release {result.release}: AUC and KS, means over {count(result.splits, 'split')}"
    return table(title, ("scenario", *(SHORT.get(method, method) for method in methods)), [*rows, means])


def _differences(result: EvaluationResult) -> RenderableType:
    vectors = next(iter(result.difference.values()))
    rows = [
        (
            scenario,
            SHORT.get(result.best_baseline[scenario], ""),
            *(f"{over[vector]:+z.3f}" + _deviation(result, scenario, vector) for vector in vectors),
        )
        for scenario, over in result.difference.items()
    ]
    title = "AUC of the vectors less AUC of the best baseline, on the same splits"
    columns = ("scenario", "best baseline", *(SHORT.get(vector, vector) for vector in vectors))
    return table(title, columns, rows)


def _deviation(result: EvaluationResult, scenario: str, vector: str) -> str:
    """Return the standard deviation over splits; empty where there is one split."""
    single = result.splits == 1 or scenario in result.tuned
    return "" if single else f" ± {result.difference_std[scenario][vector]:.3f}"


def _by_labels(result: EvaluationResult) -> RenderableType:
    """Return the mean over scenarios by the number of labels."""
    rows = []
    for part, methods in result.worth.means.items():
        for number, (method, cells) in enumerate(methods.items()):
            rows.append(("" if number else part, method, *_cells(cells)))
    title = f"AUC by the number of labelled users, mean over {count(len(result.worth.scenarios), 'scenario')}"
    return table(title, ("by", "of", *_labels()), rows)


def _paired(result: EvaluationResult) -> RenderableType:
    labels = _labels()[1:]
    rows = []
    for part, differences in result.worth.differences.items():
        shown = {name: cells for name, cells in differences.items() if {*cells} & {*labels}}
        for number, (name, cells) in enumerate(shown.items()):
            values = (str(cells[count]) if count in cells else "" for count in labels)
            rows.append(("" if number else part, name.removeprefix("manual "), *values))
    title = "AUC of manual vectors less that of others, on the same splits, with 95 % intervals"
    return table(title, ("by", "manual", *labels), rows)


def _by_scenario(result: EvaluationResult) -> RenderableType:
    rows: list[tuple[Any, ...]] = []
    for scenario, parts in result.worth.scenarios.items():
        first = scenario
        for part, method in OF_A_SCENARIO:
            if cells := parts.get(part, {}).get(method):
                rows.append((first, f"{method}, {part}", *_cells(cells)))
                first = ""
        best = {
            labels: max(cells[labels] for cells in parts["hand-made"].values() if labels in cells)
            for labels in _labels()
            if any(labels in cells for cells in parts.get("hand-made", {}).values())
        }
        if best:
            rows.append((first, "best baseline", *_cells(best)))
    return table("AUC of each scenario by the number of labelled users", ("scenario", "", *_labels()), rows)


def _nearest(result: EvaluationResult) -> RenderableType:
    rows = [(name, f"{known.cosine:.2f}", known.question) for name, known in result.worth.nearest.items()]
    return table("The question of the training that is nearest to an instruction", ("scenario", "cosine", ""), rows)


def _notes(result: EvaluationResult) -> Iterator[str]:
    yield from (f"{scenario} was not probed: {reason}" for scenario, reason in result.not_probed.items())
    yield "labelled users: " + ", ".join(f"{scenario} {users:,}" for scenario, users in result.users.items())
    yield from (f"{scenario}: {left_out}" for scenario, left_out in result.left_out.items() if str(left_out))
    yield from (
        f"{scenario} was tuned on {count(users, 'user')}: probed on the one split that scores none of them"
        for scenario, users in result.tuned.items()
    )
    if result.unconverged:
        yield result.unconverged
    yield from (f"{name}: {known.warning}" for name, known in result.worth.nearest.items() if known.warning)
    if result.worth.missing:
        yield result.worth.missing
    if differences := _without_labels(result):
        yield f"Without labels, the AUC of the similarity to the instruction: {differences}"
    if variance := result.worth.variance:
        yield (
            f"Variance of the scenarios' vectors: {variance.user:.1%} by user, {variance.instruction:.1%} by "
            f"instruction, {variance.both:.1%} by both together"
        )
    if result.questions:
        yield _questions(result)
    if result.next:
        yield f"Next: {result.next}"


def _without_labels(result: EvaluationResult) -> str:
    first, *_ = _labels()
    parts = (cells.items() for cells in result.worth.differences.values())
    return ", ".join(f"{name} {cells[first]}" for items in parts for name, cells in items if first in cells)


def _questions(result: EvaluationResult) -> str:
    aucs = {name: scores["auc"] for name, scores in result.questions.items()}
    lowest = sorted(aucs, key=aucs.__getitem__)[:LOWEST]
    named = ", ".join(f"{name} {three_digits(aucs[name])}" for name in lowest)
    return (
        "Answers to the questions of the training, on validation users: mean AUC "
        f"{three_digits(mean(aucs.values()))} over {count(len(aucs), 'question')}; lowest: {named}"
    )


def _labels() -> tuple[str, ...]:
    from jobs.config.sections import LABEL_COUNTS

    return LABEL_COUNTS


def _cells(cells: dict[str, float]) -> tuple[str, ...]:
    return tuple(three_digits(cells[labels]) if labels in cells else "" for labels in _labels())
