"""The plot of AUC by the number of labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jobs.config.deployment import UNIVERSAL
from jobs.evaluation import plots
from jobs.evaluation.few_labels import ALL, NONE, SHOTS
from jobs.evaluation.instruction_worth import ANOTHERS, HAND_MADE, MANUAL, PAST, RULE, SIMILARITY, InstructionWorth

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINES = (
    ("prototypes", MANUAL, "C0", "-"),
    ("regression", MANUAL, "C0", "--"),
    ("prototypes", UNIVERSAL, "C1", "-"),
    ("regression", UNIVERSAL, "C1", "--"),
    ("prototypes", ANOTHERS, "C3", "-"),
    (HAND_MADE, "regression", "0.25", "--"),
    (HAND_MADE, "LightGBM", "0.25", "-."),
    (HAND_MADE, RULE, "0.6", ":"),
)
"""The part, method, colour and style of each line."""
POINTS = ((SIMILARITY, MANUAL, "C0", "o"), (SIMILARITY, ANOTHERS, "C3", "o"), (HAND_MADE, PAST, "0.25", "s"))
"""Rows without labels: the part, method, colour and marker."""


def plot_label_curve(worth: InstructionWorth, fitted: int, path: Path) -> Path:
    """Draw the means over scenarios as PNG; `all` labels stand at the number of fitted users."""
    figure, [axes] = plots.axes(1, f"AUC by the number of labels, mean over {len(worth.scenarios)} scenarios")
    places = _places(fitted)
    for part, method, colour, style in LINES:
        cells = worth.means.get(part, {}).get(method, {})
        at = [labels for labels in places if labels in cells]
        if at:
            axes.plot([places[labels] for labels in at], [cells[labels] for labels in at], style, color=colour,
                      marker=".", label=f"{method}, {part}")  # fmt: skip
    for part, method, colour, marker in POINTS:
        cells = worth.means.get(part, {}).get(method, {})
        if NONE in cells:
            axes.plot([places[NONE]], [cells[NONE]], marker, color=colour, label=f"{method}, {part}")
    _label(axes, places)
    plots.save(figure, path)
    return path


def _places(fitted: int) -> dict[str, float]:
    """Return where each number of labels stands: on a logarithmic axis, and 0 one step of four left of the first."""
    places = {NONE: float(np.log(SHOTS[0] / 4))} | {str(shots): float(np.log(shots)) for shots in SHOTS}
    return places | {ALL: float(np.log(max(fitted, SHOTS[-1] + 1)))}


def _label(axes: Axes, places: dict[str, float]) -> None:
    axes.set_xticks([*places.values()], [*places])
    axes.axhline(0.5, color="0.85", linewidth=0.8)
    axes.set(xlabel="labelled users", ylabel="AUC")
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
