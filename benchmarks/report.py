"""The report of a benchmark: a printed table, and the same rows as Markdown and JSON under results/."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A measured value. `goal` is a comparison, for example `>= 3` or `<= 0.25`, or empty."""

    name: str
    value: float
    unit: str = ""
    goal: str = ""

    @property
    def reached(self) -> bool | None:
        """Return whether the goal is reached; None without a goal."""
        if not self.goal:
            return None
        sign, bound = self.goal.split()
        return {">=": self.value >= float(bound), "<=": self.value <= float(bound)}[sign]


def seconds(run: Callable[[], object]) -> float:
    """Return the seconds of a call."""
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def machine() -> str:
    """Describe this machine."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB of memory, {platform.system()}, "
        f"Python {platform.python_version()}"
    )


def write(name: str, rows: Sequence[Row], text: str, folder: Path = RESULTS) -> str:
    """Print the rows as a table and write `<name>.md` and `<name>.json`.

    Parameters
    ----------
    name : str
        The name of the benchmark and of its files.
    rows : sequence of Row
        The rows in order.
    text : str
        A paragraph above the table: what was measured, and on which shapes.
    folder : Path
        The folder of the files.

    Returns
    -------
    str
        The Markdown.
    """
    described = machine()
    table = [("", "value", "unit", "goal", "")]
    table += [
        (row.name, f"{row.value:,.6g}", row.unit, row.goal, {None: "", True: "reached", False: "missed"}[row.reached])
        for row in rows
    ]
    widths = [max(len(line[column]) for line in table) for column in range(5)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in table
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    markdown = f"# {name}\n\n{text.strip()}\n\n" + "\n".join(lines) + f"\n\nMeasured on {described}.\n"
    content = {
        "name": name,
        "text": text.strip(),
        "machine": described,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "rows": [{**asdict(row), "reached": row.reached} for row in rows],
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(markdown, encoding="utf-8")
    text = json.dumps(content, indent=2, ensure_ascii=False)
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    print(markdown)
    return markdown
