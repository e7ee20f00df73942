"""The answer of a command on stdout: a table for a person, or JSON for a program."""

from __future__ import annotations

import json
import math
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from jobs.console import tables, terminal


def print_summary(title: str, summary: Any, as_json: bool = False) -> None:
    """Print the result of a job: tables, or one JSON object on one line.

    A summary with a method `lines` gives the names and texts of its first table itself.
    """
    if as_json:
        print(to_json_line(summary))
        return
    values = to_json_value(summary, finite=False)
    parts = {name: values.pop(name) for name, value in list(values.items()) if _is_table(value)}
    lines = summary.lines() if hasattr(summary, "lines") else list(_lines(values))
    terminal.out.print(tables.fields(title, lines))
    for name, rows_by_key in parts.items():
        columns = list(dict.fromkeys(column for row in rows_by_key.values() for column in row))
        rows = [(key, *(row.get(column) for column in columns)) for key, row in rows_by_key.items()]
        header = ("", *(column.replace("_", " ") for column in columns))
        terminal.out.print(tables.table(name.replace("_", " "), header, rows))


def to_json_line(value: Any) -> str:
    """Return a summary or a row as one line of JSON."""
    return json.dumps(to_json_value(value), ensure_ascii=False, allow_nan=False)


def to_json_value(value: Any, *, finite: bool = True) -> Any:
    """Return a summary in JSON's types; with `finite`, NaN and infinity become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) or not finite else None
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json_value(getattr(value, field.name), finite=finite) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json_value(item, finite=finite) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json_value(item, finite=finite) for item in value]
    if isinstance(value, bytes | bytearray):
        return b64encode(value).decode()
    if isinstance(value, datetime):
        return (value.astimezone(UTC) if value.tzinfo else value).isoformat()
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Decimal | timedelta | Path):
        return str(value)
    if hasattr(value, "tolist"):
        return to_json_value(value.tolist(), finite=finite)
    return value


def _is_table(value: Any) -> bool:
    """Return whether a value is a mapping of mappings of numbers, the rows and columns of a table."""
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(
            isinstance(row, Mapping) and row and all(isinstance(cell, int | float | None) for cell in row.values())
            for row in value.values()
        )
    )


def _lines(summary: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in summary.items():
        title = f"{prefix}{name.replace('_', ' ')}"
        if isinstance(value, Mapping):
            yield from _lines(value, f"{title}: ")
        elif value is not None:
            yield title, tables.cell(value)
