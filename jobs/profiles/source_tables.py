"""The source tables: opened, and their columns checked against the deployment file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql.types import (
    BooleanType,
    DataType,
    DateType,
    NumericType,
    StringType,
    StructType,
    TimestampNTZType,
    TimestampType,
)

from jobs.config.deployment import Deployment
from jobs.config.functions import ColumnKind
from jobs.config.sections import Attributes, EventSource
from jobs.console.text import list_errors
from jobs.lake.delta import MissingTableError, absent_message
from jobs.lake.errors import TableError
from jobs.lake.spark_tables import SourceError
from jobs.lake.spark_user_ids import holds_user_ids
from jobs.profiles.aggregate_inputs import expression_errors
from jobs.profiles.column_paths import add_paths, available_names
from jobs.profiles.expressions import is_single_value

ATTRIBUTES = "attributes"
"""Key of the tabular attributes among the event sources' names."""


def open_sources(deployment: Deployment, read: Callable[[str], DataFrame]) -> dict[str, DataFrame]:
    """Return every source's table by the source's name, and `attributes` where declared.

    Raises
    ------
    SourceError
        Tables or columns are missing or of the wrong type: all of them, each with its key and what to do.
    """
    tables, errors = {}, []
    for name, (key, table, required) in _required_columns(deployment).items():
        try:
            tables[name] = read(table)
        except TableError as error:
            reason = absent_message(deployment.table(table)) if isinstance(error, MissingTableError) else str(error)
            errors.append(f"  {key}.table = {table}: {reason}")
            continue
        available = available_names(tables[name].schema)
        tables[name], paths = add_paths(tables[name], [need.column for need in required])
        errors += _column_errors(tables[name].schema, table, required, available, paths)
        errors += expression_errors(tables[name], [a for a in deployment.aggregates if a.source == name])
    if errors:
        raise SourceError(list_errors(deployment.path, errors))
    return tables


@dataclass(frozen=True, kw_only=True)
class RequiredColumn:
    """A column that a key of the deployment file names, and what it must hold."""

    key: str
    column: str
    kind: ColumnKind


def _required_columns(deployment: Deployment) -> dict[str, tuple[str, str, list[RequiredColumn]]]:
    """Return the key, the table and the required columns of each source and of `attributes`."""
    result = {
        source.name: (f"sources.{source.name}", source.table, _source_columns(source, deployment))
        for source in deployment.sources
    }
    if deployment.attributes is not None:
        result[ATTRIBUTES] = ("attributes", deployment.attributes.table, _attribute_columns(deployment.attributes))
    return result


def _source_columns(source: EventSource, deployment: Deployment) -> list[RequiredColumn]:
    key = f"sources.{source.name}"
    columns = [
        RequiredColumn(key=f"{key}.user", column=source.user, kind="user"),
        RequiredColumn(key=f"{key}.time", column=source.time, kind="time"),
    ]
    columns += [RequiredColumn(key=f"{key}.id", column=source.id, kind="id")] if source.id else []
    columns += [
        RequiredColumn(key=f"{key}.template", column=column, kind=call.column) for column, call in source.fields
    ]
    columns += [
        RequiredColumn(key=f"aggregates.{a.name}.column", column=a.column, kind=a.column_kind)
        for a in deployment.aggregates
        if a.source == source.name and a.column and a.column_kind
    ]
    return columns


def _attribute_columns(attributes: Attributes) -> list[RequiredColumn]:
    columns = [RequiredColumn(key="attributes.user", column=attributes.user, kind="user")]
    if attributes.valid_from:
        columns.append(RequiredColumn(key="attributes.valid_from", column=attributes.valid_from, kind="time"))
    columns += [RequiredColumn(key="attributes.numbers", column=c.column, kind="number") for c in attributes.numbers]
    columns += [
        RequiredColumn(key="attributes.categories", column=c.column, kind="text") for c in attributes.categories
    ]
    return columns


def _column_errors(
    schema: StructType,
    table: str,
    required: Iterable[RequiredColumn],
    available: Iterable[str],
    paths: Mapping[str, str],
) -> list[str]:
    """Return the errors of the required columns; `paths` has those of the names that lead to no column."""
    errors: list[str] = []
    for need in required:
        where = f"  {need.key} = {need.column}: "
        if need.column not in schema.names:
            reason = paths.get(need.column) or f"table {table} has no such column; use one of {', '.join(available)}"
            errors.append(f"{where}{reason}")
        elif not VALID_TYPES[need.kind](dtype := schema[need.column].dataType):
            errors.append(f"{where}column of {table} is {dtype.simpleString()}; {FIXES[need.kind]}")
    return list(dict.fromkeys(errors))


VALID_TYPES: dict[ColumnKind, Callable[[DataType], bool]] = {
    "user": holds_user_ids,
    "time": lambda dtype: isinstance(dtype, TimestampType | TimestampNTZType | DateType | StringType),
    "id": lambda dtype: is_single_value(dtype) and not isinstance(dtype, BooleanType),
    "text": is_single_value,
    "number": lambda dtype: isinstance(dtype, NumericType | StringType | BooleanType),
}
FIXES: dict[ColumnKind, str] = {
    "user": "name a column of texts or numbers",
    "time": "name a column of timestamps, dates or ISO texts",
    "id": "name a column of texts, numbers or times",
    "text": "name a column of single values (texts, numbers, times, booleans)",
    "number": "name a column of numbers",
}
