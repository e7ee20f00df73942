"""The protocol by which a long computation reports its progress."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receive how many units of work are done, out of how many."""

    def __call__(self, done: int, total: int) -> None:
        """Report that `done` of `total` units are done."""


def no_progress(done: int, total: int) -> None:
    """Ignore the progress."""
