"""The canonical user id: the one text that names a user in every table, store and command.

A table, a data frame or a caller may write the id of one user in several types. `docs/deployment.md` has the rule in a
table. This module applies it to values of Python, pandas, numpy and Arrow; `spark_user_ids` has the same rule for a
column of Spark.
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterable, Sequence
from decimal import Decimal
from numbers import Integral
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.errors import InstructUEError

MISSING = "no user id"
EMPTY = "empty user id"
NOT_UTF8 = "user id is not UTF-8"
NOT_WHOLE = "user id is not a whole number"
INEXACT = "user id is too large for a floating-point number"
TOO_LONG = "user id has more than 76 digits"
EXACT_BITS = {16: 11, 32: 24, 64: 53}
"""By the width of a floating-point type: it holds every whole number below two to this power."""
PADDING = " "
"""What SQL adds to a CHAR(n); it is no part of an id at the end of any text."""
ACCEPTED = "texts, whole numbers or decimals"
"""The types of a user id in words."""
MAX_DIGITS = 76
"""Digits of the longest decimal of Arrow; those of Spark have 38."""


class UserIdError(InstructUEError):
    """A value that is no user id; the message begins with the reason."""


def user_id(value: object) -> str:
    """Return the canonical user id of a value of Python, pandas or numpy.

    Raises
    ------
    UserIdError
        The value is missing, empty, not a whole number, or of a type that holds no user id.
    """
    if is_missing(value):
        raise UserIdError(MISSING)
    if isinstance(value, str):
        return _of_text(value)
    if isinstance(value, Integral) and not isinstance(value, bool):  # includes numpy's whole numbers
        return _digits(int(value))
    if isinstance(value, float | np.floating):
        return _of_float(value)
    if isinstance(value, Decimal):
        return _of_decimal(value)
    raise UserIdError(f"user id of type {type(value).__name__}: give {ACCEPTED}")


def user_ids(values: Iterable[object]) -> list[str]:
    """Return the canonical user ids of a list, an array of numpy, or a column of pandas or Arrow.

    Raises
    ------
    UserIdError
        A value has none; the message names the first such row, from 0.
    """
    if isinstance(values, str | bytes):
        raise UserIdError(f"users = {values!r}: give them in a list")
    # A column of pandas yields Python's numbers, which no longer say how exact those of 32 bits are.
    dtype = getattr(values, "dtype", None)
    if hasattr(dtype, "pyarrow_dtype"):
        values = pa.array(values)
    elif hasattr(dtype, "categories") or getattr(dtype, "kind", None) == "f":
        values = np.asarray(values)
    if isinstance(values, pa.Array | pa.ChunkedArray):
        ids, reasons = user_id_array(values)
        if reasons.null_count < len(reasons):
            row = pc.index(pc.is_valid(reasons), True).as_py()
            raise UserIdError(f"row {row}: {reasons[row].as_py()}")
        return list(ids.to_pylist())
    result = []
    for row, value in enumerate(values):
        try:
            result.append(user_id(value))
        except UserIdError as error:
            raise UserIdError(f"row {row}: {error}") from None
    return result


def user_id_array(values: pa.Array | pa.ChunkedArray) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Return the canonical user ids of an Arrow column, null where a value has none, and there the reason.

    Raises
    ------
    UserIdError
        The type of the column holds no user ids.
    """
    if not holds_user_ids(values.type):
        raise UserIdError(f"user ids of type {values.type}: give {ACCEPTED}")
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    chunked = values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([values])
    coded = chunked.combine_chunks().dictionary_encode()
    distinct = [_id_or_reason(value) for value in _scalars(coded.dictionary)]
    ids = pa.array([of_value for of_value, _ in distinct], pa.string()).take(coded.indices)
    reasons = pa.array([reason for _, reason in distinct], pa.string()).take(coded.indices)
    reasons = pc.if_else(pc.is_null(coded.indices), pa.scalar(MISSING), reasons)
    return pa.chunked_array([ids]), pa.chunked_array([reasons])


def user_id_sql(column: str) -> str:
    """Return the canonical user id of a column of any type as an expression of Spark SQL, for a person's statements."""
    is_fraction = f"typeof({column}) IN ('float', 'double') OR typeof({column}) LIKE 'decimal%'"
    whole = f"CASE WHEN CAST({column} % 1 AS DOUBLE) = 0 THEN CAST(TRY_CAST({column} AS DECIMAL(38, 0)) AS STRING) END"
    return f"CASE WHEN {is_fraction} THEN {whole} ELSE rtrim(CAST({column} AS STRING)) END"


def user_id_of_json_sql(column: str, key: str) -> str:
    """Return the canonical user id at a key of a column of JSON as an expression of Spark SQL."""
    value = f"variant_get(try_parse_json({column}), '$[\\'{key}\\']')"
    number = f"CAST(try_variant_get({value}, '$', 'decimal(38, 0)') AS STRING)"
    return f"CASE WHEN schema_of_variant({value}) = 'STRING' THEN rtrim(CAST({value} AS STRING)) ELSE {number} END"


def holds_user_ids(kind: pa.DataType) -> bool:
    """Return whether a column of an Arrow type may hold user ids."""
    types = pa.types
    if types.is_dictionary(kind):
        return holds_user_ids(kind.value_type)
    text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    return bool(text or types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind))


def is_missing(value: object) -> bool:
    """Return whether a value is None, NaN, or one of pandas' markers of a missing value."""
    if value is None or (isinstance(value, float | np.floating) and value != value):
        return True
    pandas = sys.modules.get("pandas")  # a value of pandas exists only where pandas is imported
    return pandas is not None and (value is pandas.NA or value is pandas.NaT)


def _id_or_reason(value: object) -> tuple[str | None, str | None]:
    try:
        return user_id(value), None
    except UserIdError as error:
        return None, str(error)


def _scalars(values: pa.Array) -> Sequence[Any]:
    """Return the values of an Arrow array: floating-point numbers with their type, texts that are not UTF-8 as such."""
    if pa.types.is_floating(values.type):
        return list(values.to_numpy(zero_copy_only=False))
    if pa.types.is_integer(values.type) or pa.types.is_decimal(values.type):
        return list(values.to_pylist())
    # An invalid byte becomes a lone surrogate, which `_of_text` refuses.
    return [value.decode("utf-8", "surrogateescape") for value in values.cast(pa.large_binary()).to_pylist()]


def _of_text(text: str) -> str:
    text = str.__str__(text)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        # Replacing invalid bytes could give two users one id.
        raise UserIdError(NOT_UTF8) from None
    if not any(_is_visible(character) for character in text):
        raise UserIdError(EMPTY)
    return text.rstrip(PADDING)


def _is_visible(character: str) -> bool:
    """Return whether a character is neither blank, nor a control or format character (`spark_user_ids.VISIBLE`)."""
    category = unicodedata.category(character)
    return category[0] != "Z" and category not in ("Cc", "Cf")


def _of_float(number: float | np.floating[Any]) -> str:
    if np.isinf(number):
        raise UserIdError(NOT_WHOLE)
    bits = 8 * number.itemsize if isinstance(number, np.floating) else 64
    if abs(number) >= 2 ** EXACT_BITS[min(bits, 64)]:
        raise UserIdError(INEXACT)
    if not number.is_integer():
        raise UserIdError(NOT_WHOLE)
    return str(int(number))


def _of_decimal(number: Decimal) -> str:
    if number.is_nan():
        raise UserIdError(MISSING)
    if number.is_infinite() or number != number.to_integral_value():
        raise UserIdError(NOT_WHOLE)
    if number and number.adjusted() >= MAX_DIGITS:
        raise UserIdError(TOO_LONG)
    return _digits(int(number))


def _digits(number: int) -> str:
    if abs(number) >= 10**MAX_DIGITS:
        raise UserIdError(TOO_LONG)
    return str(number)
