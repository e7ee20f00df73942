"""Typed columns of a table of profiles.

Shapes: U users of a table.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from model.errors import InstructUEError


class ProfileError(InstructUEError):
    """Rows that are no profiles of this network."""


def number_column(table: pa.Table, name: str) -> NDArray[np.float64]:
    """Return a tabular number, `[U]`; NaN where it is missing."""
    column = cast_column(field_of(table, "tabular", name, "double"), pa.float64(), f"tabular.{name}")
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float64)


def string_column(table: pa.Table, name: str) -> pa.Array:
    """Return a tabular category as strings, `[U]`; null where it is missing."""
    return cast_column(field_of(table, "tabular", name, "string"), pa.large_string(), f"tabular.{name}")


def column_of(table: pa.Table, name: str, kind: str) -> pa.Array:
    """Return a column in one piece; `kind` is its type for the error message.

    Raises
    ------
    ProfileError
        When there is none of this name.
    """
    if name not in table.column_names:
        raise ProfileError(
            f"the profiles have no column {name!r} ({kind}), only {', '.join(table.column_names)}: "
            "assemble them with the deployment that the network was trained for"
        )
    column = table.column(name).combine_chunks()
    return pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column


def field_of(table: pa.Table, struct: str, name: str, kind: str) -> pa.Array:
    """Return a field of a struct column; `kind` is its type for the error message.

    Raises
    ------
    ProfileError
        When the column or the field is missing.
    """
    column = column_of(table, struct, f"struct with the field {name}: {kind}")
    if not pa.types.is_struct(column.type) or column.type.get_field_index(name) < 0:
        raise ProfileError(
            f"the column {struct!r} of the profiles is {column.type}, without the field {name!r} ({kind}): "
            "assemble them with the deployment that the network was trained for"
        )
    return pc.struct_field(column, name)


def cast_column(column: pa.Array, kind: pa.DataType, name: str) -> pa.Array:
    """Return a column as another type.

    Raises
    ------
    ProfileError
        When a value does not fit the type.
    """
    try:
        return column.cast(kind)
    except pa.ArrowInvalid as error:
        raise ProfileError(f"{name!r} of the profiles is {column.type}, not {kind} ({error}): correct it") from error
    except pa.ArrowNotImplementedError as error:
        raise ProfileError(f"{name!r} of the profiles is {column.type}, not {kind}: correct it") from error
