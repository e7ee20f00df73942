"""The canonical user id: its rule as a table of values, and the same answer from Spark, Arrow, pandas and Python."""

from __future__ import annotations

import datetime as dt
import random
import uuid
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyspark.sql import functions as F

from jobs.lake import spark_user_ids
from jobs.lake.user_ids import (
    EMPTY,
    INEXACT,
    MISSING,
    NOT_UTF8,
    NOT_WHOLE,
    TOO_LONG,
    UserIdError,
    holds_user_ids,
    user_id,
    user_id_array,
    user_id_of_json_sql,
    user_id_sql,
    user_ids,
)

REASONS = {MISSING, EMPTY, NOT_UTF8, NOT_WHOLE, INEXACT, TOO_LONG}
RULE: list[tuple[pa.DataType, Any, str]] = [
    (pa.string(), "u1", "u1"),
    # SPARK-34192, SPARK-40697, SPARK-48498, SPARK-56819
    (pa.string(), "u1      ", "u1"),  # as a CHAR(8) is read
    (pa.string(), " u1", " u1"),
    (pa.string(), "u1\t", "u1\t"),
    (pa.string(), "u1\u00a0", "u1\u00a0"),
    (pa.string(), "u 1", "u 1"),
    # SPARK-34314, apache/spark #55884, iceberg #6779
    (pa.string(), "007", "007"),
    (pa.string(), "12.0", "12.0"),
    (pa.string(), "1e3", "1e3"),
    (pa.string(), "U1", "U1"),
    (pa.string(), "u\u200b1", "u\u200b1"),
    (pa.string(), "\ufeffu1", "\ufeffu1"),
    (pa.string(), "e\u0301", "e\u0301"),
    (pa.string(), "\u00e9", "\u00e9"),
    (pa.string(), "\uff11", "\uff11"),
    (pa.string(), "\U0001f600", "\U0001f600"),
    (pa.string(), "null", "null"),
    (pa.string(), "NaN", "NaN"),
    (pa.string(), "", EMPTY),
    (pa.string(), "   ", EMPTY),
    (pa.string(), " \t\u3000", EMPTY),
    (pa.string(), "\u200b", EMPTY),
    (pa.string(), "\ufeff \u00ad", EMPTY),
    (pa.string(), "\x00", EMPTY),
    (pa.string(), None, MISSING),
    (pa.int8(), -7, "-7"),
    (pa.int16(), 300, "300"),
    (pa.int32(), 0, "0"),
    # pandas #9958
    (pa.int64(), 2**53 + 1, "9007199254740993"),
    (pa.int64(), -(2**63), "-9223372036854775808"),
    (pa.int64(), None, MISSING),
    # gota #205
    (pa.decimal128(10, 2), Decimal("12.00"), "12"),
    # SPARK-39749, comet #1068
    (pa.decimal128(10, 2), Decimal("10.00"), "10"),
    (pa.decimal128(10, 2), Decimal("12.01"), NOT_WHOLE),
    (pa.decimal128(10, 2), Decimal("-0.00"), "0"),
    (pa.decimal128(38, 0), Decimal(2**53 + 1), "9007199254740993"),
    (pa.decimal128(38, 0), Decimal(10**38 - 1), "9" * 38),
    (pa.decimal128(38, 10), Decimal("1.0000000001"), NOT_WHOLE),
    (pa.decimal128(38, 37), Decimal("1." + "0" * 36 + "1"), NOT_WHOLE),
    # SPARK-25177
    (pa.decimal128(38, 38), Decimal("0"), "0"),
    (pa.decimal128(38, 0), None, MISSING),
    (pa.float32(), 2.0**24 - 1, "16777215"),
    (pa.float32(), 2.0**24, INEXACT),  # also what 16777217 becomes
    (pa.float32(), 0.5, NOT_WHOLE),
    # pandas #8596, polars #295
    (pa.float64(), 12.0, "12"),
    (pa.float64(), 1e15, "1000000000000000"),
    # SPARK-26021, SPARK-32110
    (pa.float64(), -0.0, "0"),
    (pa.float64(), 12.5, NOT_WHOLE),
    (pa.float64(), 2.0**53 - 1, "9007199254740991"),
    # pandas #9958, databend #3175
    (pa.float64(), 2.0**53, INEXACT),  # also what 2**53 + 1 becomes
    (pa.float64(), 1e300, INEXACT),
    (pa.float64(), float("inf"), NOT_WHOLE),
    (pa.float64(), float("-inf"), NOT_WHOLE),
    (pa.float64(), float("nan"), MISSING),
    (pa.float64(), 5e-324, NOT_WHOLE),
    (pa.float64(), None, MISSING),
]


def generated(kind: pa.DataType) -> list[Any]:
    """Return 300 values of a type that lie about the edges of the rule."""
    rng = random.Random(str(kind))
    if kind == pa.string():
        letters = "aA0 7\t\u00a0\u200b\u3000\ufeff\u0301\u00e9\x00\x1f\x85\u2028.é中\U0001f600"
        return ["".join(rng.choices(letters, k=rng.randrange(5))) for _ in range(300)]
    if pa.types.is_integer(kind):
        return [rng.randrange(-(2 ** (kind.bit_width - 1)), 2 ** (kind.bit_width - 1)) for _ in range(300)]
    if pa.types.is_decimal(kind):
        digits = [rng.randrange(10 ** rng.randint(1, kind.precision)) for _ in range(300)]
        return [Decimal((rng.randrange(2), tuple(map(int, str(d))), -kind.scale)) for d in digits] + [
            Decimal((0, tuple(map(int, str(d))), 0)) for d in range(10 if kind.scale < kind.precision else 0)
        ]
    edge = 2.0 ** (24 if kind == pa.float32() else 53)
    whole = [rng.choice([edge, 0.0, 1e9, 1e30]) + rng.randrange(-3, 4) for _ in range(150)]
    return [float(np.float32(x)) if kind == pa.float32() else x for x in (*whole, *(x / 2 for x in whole))]


def in_python(values: list[Any], kind: pa.DataType) -> list[tuple[str | None, str | None]]:
    def one(value: Any) -> tuple[str | None, str | None]:
        try:
            return user_id(np.float32(value) if kind == pa.float32() and value is not None else value), None
        except UserIdError as error:
            return None, str(error)

    return [one(value) for value in values]


@pytest.fixture(scope="module")
def in_spark(spark):
    def read(values: list[Any], kind: pa.DataType) -> list[tuple[str | None, str | None]]:
        rows = spark.createDataFrame(pa.table({"n": range(len(values)), "v": pa.array(values, kind)}))
        dtype, value = rows.schema["v"].dataType, F.col("v")
        of_json = user_id_of_json_sql("to_json(named_struct('v', v))", "v")
        answers = sorted(
            rows.select(
                "n",
                spark_user_ids.user_id_column(value, dtype),
                spark_user_ids.refusal_column(value, dtype),
                F.expr(user_id_sql("`v`")),
                F.expr(of_json),
            ).collect()
        )
        for _, user, reason, in_sql, in_json in answers:
            assert reason or user == in_sql == in_json
        return [(user, reason) for _, user, reason, _, _ in answers]

    return read


@pytest.mark.parametrize("kind", dict.fromkeys(kind for kind, _, _ in RULE), ids=str)
def test_spark_arrow_and_python_agree_with_the_rule(in_spark, kind) -> None:
    stated = [(value, word) for of, value, word in RULE if of == kind]
    values = [value for value, _ in stated] + generated(kind)
    answers = in_python(values, kind)
    assert [(word, None) if word not in REASONS else (None, word) for _, word in stated] == answers[: len(stated)]
    ids, reasons = user_id_array(pa.array(values, kind))
    assert list(zip(ids.to_pylist(), reasons.to_pylist(), strict=True)) == answers
    assert in_spark(values, kind) == answers
    assert all((user is None) != (reason is None) for user, reason in answers)


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (np.int64(7), "7"),
        (np.uint64(2**64 - 1), "18446744073709551615"),
        (np.str_("u1  "), "u1"),
        (np.float64(12), "12"),
        (np.float32(2**24), INEXACT),
        (np.float16(2048), INEXACT),
        (np.float16(2047), "2047"),
        (Decimal("1E+3"), "1000"),
        (Decimal("-0"), "0"),
        (Decimal(10**40 + 1), str(10**40 + 1)),
        (Decimal("1E+400"), TOO_LONG),
        (Decimal("1E-9"), NOT_WHOLE),
        (Decimal("NaN"), MISSING),
        (Decimal("Infinity"), NOT_WHOLE),
        (10**76, TOO_LONG),
        (pd.NA, MISSING),
        (pd.NaT, MISSING),
        (np.float64("nan"), MISSING),
        ("\ud800", NOT_UTF8),
        (True, "user id of type bool: give texts, whole numbers or decimals"),
        (np.True_, "user id of type bool: give texts, whole numbers or decimals"),
        (b"u1", "user id of type bytes: give texts, whole numbers or decimals"),
        (dt.date(2025, 1, 1), "user id of type date: give texts, whole numbers or decimals"),
        (np.datetime64("2025-01-01"), "user id of type datetime64: give texts, whole numbers or decimals"),
        (uuid.UUID(int=1), "user id of type UUID: give texts, whole numbers or decimals"),
        (1j, "user id of type complex: give texts, whole numbers or decimals"),
        (["u1"], "user id of type list: give texts, whole numbers or decimals"),
    ],
    ids=repr,
)
def test_one_value_of_python(value, word) -> None:
    [(user, reason)] = in_python([value], pa.null())
    assert (user or reason) == word


@pytest.mark.parametrize(
    "values",
    [
        ["12", 12, 12.0, Decimal("12.00"), np.int32(12)],
        pd.Series([12.0, 12.0]),
        pd.Series([12, 12], dtype="Int64"),
        pd.Series([12, 12], dtype="float[pyarrow]"),
        pd.Series(["12", "12  "], dtype="string"),
        pd.Series(["12", "12"], dtype="category"),
        pd.Series([12, "12"], dtype=object),
        np.array([12, 12], dtype=np.uint8),
        np.array(["12", "12"]),
        pa.array(["12", "12  "], pa.large_string()),
        pa.array(["12", "12 "]).dictionary_encode(),
        pa.array([12, 12], pa.uint64()),
        pa.chunked_array([pa.array([12.0]), pa.array([12.0])]),
        ("12", "12"),
        pd.Index([12, 12]),
    ],
    ids=lambda values: f"{type(values).__name__} {getattr(values, 'dtype', getattr(values, 'type', ''))}",
)
def test_lists_and_columns(values) -> None:
    assert set(user_ids(values)) == {"12"}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["u1", None], "row 1: no user id"),
        (pd.Series([1.0, np.nan]), "row 1: no user id"),
        (pd.Series([1, None], dtype="Int64"), "row 1: no user id"),
        (pd.Series([2.0**24], dtype="float32"), f"row 0: {INEXACT}"),
        (pd.Series([2.0**24], dtype="Float32"), f"row 0: {INEXACT}"),
        (pd.Series([2.0**24], dtype="float[pyarrow]"), f"row 0: {INEXACT}"),
        (pd.Series([2.0**24], dtype="float32").astype("category"), f"row 0: {INEXACT}"),
        (pd.Series(["u1", ""], dtype="category"), f"row 1: {EMPTY}"),
        (pd.Series([True]), "row 0: user id of type bool"),
        (pa.array(["u1", " "]), f"row 1: {EMPTY}"),
        (pa.array([True]), "user ids of type bool"),
        (pa.array([b"u1"]), "user ids of type binary"),
        (pa.array([b"u1"]).dictionary_encode(), "user ids of type dictionary"),
        (pa.array([None]), "user ids of type null"),
        (pa.array([{"a": 1}]), "user ids of type struct"),
        ("u1", "give them in a list"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_columns_that_are_refused(values, said) -> None:
    with pytest.raises(UserIdError) as caught:
        user_ids(values)
    assert said in str(caught.value)


def test_texts_that_are_not_utf8(spark) -> None:
    broken = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"u\xff")])
    ids, reasons = user_id_array(broken)
    assert (ids.to_pylist(), reasons.to_pylist()) == ([None], [NOT_UTF8])
    value = F.col("v")
    rows = spark.sql("SELECT CAST(X'75ff' AS STRING) AS v")
    dtype = rows.schema["v"].dataType
    [row] = rows.select(
        spark_user_ids.user_id_column(value, dtype), spark_user_ids.refusal_column(value, dtype)
    ).collect()
    assert tuple(row) == (None, NOT_UTF8)


def test_a_collation_does_not_make_two_users_one(spark) -> None:
    texts = "VALUES ('u1'), ('U1'), ('u1 '), ('u\u200b1') AS t(v)"
    for collation in ("UTF8_LCASE", "UTF8_BINARY_RTRIM", "UNICODE_CI"):
        rows = spark.sql(f"SELECT collate(v, '{collation}') AS v FROM {texts}")
        ids = rows.select(spark_user_ids.user_id_column(F.col("v"), rows.schema["v"].dataType).alias("user"))
        counted = {row["user"]: row["count"] for row in ids.groupBy("user").count().collect()}
        assert counted == {"u1": 2, "U1": 1, "u\u200b1": 1}


def test_types_that_hold_no_user_ids(spark) -> None:
    schema = spark.sql(
        "SELECT true a, X'00' b, DATE'2025-01-01' c, now() d, array(1) e, struct(1) f, map(1, 2) g, "
        "INTERVAL 1 DAY h, parse_json('1') i, localtimestamp() j, null k"
    ).schema
    assert not any(spark_user_ids.holds_user_ids(field.dataType) for field in schema)
    assert not any(map(holds_user_ids, (pa.bool_(), pa.binary(), pa.date32(), pa.timestamp("us"), pa.list_(pa.int8()))))
