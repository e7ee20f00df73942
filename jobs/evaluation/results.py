"""The result of a study: tables, notes and plots, shown in a terminal and kept as JSON and Markdown."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from jobs.console import output, tables
from model.atomic_write import atomic_write_text


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of formatted cells."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Result:
    """The result of one study.

    Attributes
    ----------
    name
        The stem of the file names.
    notes
        Settings, and what was left out.
    data
        The figures as plain data.
    plots
        The files of the plots.
    """

    name: str
    title: str
    tables: tuple[Table, ...]
    notes: tuple[str, ...] = ()
    data: Any = None
    plots: tuple[Path, ...] = ()

    def save(self, folder: Path) -> None:
        """Write `<name>.json` and `<name>.md`; they replace those of the last run."""
        data = json.dumps(output.to_json_value(self), indent=1, ensure_ascii=False) + "\n"
        for end, text in ((".json", data), (".md", self.markdown())):
            atomic_write_text(folder / f"{self.name}{end}", text)

    def markdown(self) -> str:
        """Return the result as Markdown."""
        parts = [f"# {self.title}", *(f"- {note}" for note in self.notes)]
        for table in self.tables:
            rows = [table.columns, ("---", *("---:" for _ in table.columns[1:])), *table.rows]
            parts += ["", f"## {table.title}", "", *("| " + " | ".join(map(_escaped, row)) + " |" for row in rows)]
        parts += ["", *(f"![{plot.stem}]({plot.name})" for plot in self.plots if plot.suffix == ".png")]
        return "\n".join(parts).rstrip() + "\n"

    def shown(self, folder: Path) -> RenderableType:
        """Return the result as a terminal shows it."""
        files = [*(str(plot) for plot in self.plots), *(str(folder / f"{self.name}{end}") for end in (".md", ".json"))]
        return Group(
            Text(self.title, style="bold"),
            *(Text(note, style="dim") for note in self.notes),
            Text(),
            *(tables.table(table.title, table.columns, table.rows) for table in self.tables),
            Text("written: " + ", ".join(files), style="dim"),
        )


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")
