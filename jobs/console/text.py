"""Wording that messages share."""

from __future__ import annotations

import shlex
from collections.abc import Sequence


def count(number: int, noun: str) -> str:
    """Return a number with its noun: `1 user`, `2,000 users`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def list_errors(subject: object, lines: Sequence[str]) -> str:
    """Return `conf/demo.yaml: 2 errors` and below it the errors, a line each."""
    return "\n".join([f"{subject}: {count(len(lines), 'error')}", *lines])


def sql_command(statement: str) -> str:
    """Return the command that runs an SQL statement, quoted for a shell: `instructue sql 'SELECT 1'`."""
    return f"`instructue sql {shlex.quote(statement)}`"


def three_digits(value: float) -> str:
    """Return a number below 1 without its leading zero: `.784`."""
    return f"{value:.3f}".removeprefix("0")


def sql_name(name: str) -> str:
    """Return a name, of any characters, as one part of a name in SQL: between backticks."""
    return "`" + name.replace("`", "``") + "`"


def sql_text(text: str) -> str:
    """Return a text as a literal of Spark SQL, in which a backslash escapes the next character."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def sql_table(path: str) -> str:
    """Return the name in SQL of the Delta table at a path or URI."""
    return f"delta.{sql_name(path)}"
