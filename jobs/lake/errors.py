"""What failed beneath a job, as a person needs it: which table, file or disk, and what to do; without plans and stacks.

Spark, Delta and Arrow have errors of their own. Those that a person can mend become ours here, and our own, which
cross the JVM as text, themselves again.
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
from typing import TYPE_CHECKING, Any

from jobs.config.location import is_remote, local_path
from jobs.lake import catalog
from model.errors import InstructUEError

if TYPE_CHECKING:
    from jobs.config.deployment import Deployment

OURS = re.compile(
    r"^((?:model|jobs|feature_repo)\.[\w.]+)\.(\w+): (.*?)"
    r"(?=\n\s+at |\n\n|\nCaused by: |\n ?SQLSTATE: |\s*\Z)",
    re.MULTILINE | re.DOTALL,
)
"""An error of ours at the end of a Python worker's traceback, in which a class stands with its module."""
FULL = re.compile(r"no space left on device|disk quota exceeded|database or disk is full", re.IGNORECASE)
UNREAD = re.compile(
    r"(?:reading file|Object at location) (?:file:/*(?=/))?(?P<file>.+?\.(?:parquet|json|crc))[\s.:]+"
    r"(?P<why>[^\n]*?)[\s.]*(?:SQLSTATE|\n|$)"
)
"""How Spark and Delta name the file that they could not read, and why."""
LOG = "_delta_log"
ROOM = 64_000_000
"""Bytes; a disk with more free was not the full one."""
SECONDS_TO_END = 2.0
"""A JVM that was killed is gone by then; its socket closes first."""
OTHERS = ("pyspark", "py4j", "_internal", "deltalake", "pyarrow")
"""Modules whose errors tell of tables; `_internal` is deltalake's."""


class TableError(InstructUEError):
    """A table of the lake is missing, broken or does not look as it must."""


class DiskError(InstructUEError):
    """A disk that has no room for what a job writes."""


class JVMError(InstructUEError):
    """Spark's JVM, which has ended while a job ran."""


@contextmanager
def translate_errors(deployment: Deployment | None = None) -> Iterator[None]:
    """Raise what a person can mend as an error of ours; anything else goes on as it is."""
    try:
        yield
    except Exception as error:
        ours = as_user_error(error, deployment)
        if ours is None:
            raise
        raise ours from error


@contextmanager
def translate_table_errors(table: str) -> Iterator[None]:
    """Raise what keeps the table at this path or URI from being opened or read as TableError."""
    try:
        yield
    except Exception as error:
        if isinstance(error, InstructUEError) or not (_of_a_table(error) or isinstance(error, OSError)):
            raise
        raise as_user_error(error) or TableError(
            f"the table at {table} cannot be read ({_why(error, table)}); {repair_hint(table, log=True)}"
        ) from error


def as_user_error(error: BaseException, deployment: Deployment | None = None) -> InstructUEError | None:
    """The error of ours that says what a person can do about `error`; None where nobody foresaw it."""
    if isinstance(error, InstructUEError):
        return None
    messages = _messages(error)
    found = _from_worker(error) or _full(messages, deployment) or _unread(messages) or _without_jvm(error)
    if found is not None:
        for note in getattr(error, "__notes__", ()):
            found.add_note(note)
    return found


def error_reason(error: BaseException) -> str:
    """Spark's message without the plan or the JVM's stack that follows it; any other error's own."""
    java = getattr(error, "java_exception", None) if _of_spark(error) else None
    text = str(error) if java is None else _java_reason(java)
    text = text.split("\n\nJVM stacktrace")[0].split("\n\tat ")[0]
    return text.split(";\n'")[0].split(";\n+-")[0].strip()


def repair_hint(table: str, *, log: bool = False) -> str:
    """What to do about a table that has lost a file, or whose log cannot be read."""
    name = Path(table).name
    copy = f"put its log, {LOG}, back from a copy, or" if log else "put it back from a copy, or"
    known = catalog.TABLES.get(name)
    if known and not known.company:
        if known.made_by is None:
            return f"{copy} remove the table and run the jobs again, from the oldest day on"
        days = " again" if known.made_by == "userqa" else " for each of its days"
        return f"{copy} remove the table and run `instructue {known.made_by}`{days}"
    if log:
        return f"{copy} write the table anew"
    restore = f"RESTORE TABLE delta.`{table}` TO VERSION AS OF <number>"
    return f"{copy} go back to a version without it: `instructue sql '{restore}'`"


def _from_worker(error: BaseException) -> InstructUEError | None:
    """The error of ours that stopped a Python worker of Spark's; None where it was anything else.

    It crosses the JVM as the text of its traceback alone, so it is made again from there.
    """
    if not _of_spark(error):
        return None
    for module, name, message in reversed(OURS.findall(str(error))):
        try:
            kind = getattr(importlib.import_module(module), name, None)
        except ImportError:
            continue
        if isinstance(kind, type) and issubclass(kind, InstructUEError):
            return kind(message)
    return None


def _full(messages: list[str], deployment: Deployment | None) -> DiskError | None:
    if not any(FULL.search(message) for message in messages):
        return None
    folders = [Path(tempfile.gettempdir())]
    if deployment is not None:
        named = (deployment.lake, deployment.releases, deployment.store.folder)
        folders += [path for folder in named if (path := local_path(deployment.resolve(folder)))]
    free = {folder: shutil.disk_usage(folder).free for folder in folders if folder.exists()}
    fullest = min(free, key=lambda folder: free[folder])
    disk = "a disk that it writes to"
    if free[fullest] < ROOM:
        disk = f"the disk of {fullest}, which has {free[fullest] / 1e6:.1f} MB free"
    return DiskError(
        f"no space is left on {disk}: free some, then run the command again; a day's rows are replaced "
        "whole or not at all"
    )


def _unread(messages: list[str]) -> TableError | None:
    """The file of a table that a query, already running, could not read."""
    for message in messages:
        if found := UNREAD.search(message + " "):
            file = Path(found["file"])
            lost = re.search(r"does not exist|not found", message)
            why = f" ({found['why']})" if found["why"] and not lost else ""
            table = re.sub(rf"(/{LOG}|(/[^/=]+=[^/]*)+)$", "", str(file.parent))  # without the partitions' folders
            return TableError(
                f"the file {file.name} of the table at {table} is {'lost' if lost else 'broken'}{why}; "
                f"{repair_hint(table, log=file.parent.name == LOG)}"
            )
    return None


def _without_jvm(error: BaseException) -> JVMError | None:
    """Whether an error comes of the JVM that this process started, and that is no more."""
    cut_off = any(
        isinstance(cause, ConnectionError) or type(cause).__name__ in ("Py4JError", "Py4JNetworkError")
        for cause in _causes(error)
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
    """What deltalake says of the table, which is clearer than Spark, or else the error's own first line."""
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    text = error_reason(error)
    if _of_spark(error) and not is_remote(table):
        try:
            DeltaTable(table)
        except (DeltaError, OSError) as clearer:
            text = str(clearer)
    first = (text.strip().splitlines() or [type(error).__name__])[0]
    return re.sub(r"^(Kernel error|Generic delta kernel error): ", "", first)


def _messages(error: BaseException) -> list[str]:
    """What it and its causes say, those in the JVM too."""
    found: list[str] = []
    for cause in _causes(error):
        found.append(str(cause))
        if _of_spark(cause):
            found += _java_messages(getattr(cause, "java_exception", None) or getattr(cause, "_origin", None))
    return found


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what led to it."""
    cause: BaseException | None = error
    for _ in range(100):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__ or cause.__context__


def _java_messages(exception: Any) -> list[str]:
    from py4j.protocol import Py4JError

    found = []
    try:
        while exception is not None:
            found.append(str(exception.toString()))
            exception = exception.getCause()
    except Py4JError:  # the JVM has gone, and what it said with it
        pass
    return found


def _java_reason(exception: Any) -> str:
    """The message of the outermost cause that has one of Spark's own, or else of the innermost."""
    text = ""
    while exception is not None:
        text = exception.getMessage() or exception.toString()
        if text.startswith("["):
            break
        exception = exception.getCause()
    return text


def _of_a_table(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] in OTHERS


def _of_spark(error: BaseException) -> bool:
    """Whether it is Spark's; asked without importing Spark, which jobs without it must not."""
    return type(error).__name__ == "Py4JJavaError" or type(error).__module__.startswith("pyspark.errors")
