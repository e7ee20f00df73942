"""The losses of a training, and the files that show them while it runs: metrics.jsonl and curve.png."""

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
STEPS_PER_LINE = 10
"""Steps between two lines of metrics.jsonl; each validation writes one too."""
Metrics = dict[str, float]
"""Losses by name; those of a validation and of a line have `step`, the number of steps before them."""


@dataclass
class History:
    """The losses of a training so far.

    Attributes
    ----------
    curve
        The training loss and its terms of every step.
    validation
        The losses of every validation.
    """

    curve: dict[str, list[float]] = field(default_factory=lambda: {"loss": []})
    validation: list[Metrics] = field(default_factory=list)

    @property
    def step(self) -> int:
        """The number of steps so far."""
        return len(self.curve["loss"])

    @property
    def best(self) -> Metrics:
        """The validation of the lowest loss, the first of equal ones."""
        return min(self.validation, key=lambda metrics: metrics["loss"] if isfinite(metrics["loss"]) else inf)

    @property
    def validations_since_best(self) -> int:
        """The number of validations after the best one; 0 where the best one is the last."""
        return len(self.validation) - 1 - self.validation.index(self.best)

    def add(self, losses: Losses) -> None:
        """Add the losses of a step."""
        for name, value in loss_values(losses).items():
            self.curve.setdefault(name, []).append(value)

    def lines(self, after: int = 0) -> Iterator[Metrics]:
        """Yield the lines of metrics.jsonl beyond a step: validations, and mean training losses since the last line."""
        validations = {int(metrics["step"]): metrics for metrics in self.validation}
        steps = sorted({*range(STEPS_PER_LINE, self.step + 1, STEPS_PER_LINE), *validations})
        for before, step in pairwise([0, *steps]):
            if step > after:
                means = {name: float(np.mean(values[before:step])) for name, values in self.curve.items()}
                held_out = {f"validation_{name}": value for name, value in validations.get(step, {}).items()}
                held_out.pop("validation_step", None)
                yield {"step": step} | means | held_out


def loss_values(losses: Losses) -> Metrics:
    """Return the losses as numbers."""
    return {"loss": losses.total.item()} | {name: term.item() for name, term in losses.terms.items()}


class MetricsWriter:
    """Write the losses of a training while it runs, each line once, also where the training resumes.

    Parameters
    ----------
    out
        The checkpoint's folder, for metrics.jsonl and curve.png.
    history
        The losses at the start. Lines of later steps in the files are dropped and written again.
    tracking
        Gets the same lines.
    """

    def __init__(self, out: Path, history: History, tracking: Tracking) -> None:
        self._out, self._tracking, self._last_step = out, tracking, 0
        out.mkdir(parents=True, exist_ok=True)
        for file in (LINES_FILE, PLOT_FILE):
            (out / file).unlink(missing_ok=True)
        self.write(history)

    def write(self, history: History) -> None:
        """Write the new lines, and the plot where a validation is among them."""
        lines = list(history.lines(self._last_step))
        if lines:
            self._last_step = int(lines[-1]["step"])
            with (self._out / LINES_FILE).open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(line) + "\n" for line in lines)
            if any(metrics["step"] == self._last_step for metrics in history.validation):
                plot(history, self._out / PLOT_FILE)
            self._tracking.log(lines)

    def finish(self) -> None:
        """End the tracking."""
        self._tracking.finish()


def plot(history: History, path: Path) -> None:
    """Draw the losses of training and validation over the steps."""
    figure = Figure(figsize=(4 * len(history.curve), 3.5), layout="constrained")
    for axes, (name, losses) in zip(figure.subplots(1, len(history.curve)), history.curve.items(), strict=True):
        axes.plot(range(1, history.step + 1), losses, linewidth=0.8, label="training")
        held_out = [metrics for metrics in history.validation if name in metrics]
        if held_out:
            steps, held_out_losses = ([metrics[key] for metrics in held_out] for key in ("step", name))
            axes.plot(steps, held_out_losses, "o-", label="validation")
        axes.set(title=name, xlabel="step")
        axes.legend()
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=100)
