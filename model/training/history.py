"""What a training measures, and the files that tell it as it goes: metrics.jsonl and curve.png."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf, isfinite
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from model.atomic_write import atomic_write
from model.training.losses import Losses
from model.training.tracking import Tracking

LINES_FILE, PLOT_FILE = "metrics.jsonl", "curve.png"
EVERY = 10
"""Steps between two lines of metrics.jsonl; each validation writes one too."""
LOSSES = ("loss", "language", "contrastive")
Line = dict[str, float]


@dataclass
class History:
    """What a run has measured so far; `curve` has every step's training loss."""

    curve: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in LOSSES})
    validation: list[Line] = field(default_factory=list)

    @property
    def step(self) -> int:
        """How many steps are done."""
        return len(self.curve["loss"])

    @property
    def best(self) -> Line:
        """The validation of the lowest loss, the first of equal ones."""
        return min(self.validation, key=lambda scored: scored["loss"] if isfinite(scored["loss"]) else inf)

    @property
    def waited(self) -> int:
        """How many validations have passed since the best one; 0: it is the last."""
        return len(self.validation) - 1 - self.validation.index(self.best)

    def note(self, losses: Losses) -> None:
        """Add a step."""
        for name, value in values(losses).items():
            self.curve[name].append(value)

    def lines(self, after: int = 0) -> Iterator[Line]:
        """What there is to tell beyond a step: mean training losses since the line before, and validations."""
        scored = {int(part["step"]): part for part in self.validation}
        for before, step in pairwise([0, *sorted({*range(EVERY, self.step + 1, EVERY), *scored})]):
            if step > after:
                trained = {name: float(np.mean(of[before:step])) for name, of in self.curve.items()}
                held_out = {f"validation_{name}": value for name, value in scored.get(step, {}).items()}
                held_out.pop("validation_step", None)
                yield {"step": step} | trained | held_out


def values(losses: Losses) -> Line:
    """Return the losses as numbers."""
    return {"loss": losses.total.item(), "language": losses.language.item(), "contrastive": losses.contrastive.item()}


class Journal:
    """Tells what a run measures as it goes: each line once, also where a killed run goes on.

    Parameters
    ----------
    out
        The checkpoint's folder, for metrics.jsonl and curve.png.
    history
        What the run knows at its start; what the files say beyond it is dropped, and comes again.
    tracking
        Is told the same lines.
    """

    def __init__(self, out: Path, history: History, tracking: Tracking) -> None:
        self._out, self._tracking, self._told = out, tracking, 0
        out.mkdir(parents=True, exist_ok=True)
        for file in (LINES_FILE, PLOT_FILE):
            (out / file).unlink(missing_ok=True)
        self.tell(history)

    def tell(self, history: History) -> None:
        """Write the lines that are new, and the plot where a validation is among them."""
        lines = list(history.lines(self._told))
        if lines:
            self._told = int(lines[-1]["step"])
            with (self._out / LINES_FILE).open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(line) + "\n" for line in lines)
            if any(part["step"] == self._told for part in history.validation):
                plot(history, self._out / PLOT_FILE)
            self._tracking.tell(lines)


def plot(history: History, path: Path) -> None:
    """Draw the losses of training and validation over the steps."""
    figure = Figure(figsize=(12, 3.5), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(LOSSES)), LOSSES, strict=True):
        axes.plot(range(1, history.step + 1), history.curve[name], linewidth=0.8, label="training")
        scored = [part for part in history.validation if name in part]
        if scored:
            axes.plot([part["step"] for part in scored], [part[name] for part in scored], "o-", label="validation")
        axes.set(title=name, xlabel="step")
        axes.legend()
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=100)
