"""The files of an evaluation, beside the releases because a release never changes: JSON, Markdown and a plot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.config.sections import LABEL_COUNTS
from jobs.evaluation.label_curve import plot_label_curve
from jobs.evaluation.results import Result, Table
from jobs.evaluation.scores import Score
from jobs.training.release_gate import evaluation_file
from model.atomic_write import atomic_write_text

if TYPE_CHECKING:
    from jobs.evaluation.evaluate import EvaluationResult


def write_evaluation(releases: Path, result: EvaluationResult, scores: Sequence[Score]) -> None:
    """Write `<release>.json`, `.md` and `.png`; the first has every score, the second each scenario's table."""
    path = evaluation_file(releases, result.release)
    path.parent.mkdir(parents=True, exist_ok=True)
    fitted = max((int(one["fitted"]) for one in scores if "fitted" in one), default=0)
    plot = plot_label_curve(result.worth, fitted, path.with_suffix(".png"))
    pages = Result(
        name=result.release,
        title=f"Evaluation of release {result.release}",
        notes=(f"AUC by the number of labelled users, mean over {result.splits} splits", *missing(result)),
        tables=tuple(label_table(name, parts) for name, parts in _tables(result).items()),
        plots=(plot,),
    )
    atomic_write_text(path.with_suffix(".md"), pages.markdown())
    content = asdict(result) | {"scores": scores}
    atomic_write_text(path, json.dumps(content, indent=2, default=str) + "\n")


def label_table(title: str, parts: dict[str, dict[str, dict[str, float]]]) -> Table:
    """Return a row for each part and method, and a column for each number of labels."""
    rows = [
        (part, method, *(f"{cells[labels]:.3f}" if labels in cells else "" for labels in LABEL_COUNTS))
        for part, methods in parts.items()
        for method, cells in methods.items()
    ]
    return Table(title=title, columns=("by", "of", *LABEL_COUNTS), rows=tuple(rows))


def missing(result: EvaluationResult) -> tuple[str, ...]:
    """Return the note about rows that are missing, if there is one."""
    return (result.worth.missing,) if result.worth.missing else ()


def _tables(result: EvaluationResult) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    return {"mean over scenarios": result.worth.means, **result.worth.scenarios}
