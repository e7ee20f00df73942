"""The extra that installs a package which a command imports and this environment lacks."""

from __future__ import annotations

from model.errors import InstructUEError

EXTRAS = {
    "cli": "deltalake filelock pydantic rich typer yaml",
    "spark": "delta pandas py4j pyspark",
    "store": "feast psycopg redis sqlalchemy",
    "train": "accelerate joblib matplotlib onnx onnxscript peft scipy sklearn torch transformers",
    "eval": "lightgbm",
    "airflow": "airflow",
}
"""Extra to the top-level modules that it adds; pyproject.toml names their distributions."""


class MissingExtraError(InstructUEError):
    """A command needs an extra that is not installed."""


def missing_extra(error: BaseException) -> MissingExtraError | None:
    """Return the error that names the extra to install; None if `error` is not about a missing module of an extra."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return None
    module = error.name.partition(".")[0]
    for extra, modules in EXTRAS.items():
        if module in modules.split():
            return MissingExtraError(
                f"this command needs the package {module!r}, which the extra {extra!r} installs: "
                f"pip install 'instructue[{extra}]'"
            )
    return None
