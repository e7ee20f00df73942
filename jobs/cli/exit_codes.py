"""Exit codes of a command line, and the last lines that it prints.

An error that the user can correct is one line, `error: ...`, and exit code 2. Any other error is exit code 1: its
traceback is in a log file, which the last line names.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from typing import NoReturn

import typer

from jobs.cli.extras import missing_extra
from jobs.console.log_files import LogError, new_log
from jobs.lake.error_text import error_reason
from jobs.lake.errors import as_user_error
from model.errors import InstructUEError

logger = logging.getLogger(__name__)


def run(app: typer.Typer) -> NoReturn:
    """Run a command line and exit: 0 done, 1 unexpected error, 2 error of the user, 130 interrupted."""
    try:
        app()
    except InstructUEError as error:
        sys.exit(_user_error(error))
    except BrokenPipeError:
        # The program that reads stdout (head, less) has closed the pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        user_error = missing_extra(error) or as_user_error(error)
        sys.exit(_user_error(user_error) if user_error else _unexpected(error))
    sys.exit(0)


def _user_error(error: InstructUEError) -> int:
    _print([f"error: {error}", *_notes(error)])
    return 2


def _unexpected(error: Exception) -> int:
    if "PYSPARK_GATEWAY_PORT" in os.environ:
        # Under spark-submit the scheduler keeps the output, so the traceback goes there too.
        logger.exception("unexpected error")
    message = f"unexpected {type(error).__name__}: {(error_reason(error).splitlines() or ['no message'])[0]}"
    try:
        log = new_log("error")
        log.write_text(f"{' '.join(sys.argv)}\n{traceback.format_exc()}", encoding="utf-8")
    except (LogError, OSError) as unwritten:
        logger.exception("unexpected error")
        location = f"the traceback is above ({unwritten})"
    else:
        location = f"the traceback is in {log}"
    _print([*_notes(error), f"{message}; {location}"])
    return 1


def _print(lines: list[str]) -> None:
    """Print the last lines to stderr; where the log is JSON, log them as one record."""
    from jobs.console import logs  # loads rich, which `--help` in plain text does not need

    if logs.writes_json():
        logger.error("\n".join(lines))
    else:
        print("\n".join(lines), file=sys.stderr)


def _notes(error: BaseException) -> list[str]:
    return [f"note: {note}" for note in getattr(error, "__notes__", ())]
