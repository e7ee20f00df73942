"""New log files: in ./logs, or in the temporary folder where ./logs is not writable."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from model.errors import InstructUEError


class LogError(InstructUEError):
    """No log file can be created."""


def new_log(name: str) -> Path:
    """Create an empty log file, named after `name`, the time and this process, and return its path.

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
