"""What an evaluation found: tables, notes and pictures, printed for a person and kept as JSON and Markdown."""

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
    """A table as people read it: every cell in words."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one evaluation found.

    Attributes
    ----------
    name
        The stem of its files.
    notes
        What a reader must know of it: settings, and what was left out.
    data
        The figures, for a program.
    pictures
        Files that were drawn.
    """

    name: str
    title: str
    tables: tuple[Table, ...]
    notes: tuple[str, ...] = ()
    data: Any = None
    pictures: tuple[Path, ...] = ()

    def save(self, folder: Path) -> None:
        """Write `<name>.json` and `<name>.md`, over those of the last run."""
        data = json.dumps(output.to_json_value(self), indent=1, ensure_ascii=False) + "\n"
        for end, text in ((".json", data), (".md", self.markdown())):
            atomic_write_text(folder / f"{self.name}{end}", text)

    def markdown(self) -> str:
        """The page of it."""
        parts = [f"# {self.title}", *(f"- {note}" for note in self.notes)]
        for table in self.tables:
            rows = [table.columns, ("---", *("---:" for _ in table.columns[1:])), *table.rows]
            parts += ["", f"## {table.title}", "", *("| " + " | ".join(map(_escaped, row)) + " |" for row in rows)]
        parts += ["", *(f"![{picture.stem}]({picture.name})" for picture in self.pictures if picture.suffix == ".png")]
        return "\n".join(parts).rstrip() + "\n"

    def shown(self, folder: Path) -> RenderableType:
        """What a person sees in a terminal."""
        files = [
            *(str(picture) for picture in self.pictures),
            *(str(folder / f"{self.name}{end}") for end in (".md", ".json")),
        ]
        return Group(
            Text(self.title, style="bold"),
            *(Text(note, style="dim") for note in self.notes),
            Text(),
            *(tables.table(table.title, table.columns, table.rows) for table in self.tables),
            Text("written: " + ", ".join(files), style="dim"),
        )


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")
