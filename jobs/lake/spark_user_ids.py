"""The canonical user id as columns of Spark; `user_ids` has the same rule for values of Python and Arrow."""

from __future__ import annotations

from decimal import Decimal

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import (
    CharType,
    DataType,
    DecimalType,
    FloatType,
    FractionalType,
    IntegralType,
    NumericType,
    StringType,
    VarcharType,
)

from jobs.lake.user_ids import EMPTY, EXACT_BITS, INEXACT, MISSING, NOT_UTF8, NOT_WHOLE, PADDING

VISIBLE = r"[^\s\p{Z}\p{Cc}\p{Cf}]"
"""A character that is neither blank, nor a control or format character."""


def holds_user_ids(dtype: DataType) -> bool:
    """Return whether a column of a Spark type may hold user ids."""
    return _is_text(dtype) or isinstance(dtype, NumericType)


def user_id_column(value: Column, dtype: DataType) -> Column:
    """Return the canonical user id of a column, null where `refusal_column` has a reason."""
    if _is_text(dtype):
        text = _text(value)
        return F.when(F.is_valid_utf8(text) & _visible(text), F.rtrim(text, F.lit(PADDING)))
    if isinstance(dtype, IntegralType):
        return value.cast("string")
    if isinstance(dtype, DecimalType):
        return F.when(_fraction(value) == 0, value.cast(DecimalType(38, 0)).cast("string"))
    # 12.0 and 12 are one user: pandas writes ids as doubles where a column holds a null.
    exact = (value == F.floor(value)) & (F.abs(value) < F.lit(_limit(dtype)))
    return F.when(exact, value.try_cast("bigint").cast("string"))


def refusal_column(value: Column, dtype: DataType) -> Column:
    """Return the reason why a value is no user id, null for a good one."""
    reason = F.when(value.isNull(), MISSING)
    if _is_text(dtype):
        text = _text(value)
        return reason.when(~F.is_valid_utf8(text), NOT_UTF8).when(~_visible(text), EMPTY)
    if isinstance(dtype, DecimalType):
        return reason.when(_fraction(value) != 0, NOT_WHOLE)
    if isinstance(dtype, FractionalType):
        size = F.abs(value)
        reason = reason.when(F.isnan(value), MISSING).when(size == F.lit(float("inf")), NOT_WHOLE)
        return reason.when(size >= F.lit(_limit(dtype)), INEXACT).when(value != F.floor(value), NOT_WHOLE)
    return reason


def _is_text(dtype: DataType) -> bool:
    return isinstance(dtype, StringType | CharType | VarcharType)


def _text(value: Column) -> Column:
    """Return a text that is compared by its bytes, whatever the column's collation."""
    return value.cast("string")


def _visible(text: Column) -> Column:
    # For most texts the first character decides without a search.
    return F.ascii(text).between(33, 126) | text.rlike(VISIBLE)


def _fraction(value: Column) -> Column:
    # Spark cuts the last digit of decimal(38, 38) to compare it with a decimal; as a double, 1E-38 is not zero.
    return (value % F.lit(Decimal(1))).cast("double")


def _limit(dtype: DataType) -> float:
    return float(2 ** EXACT_BITS[32 if isinstance(dtype, FloatType) else 64])
