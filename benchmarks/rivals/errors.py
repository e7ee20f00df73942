"""What a rival can miss."""

from __future__ import annotations

from model.errors import InstructUEError


class RivalError(InstructUEError):
    """A rival that cannot be made here: a model or an environment is not there, or what it ran failed."""
