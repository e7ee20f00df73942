"""The text of errors of Spark, Delta and Arrow: their messages without plans and stacks, those of the JVM too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

TABLE_LIBRARIES = ("pyspark", "py4j", "_internal", "deltalake", "pyarrow")
"""Modules whose errors are about tables; `_internal` is deltalake's."""


def error_reason(error: BaseException) -> str:
    """Return the message of an error; of one of Spark, without the plan or the stack that follows it."""
    java = getattr(error, "java_exception", None) if is_spark_error(error) else None
    text = str(error) if java is None else _java_reason(java)
    text = text.split("\n\nJVM stacktrace")[0].split("\n\tat ")[0]
    return text.split(";\n'")[0].split(";\n+-")[0].strip()


def error_messages(error: BaseException) -> list[str]:
    """Return the messages of an error and of its causes, those in the JVM too."""
    messages: list[str] = []
    for cause in error_causes(error):
        messages.append(str(cause))
        if is_spark_error(cause):
            messages += _java_messages(getattr(cause, "java_exception", None) or getattr(cause, "_origin", None))
    return messages


def error_causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes, at most 100."""
    cause: BaseException | None = error
    for _ in range(100):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__ or cause.__context__


def _java_messages(exception: Any) -> list[str]:
    from py4j.protocol import Py4JError

    messages = []
    try:
        while exception is not None:
            messages.append(str(exception.toString()))
            exception = exception.getCause()
    except Py4JError:  # the JVM has ended
        pass
    return messages


def _java_reason(exception: Any) -> str:
    """Return the message of the outermost cause with a condition of Spark, or else of the innermost cause."""
    text = ""
    while exception is not None:
        text = exception.getMessage() or exception.toString()
        if text.startswith("["):
            break
        exception = exception.getCause()
    return text


def is_table_error(error: BaseException) -> bool:
    """Return whether an error is one of a library that reads tables."""
    return type(error).__module__.partition(".")[0] in TABLE_LIBRARIES


def is_spark_error(error: BaseException) -> bool:
    """Return whether an error is one of Spark, without importing Spark."""
    return type(error).__name__ == "Py4JJavaError" or type(error).__module__.startswith("pyspark.errors")
