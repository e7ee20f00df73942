"""What to do about a Delta table that cannot be read: said only where the cause is recognised and the advice works."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

from jobs.config.location import local_path
from jobs.console.text import sql_command, sql_table
from jobs.lake import catalog

LOG = "_delta_log"
HINT = "_last_checkpoint"
DENIED = re.compile(r"permission denied", re.IGNORECASE)
NEWER = re.compile(r"Feature '[^']+' is not supported|minimum (?:reader|writer) version")
BAD_HINT = re.compile(r"Had a _last_checkpoint hint")
BAD_CHECKPOINT = re.compile(r"Arrow error")
BAD_LOG = re.compile(
    r"No table metadata or protocol|No files in log segment|found gap|Json error|not UTF-8|empty commit"
)
"""By the message of `deltalake`, what is wrong with a table that it does not open."""
ACCESS = "give the user who runs this the right to read it"


def unread_hint(table: str, reason: str) -> str:
    """Return what to do about a table that cannot be opened for a reason; empty where that is not known to help."""
    if DENIED.search(reason):
        return ACCESS
    if NEWER.search(reason):
        return "a later version of Delta wrote it: write its rows to a new table with that version"
    if BAD_HINT.search(reason):
        return f"remove {HINT} from its log, {LOG}: a reader finds the checkpoints without it"
    if BAD_CHECKPOINT.search(reason):
        return _checkpoint_hint(table)
    return log_hint(table) if BAD_LOG.search(reason) else ""


def log_hint(table: str) -> str:
    """Return what to do about a table whose log is damaged."""
    return f"put its log, {LOG}, back from a copy, or {_make_again(table) or 'write the table anew'}"


def _checkpoint_hint(table: str) -> str:
    """Return what to do about a table whose checkpoint is damaged."""
    folder = local_path(table)
    commits = sorted(int(file.stem) for file in (folder / LOG).glob("*.json") if file.stem.isdigit()) if folder else []
    if commits and commits == list(range(len(commits))):
        return f"remove {HINT} and the files *.checkpoint* from its log, {LOG}, which has every commit"
    return log_hint(table)


def file_hint(table: str, file: Path) -> str:
    """Return what to do about a table that has lost a file of rows, or has it broken."""
    if again := _make_again(table):
        return f"put it back from a copy, or {again}"
    version = _version_before(table, file.name)
    if version is None:
        return "put it back from a copy"
    restore = sql_command(f"RESTORE TABLE {sql_table(table)} TO VERSION AS OF {version}")
    return f"put it back from a copy, or go back to the version before it, without all later changes: {restore}"


def _version_before(table: str, file: str) -> int | None:
    """Return the version before a file was added; None where there is none, or the log no longer says."""
    folder = local_path(table)
    commits = sorted((folder / LOG).glob("*.json")) if folder else []
    for former, commit in pairwise(commits):
        if any(file in line and line.startswith('{"add"') for line in commit.read_text("utf-8").splitlines()):
            return int(former.stem)
    return None


def rewrite_hint(table: str, columns: str = "*") -> str:
    """Return what to do about a table whose rows, or some columns of them, Spark reads right and another reader not."""
    if again := _make_again(table):
        return again
    new = sql_table(f"{table}_copy")
    command = sql_command(f"CREATE TABLE {new} USING delta AS SELECT {columns} FROM {sql_table(table)}")
    return f"write its rows to a new table and name that one: {command}"


def _make_again(path: str) -> str | None:
    """Return how to make one of the project's own tables again; None for any other table."""
    table = catalog.TABLES.get(Path(path).name)
    if table is None or table.company:
        return None
    if table.made_by is None:
        return "remove the table and run the jobs again, from the oldest day on"
    if "day" not in table.partition:
        # Without its list of users, the vectors that have ended stay in the online store.
        return f"remove the table, name another store.project and run `instructue {table.made_by}` for the newest day"
    days = " again" if table.made_by == "userqa" else " for each of its days"
    return f"remove the table and run `instructue {table.made_by}`{days}"
