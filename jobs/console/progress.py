"""Progress of a step: drawn on a terminal, otherwise a record now and then."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from threading import Event, Thread

from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as ProgressBar
from rich.text import Text

from jobs.console import logs, terminal
from model.progress import Progress

INTERVAL = 30.0
"""Seconds between two records of a step."""

logger = logging.getLogger(__name__)


@contextmanager
def step(name: str) -> Iterator[Progress]:
    """Show that a step is running, how much of it is done, and how long it took.

    Everything goes to stderr, the output of libraries included: stdout is for the answer.
    """
    begin = time.monotonic()
    drawn = logs.draws_progress()
    logger.info("%s ...", name)
    with redirect_stdout(sys.stderr), _drawn(name) if drawn else _logged(name, begin) as progress:
        yield progress
    seconds = elapsed(time.monotonic() - begin)
    logger.info("%s: %s", name, seconds)
    if drawn:
        terminal.err.print(Text.assemble(("✓", "green"), f" {name}  ", (seconds, "dim")))


def elapsed(seconds: float) -> str:
    """Return a duration as `7.4 s` or `3 min 12 s`."""
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds // 60)} min {int(seconds % 60)} s"


@contextmanager
def _drawn(name: str) -> Iterator[Progress]:
    """Draw a bar on one line of the terminal and remove it at the end."""
    # Where the console does not write to sys.stderr, the caller has redirected the output of libraries.
    shared = terminal.err.file is sys.stderr
    bar = ProgressBar(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=terminal.err,
        transient=True,
        redirect_stdout=shared,
        redirect_stderr=shared,
    )
    with bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def _logged(name: str, begin: float) -> Iterator[Progress]:
    """Log every `INTERVAL` how much is done, so that a log shows that the step is still running."""
    done_of_total = ""
    over = Event()

    def log() -> None:
        while not over.wait(INTERVAL):
            logger.info("%s: %s%s so far", name, done_of_total, elapsed(time.monotonic() - begin))

    def progress(done: int, total: int) -> None:
        nonlocal done_of_total
        done_of_total = f"{done:,} of {total:,}, "

    thread = Thread(target=log, name="step", daemon=True)
    thread.start()
    try:
        yield progress
    finally:
        over.set()
        thread.join()
