"""Columns that the deployment file names: a column of the table, or a path into its structs.

A name is first that of a column, whatever characters it has. Where the table has no such column, the name is a path:
`payment.amount` is the field `amount` of the struct `payment`, and a part with a dot stands between backticks. Two
names that differ in case are different.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pyspark.sql import Column, DataFrame
from pyspark.sql.types import ArrayType, DataType, MapType, StructType

from jobs.config.location import NAME_PART, name_parts
from jobs.console.text import sql_name
from jobs.lake.csv_rows import MALFORMED
from jobs.profiles.templates import named


class PathError(ValueError):
    """A name that leads to no single value; the message says where it ends."""


def add_paths(df: DataFrame, names: Iterable[str]) -> tuple[DataFrame, dict[str, str]]:
    """Return a table with a column for each name that is a path, under the name as written, and the errors by name."""
    schema, columns, errors = df.schema, {}, {}
    for name in dict.fromkeys(names):
        if name in schema.names:
            continue
        try:
            columns[name] = _resolve(schema, name)
        except PathError as error:
            errors[name] = str(error)
    return df.withColumns(columns) if columns else df, errors


def available_names(schema: StructType) -> list[str]:
    """Return the names that lead to the values of a table: its columns, and the fields of its structs as paths."""
    return [name for field in schema if field.name != MALFORMED for name in _names(field.name, field.dataType)]


def _names(name: str, dtype: DataType) -> Iterator[str]:
    if not isinstance(dtype, StructType):
        yield name
        return
    for field in dtype:
        part = field.name if NAME_PART.fullmatch(field.name) else sql_name(field.name)
        yield from _names(f"{name}.{part}", field.dataType)


def _resolve(schema: StructType, name: str) -> Column:
    parts = name_parts(name)
    column: Column | None = None
    dtype: DataType = schema
    for number, part in enumerate(parts):
        path = ".".join(parts[:number])
        if isinstance(dtype, ArrayType | MapType):
            kind = "an array" if isinstance(dtype, ArrayType) else "a map"
            raise PathError(f"{path} is {kind}, of which a row has several values; name a view that has one")
        if not isinstance(dtype, StructType) or part not in dtype.names:
            raise PathError("")
        if sum(other.casefold() == part.casefold() for other in dtype.names) > 1:
            raise PathError(f"two fields are named {part} but for case; name a view that has one")
        column = named(part) if column is None else column.getField(part)
        dtype = dtype[part].dataType
    if column is None:
        raise PathError("")
    return column
