"""What Spark says when it fails, as a person needs it: without plans and stacks, and our own errors as themselves."""

from __future__ import annotations

import importlib
import re
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

from model.errors import InstructUEError

OURS = re.compile(r"^((?:model|jobs|feature_repo)\.[\w.]+)\.(\w+): (.*?)"
                  r"(?=\n\s+at |\n\n|\nCaused by: |\n ?SQLSTATE: |\s*\Z)", re.MULTILINE | re.DOTALL)
"""An error of ours at the end of a Python worker's traceback, in which a class stands with its module."""


def from_worker(error: BaseException) -> InstructUEError | None:
    """The error of ours that stopped a Python worker of Spark's; None where it was anything else.

    It crosses the JVM as the text of its traceback alone, so it is made again from there.
    """
    if not isinstance(error, PySparkException | Py4JJavaError):
        return None
    for module, name, message in reversed(OURS.findall(str(error))):
        try:
            kind = getattr(importlib.import_module(module), name, None)
        except ImportError:
            continue
        if isinstance(kind, type) and issubclass(kind, InstructUEError):
            found = kind(message)
            for note in getattr(error, "__notes__", ()):
                found.add_note(note)
            return found
    return None


def reason(error: PySparkException | Py4JJavaError) -> str:
    """Spark's message without the plan or the JVM's stack that follows it."""
    text = _java_reason(error.java_exception) if isinstance(error, Py4JJavaError) else str(error)
    text = text.split("\n\nJVM stacktrace")[0].split("\n\tat ")[0]
    return text.split(";\n'")[0].split(";\n+-")[0].strip()


def _java_reason(exception: Any) -> str:
    """The message of the outermost cause that has one of Spark's own, or else of the innermost."""
    text = ""
    while exception is not None:
        text = exception.getMessage() or exception.toString()
        if text.startswith("["):
            break
        exception = exception.getCause()
    return text
