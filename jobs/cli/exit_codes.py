"""How a command line ends: its exit code, and what a person is told.

A mistake that a person can mend is one line, `error: ...`, and exit code 2; anything else leaves its traceback in
a log file, says where, and exits with 1.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import NoReturn

import typer

from jobs.cli.extras import missing_extra
from jobs.console.log_files import LogError, new_log
from jobs.lake.errors import as_user_error, error_reason
from model.errors import InstructUEError


def run(app: typer.Typer) -> NoReturn:
    """Run a command line and exit: 0 done, 1 unexpected, 2 a mistake that a person can mend, 130 interrupted."""
    try:
        app()
    except InstructUEError as error:
        sys.exit(_told(error))
    except BrokenPipeError:
        # The reader of our output (head, less) has left; there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        ours = missing_extra(error) or as_user_error(error)
        sys.exit(_told(ours) if ours else _unexpected(error))
    sys.exit(0)


def _told(error: InstructUEError) -> int:
    print("\n".join([f"error: {error}", *_notes(error)]), file=sys.stderr)
    return 2


def _unexpected(error: Exception) -> int:
    if "PYSPARK_GATEWAY_PORT" in os.environ:
        # Under spark-submit the scheduler keeps what is printed: the traceback belongs there.
        traceback.print_exc()
    what = f"unexpected {type(error).__name__}: {(error_reason(error).splitlines() or ['no message'])[0]}"
    try:
        log = new_log("error")
        log.write_text(f"{' '.join(sys.argv)}\n{traceback.format_exc()}", encoding="utf-8")
    except (LogError, OSError) as unwritten:
        traceback.print_exc()
        where = f"its traceback stands above ({unwritten})"
    else:
        where = f"the traceback is in {log}"
    print("\n".join([*_notes(error), f"{what}; {where}"]), file=sys.stderr)
    return 1


def _notes(error: BaseException) -> list[str]:
    return [f"note: {note}" for note in getattr(error, "__notes__", ())]
