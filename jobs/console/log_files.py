"""Where a log goes: ./logs, or the temporary folder where this one may not be written."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from model.errors import InstructUEError


class LogError(InstructUEError):
    """No log file can be written."""


def new_log(name: str) -> Path:
    """Make an empty log file of this process, `name` and the time in its own name.

    Raises
    ------
    LogError
        Neither ./logs nor the temporary folder is writable.
    """
    file = f"{name}-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.log"
    for folder in (Path("logs"), Path(tempfile.gettempdir()) / "instructue-logs"):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / file).touch()
        except OSError:
            continue
        return (folder / file).resolve()
    raise LogError(
        f"no log file can be written: make {Path('logs').resolve()} or {tempfile.gettempdir()} writable, "
        "or name another temporary folder in TMPDIR"
    )
