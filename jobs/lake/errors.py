"""Errors of Spark, Delta, Arrow and the disk as errors of the project, which name the table or file and what to do.

Only errors that a user can correct are translated. An error of the project that a Python worker of Spark raised arrives
as the text of a traceback, and becomes that error again.
"""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.config.location import is_remote, local_path
from jobs.lake.error_text import error_causes, error_messages, error_reason, is_spark_error, is_table_error
from jobs.lake.repair import ACCESS, DENIED, LOG, file_hint, log_hint, unread_hint
from model.errors import InstructUEError

if TYPE_CHECKING:
    from jobs.config.deployment import Deployment

OURS = re.compile(
    r"^((?:model|jobs|feature_repo)\.[\w.]+)\.(\w+): (.*?)"
    r"(?=\n\s+at |\n\n|\nCaused by: |\n ?SQLSTATE: |\s*\Z)",
    re.MULTILINE | re.DOTALL,
)
"""An error of the project at the end of a Python worker's traceback, which names its class with the module."""
FULL = re.compile(r"no space left on device|disk quota exceeded|database or disk is full", re.IGNORECASE)
UNREAD = re.compile(
    r"(?:reading file|Object at location) (?:file:/*(?=/))?(?P<file>.+?\.(?:parquet|json|crc))[\s.:]+"
    r"(?P<why>[^\n]*?)[\s.]*(?:SQLSTATE|\n|$)"
)
"""A message of Spark or Delta about a file that they could not read, with the file's name and the reason."""
HEADER = re.compile(
    r"CSV header does not conform to the schema.*?Header: (?P<header>.*?)\s*Schema: (?P<schema>.*?)\s*Expected.*?"
    r"CSV file: (?P<file>\S+)",
    re.DOTALL,
)
HEADER_LENGTH = re.compile(
    r"Number of column in CSV header is not equal to number of fields in the schema:\s*Header length: (?P<header>\d+), "
    r"schema size: (?P<schema>\d+)\s*CSV file: (?P<file>\S+)"
)
"""Messages of Spark about a CSV file whose header differs from its `schema`."""
UNCOMPUTED = re.compile(r"\[[A-Z_.]+\]\s+(?P<why>.*?)\s*SQLSTATE: (?:22|23|P0)\w{3}(?P<context>.*)", re.DOTALL)
"""A message of Spark about a value that an SQL expression cannot compute, with the expression where it is known."""
ANSI_ADVICE = re.compile(r"\s*If necessary set \"spark\.sql\.ansi\.enabled\" to \"false\" to bypass this error[^.]*\.")
ANSI_COLOR = re.compile(r"\x1b\[[0-9;]*m")
NEARLY_FULL = 64_000_000
"""Free bytes below which a disk counts as the full one."""
SECONDS_TO_END = 2.0
"""Time to wait for the end of a killed JVM, whose socket closes first."""


class TableError(InstructUEError):
    """A table of the lake is missing or broken, or does not have the columns or rows that it must have."""


class DiskError(InstructUEError):
    """A disk is full."""


class ExpressionError(InstructUEError):
    """An SQL expression of a file, or of a query, that cannot be computed on a row."""


class JVMError(InstructUEError):
    """Spark's JVM ended while a job ran."""


@contextmanager
def translate_errors(deployment: Deployment | None = None) -> Iterator[None]:
    """Raise an error that a user can correct as an error of the project, any other error unchanged."""
    try:
        yield
    except Exception as error:
        translated = as_user_error(error, deployment)
        if translated is None:
            raise
        raise translated from error


@contextmanager
def translate_table_errors(table: str) -> Iterator[None]:
    """Raise an error about opening or reading the table at this path or URI as TableError."""
    try:
        yield
    except Exception as error:
        if isinstance(error, InstructUEError) or not (is_table_error(error) or isinstance(error, OSError)):
            raise
        if (translated := as_user_error(error)) is None:
            reason = _why(error, table)
            hint = unread_hint(table, reason)
            translated = TableError(f"the table at {table} cannot be read ({reason}){hint and f'; {hint}'}")
        raise translated from error


def as_user_error(error: BaseException, deployment: Deployment | None = None) -> InstructUEError | None:
    """Return the error of the project that says what to do about `error`; None if there is none or it is one."""
    if isinstance(error, InstructUEError):
        return None
    messages = error_messages(error)
    translated = (
        _from_worker(error)
        or _full_disk(messages, deployment)
        or _wrong_header(messages)
        or _broken_file(messages)
        or (_uncomputed(messages) if is_spark_error(error) else None)
        or _ended_jvm(error)
    )
    if translated is not None:
        for note in getattr(error, "__notes__", ()):
            translated.add_note(note)
    return translated


def _from_worker(error: BaseException) -> InstructUEError | None:
    """Return the error of the project that a Python worker of Spark raised; None if the worker raised another."""
    if not is_spark_error(error):
        return None
    for module, name, message in reversed(OURS.findall(str(error))):
        try:
            kind = getattr(importlib.import_module(module), name, None)
        except ImportError:
            continue
        if isinstance(kind, type) and issubclass(kind, InstructUEError):
            return kind(message)
    return None


def _full_disk(messages: list[str], deployment: Deployment | None) -> DiskError | None:
    """Return the error of a full disk; None if the disk is not full."""
    if not any(FULL.search(message) for message in messages):
        return None
    folders = [Path(tempfile.gettempdir())]
    if deployment is not None:
        named = (deployment.lake, deployment.releases, deployment.store.folder)
        folders += [path for folder in named if (path := local_path(deployment.resolve(folder)))]
    free = {folder: shutil.disk_usage(folder).free for folder in folders if folder.exists()}
    fullest = min(free, key=lambda folder: free[folder])
    disk = "a disk that it writes to"
    if free[fullest] < NEARLY_FULL:
        disk = f"the disk of {fullest}, which has {free[fullest] / 1e6:.1f} MB free"
    return DiskError(
        f"no space is left on {disk}: free some, then run the command again; a day's rows are replaced "
        "whole or not at all"
    )


def _wrong_header(messages: list[str]) -> TableError | None:
    """Return the error of a CSV file whose header differs from its `schema`; None if no message is about one."""
    for message in messages:
        if match := HEADER.search(message) or HEADER_LENGTH.search(message):
            return TableError(
                f"the header of {match['file']} has the columns {match['header']}, and `schema` declares "
                f"{match['schema']}; write `schema` in the order of the header, with the same names"
            )
    return None


def _broken_file(messages: list[str]) -> TableError | None:
    """Return the error of a table's file that a running query could not read; None if no message names such a file."""
    for message in messages:
        if match := UNREAD.search(message + " "):
            file = Path(match["file"])
            lost = re.search(r"does not exist|not found", message)
            why = f" ({match['why']})" if match["why"] and not lost else ""
            table = re.sub(rf"(/{LOG}|(/[^/=]+=[^/]*)+)$", "", str(file.parent))  # without the partitions' folders
            state = "lost" if lost else "broken"
            if denied := any(DENIED.search(text) for text in messages):
                state, why = "closed to this user", ""
            hint = ACCESS if denied else _file_hint(table, file)
            return TableError(f"the file {file.name} of the table at {table} is {state}{why}; {hint}")
    return None


def _file_hint(table: str, file: Path) -> str:
    if file.parent.name == LOG:
        return log_hint(table)
    folder = local_path(table)
    if folder and not (folder / LOG).is_dir():
        return "put it back from a copy, or remove it"
    return file_hint(table, file)


def _uncomputed(messages: list[str]) -> ExpressionError | None:
    """Return the error of an SQL expression that failed on a row; None if no message is about one."""
    for message in messages:
        match = UNCOMPUTED.search(message)
        if match is None or "== DataFrame ==" in match["context"]:  # the project's own code
            continue
        expression, view = _expression(match["context"].strip().splitlines())
        why = ANSI_ADVICE.sub("", " ".join(match["why"].split())).strip().rstrip(".")
        named = (f" `{expression}`" if expression else "") + (f" of the view {view}" if view else "")
        return ExpressionError(
            f"the SQL expression{named} cannot be computed on a row ({why}); write it so that it gives null there, for "
            f"example with try_divide, try_cast or nullif, or exclude the row {'in the view' if view else 'by `where`'}"
        )
    return None


def _expression(context: list[str]) -> tuple[str, str]:
    """Return the expression that failed, and the view that has it, from Spark's lines; each is empty if unknown."""
    if len(context) < 2 or not context[0].startswith("== SQL"):
        return "", ""
    view = re.match(r"== SQL of VIEW (\S+)", context[0])
    if view is None:
        return context[1].strip(), ""
    marked = context[2] if len(context) > 2 else ""
    # The line has the view's whole query, and marks below the expression.
    return (context[1][marked.find("^") : marked.rfind("^") + 1].strip() if "^" in marked else ""), view[1]


def _ended_jvm(error: BaseException) -> JVMError | None:
    """Return the error that Spark's JVM has ended; None if it runs, or this process did not start it."""
    cut_off = any(
        isinstance(cause, ConnectionError) or type(cause).__name__ in ("Py4JError", "Py4JNetworkError")
        for cause in error_causes(error)
    )
    if not cut_off or "pyspark" not in sys.modules:
        return None
    from pyspark import SparkContext

    jvm = getattr(SparkContext._gateway, "proc", None)
    if not isinstance(jvm, subprocess.Popen):
        return None
    try:
        jvm.wait(SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        return None
    return JVMError(
        f"Spark's JVM has ended (exit code {jvm.returncode}), killed or out of memory: run the command "
        "again, where memory was short with a larger spark.driver.memory; the newest logs/spark-*.log may "
        "say more"
    )


def _why(error: BaseException, table: str) -> str:
    """Return the first line of deltalake's message, which is clearer than Spark's, or else of the error's own."""
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    text = error_reason(error)
    if is_spark_error(error) and not is_remote(table):
        try:
            DeltaTable(table)
        except (DeltaError, OSError) as clearer:
            text = str(clearer)
    lines = [ANSI_COLOR.sub("", line).strip(" ↳") for line in text.strip().splitlines()] or [type(error).__name__]
    # Below its first line deltalake says where and why, most exactly in the last one.
    first = ": ".join(lines[1:3]) if lines[0].endswith("LocalFileSystem error") else lines[0]
    return re.sub(r"^(Kernel error|Generic delta kernel error): ", "", first)
