"""Logging of a process: which records appear on stderr, in which form, and which are kept in a file."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from pathlib import Path

from rich.highlighter import NullHighlighter
from rich.logging import RichHandler

from jobs.console import terminal
from jobs.console.log_files import new_log

PACKAGES = ("jobs", "model", "feature_repo", "examples", "benchmarks", "__main__")
"""Loggers of this project; every other logger belongs to a library."""
PROGRESS = "jobs.console.progress"
"""The logger of progress; a terminal draws progress and does not show these records."""
PYTHON_WARNINGS = "py.warnings"
"""The logger that `logging.captureWarnings` writes to."""


def configure(level: str = "INFO", *, as_json: bool = False, file: Path | None = None) -> None:
    """Send the records of this process to stderr.

    A terminal shows each record as a short line. Otherwise a line has the time in UTC, the level and the logger's
    name, or is one JSON object. Records of libraries are shown from WARNING on. A later call replaces an earlier one.

    Parameters
    ----------
    level
        The lowest level of this project's records that are shown, by its name in `logging`.
    as_json
        Write one JSON object a line: time, level, logger, message, and the traceback where there is one.
    file
        Also append the records of every logger from INFO on to this file. None: on a terminal, Python's warnings go to
        a file in ./logs, which the first warning opens; elsewhere they go to stderr.
    """
    remove()
    if as_json or not terminal.err.is_terminal:
        shown: logging.Handler = _StreamHandler()
        shown.setFormatter(_JsonFormatter() if as_json else _LineFormatter())
    else:
        shown = _TerminalHandler(
            console=terminal.err, show_time=False, show_path=False, highlighter=NullHighlighter(), markup=False
        )
        shown.addFilter(lambda record: record.name not in (PROGRESS, PYTHON_WARNINGS))
    lowest = logging.getLevelNamesMapping()[level]
    shown.addFilter(lambda record: record.levelno >= (lowest if _is_own(record) else max(lowest, logging.WARNING)))
    handlers = [shown]
    if file is not None:
        handlers.append(_FileHandler(file))
    elif isinstance(shown, _TerminalHandler):
        handlers.append(_WarningsHandler())
    root = logging.getLogger()
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(logging.INFO if file else logging.WARNING)
    for package in PACKAGES:
        logging.getLogger(package).setLevel(min(lowest, logging.INFO) if file else lowest)
    logging.captureWarnings(True)


def remove() -> None:
    """Undo `configure`."""
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Installed)]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(logging.WARNING)
    for package in PACKAGES:
        logging.getLogger(package).setLevel(logging.NOTSET)
    logging.captureWarnings(False)


def draws_progress() -> bool:
    """Return whether stderr is a terminal on which progress is drawn."""
    return any(isinstance(handler, _TerminalHandler) for handler in logging.getLogger().handlers)


def writes_json() -> bool:
    """Return whether stderr has one JSON object a line."""
    return any(isinstance(handler.formatter, _JsonFormatter) for handler in logging.getLogger().handlers)


def _is_own(record: logging.LogRecord) -> bool:
    return record.name.split(".", 1)[0] in PACKAGES


class _LineFormatter(logging.Formatter):
    """`2026-01-02T03:04:05Z INFO jobs.lake.delta: the message`; a traceback follows on lines of its own."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return f"{datetime.fromtimestamp(record.created, UTC):%Y-%m-%dT%H:%M:%SZ}"

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).rstrip()  # a warning of Python's ends with a line break


class _JsonFormatter(_LineFormatter):
    """One JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        content = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage().rstrip(),
        }
        if record.exc_info:
            content["exception"] = self.formatException(record.exc_info)
        return json.dumps(content, ensure_ascii=False)


class _Installed(logging.Handler):
    """A handler that `configure` adds."""


class _StreamHandler(_Installed):
    """Write to the console's stderr, also while `sys.stderr` is redirected."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            terminal.err.file.write(f"{self.format(record)}\n")
            terminal.err.file.flush()
        except Exception:
            self.handleError(record)


class _TerminalHandler(_Installed, RichHandler):
    """Show a record as its level and message."""


class _FileHandler(_Installed, logging.FileHandler):
    """Append to a file."""

    def __init__(self, file: Path) -> None:
        super().__init__(file, encoding="utf-8")
        self.setFormatter(_LineFormatter())


class _WarningsHandler(_Installed):
    """Append Python's warnings to a file, which the first one opens."""

    def __init__(self) -> None:
        super().__init__()
        self.addFilter(logging.Filter(PYTHON_WARNINGS))
        self._file: _FileHandler | None = None

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._file = self._file or _FileHandler(new_log("warnings"))
        except Exception:  # no folder for logs: a warning stops no job
            self.handleError(record)
        else:
            self._file.emit(record)

    def close(self) -> None:
        if self._file:
            self._file.close()
        super().close()
