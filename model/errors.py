"""The family of errors that a user can correct."""


class InstructUEError(Exception):
    """An error that a user can correct; its message says which key, row or file is wrong and what to do."""


class ConfigError(InstructUEError):
    """A network or training setting that cannot work."""
