"""Tables for a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

MAX_ITEMS = 6
"""Items of a long list that a cell shows."""


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> RenderableType:
    """Return a table of values, which are not read as rich's markup; columns of numbers are aligned right."""
    grid = Table(box=SIMPLE_HEAD, pad_edge=False)
    for position, column in enumerate(columns):
        numeric = all(isinstance(row[position], int | float | Decimal | None) for row in rows)
        grid.add_column(Text(column), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(Text(cell(value)) for value in row))
    return with_title(title, grid)


def fields(title: str, rows: Sequence[tuple[str, str]]) -> RenderableType:
    """Return names and their values, a line each."""
    grid = Table(show_header=False, box=None, pad_edge=False)
    grid.add_column(style="dim")
    grid.add_column(overflow="fold")
    for name, value in rows:
        grid.add_row(Text(name), Text(value))
    return with_title(title, grid)


def with_title(title: str, grid: Table) -> RenderableType:
    """Return a table below its title, which a table of rich's own would fold to the table's width."""
    return Group(Text(title, style="italic"), grid) if title else grid


def accounts(job_runs: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Return rows in, out and left out of each row of `job_runs`, a line per reason.

    Sources and cut-offs are summed; the view `left_out` has them apart.
    """
    rows: list[tuple[Any, ...]] = []
    for run in job_runs:
        totals: Counter[str] = Counter()
        for reason, n in dict(run["left_out"] or {}).items():
            totals[reason.rsplit(": ", 1)[-1]] += n
        reasons = [(reason, n) for reason, n in totals.most_common() if n]
        first = (run["job"], run["day"], run["status"], run["rows_in"], run["rows_out"], round(run["seconds"], 1))
        rows.append((*first, *(reasons[0] if reasons else ("", None))))
        rows += [("", "", "", None, None, None, *reason) for reason in reasons[1:]]
    columns = ("job", "day", "status", "rows in", "rows out", "seconds", "left out", "rows")
    return table("Rows in, out and left out", columns, rows)


def cell(value: Any) -> str:
    """Return a value as the text of a cell; times in UTC, None as an empty text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.1f}" if abs(value) >= 10 else f"{value:.4g}"
    if isinstance(value, bytes | bytearray):
        return f"{len(value)} bytes"
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC).replace(tzinfo=None)} UTC" if value.tzinfo else str(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {cell(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        items = ", ".join(cell(item) for item in value[:MAX_ITEMS])
        return f"{items}, ... {len(value)} in all" if len(value) > MAX_ITEMS else items
    return str(value)
