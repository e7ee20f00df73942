"""The one family of exceptions that a person can act upon."""


class InstructUEError(Exception):
    """What is wrong with which key, row or file, and what to do about it."""


class ConfigError(InstructUEError):
    """A network or training setting that cannot work."""
