"""The rows for which `features` returns vectors: a data frame of pandas or Spark, validated and as Arrow.

Every column is kept. The user id and the time are made canonical; a column that Spark or Arrow cannot hold, or whose
name is not the name of one column, is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import from_arrow_type
from pyspark.sql.types import VariantType

from jobs.lake.user_ids import is_missing, user_ids
from model.errors import InstructUEError

USER, TIME = "user_id", "as_of"
MOMENT = pa.timestamp("us", "UTC")
WIDER = {
    pa.uint8(): pa.int16(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.uint64(): pa.decimal128(20),
    pa.float16(): pa.float32(),
    pa.null(): pa.string(),
    pa.date64(): pa.date32(),
    pa.string_view(): pa.string(),
    pa.binary_view(): pa.binary(),
}
"""Types of Arrow that Spark lacks, and the narrowest of its types that holds their values."""
FIX = "give it user_id and as_of, one row for each user and time"


class FrameError(InstructUEError):
    """A data frame for which `features` cannot return vectors."""


def read_rows(entity_df: pd.DataFrame | DataFrame, added: Iterable[str]) -> pa.Table:
    """Return the rows as Arrow, in their order: user_id as a canonical text, as_of as UTC, the others as they are.

    Parameters
    ----------
    entity_df : pandas.DataFrame or DataFrame
        A Spark DataFrame is collected.
    added : iterable of str
        The columns that the result has beside those of the frame.

    Raises
    ------
    FrameError
        The frame is empty, lacks a column, or has one that the result cannot have; or a time is missing or wrong.
    UserIdError
        A row has no user id, or one of a type that holds none.
    """
    if not isinstance(entity_df, pd.DataFrame | DataFrame):
        raise FrameError(f"entity_df is {type(entity_df).__name__}; give a DataFrame of pandas or Spark")
    names = _names(entity_df, {name.casefold(): name for name in added})
    columns = _collect(entity_df, names)
    if not len(columns[USER]):
        raise FrameError(f"entity_df has no row; {FIX}")
    arrays = {name: _array(name, column) for name, column in columns.items() if name not in (USER, TIME)}
    arrays[USER] = pa.array(user_ids(columns[USER]), pa.string())
    arrays[TIME] = moments(columns[TIME])
    return pa.table([arrays[name] for name in names], names)


def moments(values: Any) -> pa.ChunkedArray:
    """Return times as UTC, to the microsecond, from a column of pandas or Arrow.

    Times and ISO texts without an offset are UTC, and a date is its midnight. Kinds may be mixed in a column.

    Raises
    ------
    FrameError
        A value is missing or is none of these.
    """
    column = values if isinstance(values, pa.ChunkedArray) else _times_of_pandas(values)
    if isinstance(column, pa.ChunkedArray) and (pa.types.is_timestamp(column.type) or pa.types.is_date(column.type)):
        if column.null_count:
            raise FrameError(f"row {pc.index(pc.is_null(column), True).as_py()}: no time in as_of; drop the row")
        if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
            column = pc.floor_temporal(column, unit="microsecond")
        zone = getattr(column.type, "tz", None)
        return column.cast(MOMENT) if zone else column.cast(pa.timestamp("us")).cast(MOMENT)
    parsed: dict[Any, datetime] = {}
    objects = column.to_pylist() if isinstance(column, pa.ChunkedArray) else column
    for row, value in enumerate(objects):
        try:
            if value not in parsed:
                parsed[value] = _moment(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise FrameError(f"row {row}: as_of = {value!r}: {error}") from None
    return pa.chunked_array([pa.array([parsed[value] for value in objects], MOMENT)])


def _names(entity_df: pd.DataFrame | DataFrame, added: dict[str, str]) -> list[str]:
    """Return the names of the columns; Spark takes two names for one that differ in case alone."""
    names = list(entity_df.columns)
    if isinstance(entity_df, pd.DataFrame) and entity_df.columns.nlevels > 1:
        raise FrameError("entity_df has column names of several levels; flatten them to texts")
    if odd := [name for name in names if not isinstance(name, str) or not name.strip()]:
        raise FrameError(f"entity_df has a column named {odd[0]!r}; rename it to a text")
    if missing := [name for name in (USER, TIME) if name not in names]:
        levels = entity_df.index.names if isinstance(entity_df, pd.DataFrame) else []
        fix = "it is in the index: call reset_index() first" if missing[0] in levels else FIX
        raise FrameError(f"entity_df has no column {missing[0]}; {fix}")
    counts = Counter(name.casefold() for name in names)
    if repeated := [name for name in names if counts[name.casefold()] > 1]:
        raise FrameError(f"entity_df has two columns named {' and '.join(map(repr, repeated[:2]))}; rename one")
    if clash := [name for name in names if name.casefold() in added]:
        raise FrameError(
            f"entity_df has a column {clash[0]!r}, and the result has a column {added[clash[0].casefold()]!r} of its "
            "own; rename it, or name other scenarios"
        )
    return names


def _collect(entity_df: pd.DataFrame | DataFrame, names: Sequence[str]) -> dict[str, Any]:
    """Return each column: a series of pandas, or a column of Arrow."""
    if isinstance(entity_df, pd.DataFrame):
        return {name: entity_df[name] for name in names}
    try:
        # As Arrow, whose whole numbers stay exact beside a missing one; pandas makes doubles of them.
        columns = dict(zip(names, entity_df.toArrow().columns, strict=True))
    except PySparkException as error:
        raise FrameError(f"entity_df cannot be collected ({error}); select other columns or cast this one") from None
    for field in entity_df.schema:
        if isinstance(field.dataType, VariantType):
            raise _unkept(field.name, "variant", "Arrow has no such type")
    return columns


def _unkept(name: str, kind: object, why: str) -> FrameError:
    fix = "drop it, or convert it to numbers, texts or times"
    return FrameError(f"column {name!r} of entity_df ({kind}) cannot be kept: {why}; {fix}")


def _array(name: str, column: Any) -> pa.ChunkedArray:
    """Return a column as Arrow, of a type that Spark has."""
    try:
        array = column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([pa.Array.from_pandas(column)])
        if pa.types.is_dictionary(array.type):
            array = array.cast(array.type.value_type)
        if pa.types.is_timestamp(array.type) or pa.types.is_duration(array.type):
            kind = pa.timestamp("us", array.type.tz) if pa.types.is_timestamp(array.type) else pa.duration("us")
            array = array.cast(kind, safe=False)
        array = array.cast(WIDER.get(array.type, array.type))
        from_arrow_type(array.type)
    except (PySparkException, pa.ArrowException, TypeError, ValueError) as error:
        kind = column.type if isinstance(column, pa.ChunkedArray) else column.dtype
        raise _unkept(name, kind, str(error).partition("\n")[0]) from None
    return array


def _times_of_pandas(values: pd.Series) -> Any:
    """Return a series of times as Arrow, or else its objects."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(values.dtype.categories.dtype)
    if isinstance(values.dtype, pd.PeriodDtype) or values.dtype.kind in "iufcb":
        raise FrameError(f"as_of is {values.dtype}; give times, dates or ISO texts")
    return pa.chunked_array([pa.Array.from_pandas(values)]) if values.dtype.kind == "M" else values.tolist()


def _moment(value: Any) -> datetime:
    """Return one time, UTC; raise ValueError or TypeError for a value that is none."""
    if isinstance(value, np.datetime64):
        value = pd.Timestamp(value)
    if is_missing(value):
        raise ValueError("is missing; drop the row")
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            raise ValueError("is not an ISO time; write it as 2026-01-31T12:00:00+00:00 or 2026-01-31") from None
    if isinstance(value, pd.Timestamp):
        value = value.floor("us").to_pydatetime()
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    raise TypeError(f"is of type {type(value).__name__}; give a time, a date or an ISO text")
