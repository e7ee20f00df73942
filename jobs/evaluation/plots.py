"""Draw the plots of studies without a display, and write them atomically."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from model.atomic_write import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 130


def axes(count: int, title: str) -> tuple[Figure, list[Axes]]:
    """Return an empty figure with this number of plots side by side."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.2 * count, 5.4 if count > 1 else 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11)
    return figure, [figure.add_subplot(1, count, number + 1) for number in range(count)]


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG."""
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=DPI)
