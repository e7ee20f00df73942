"""SQL expressions over the columns of a source's events, which aggregates and questions name.

Beside the columns of the source's table an expression may name those of `TIMES`. Its result may depend on the event
alone, or a day that is computed again would differ.
"""

from __future__ import annotations

from typing import Any, Literal

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import AtomicType, BinaryType, BooleanType, DataType, NumericType, VariantType

from jobs.profiles import templates

ExpressionKind = Literal["condition", "number", "text", "id"]
"""What an expression must result in; `text` and `id` are any single value."""
TIMES = {"weekday": templates.weekday, "daypart": templates.daypart, "month": templates.month, "hour": templates.hour}
"""Columns of the event's time that an expression may name."""


def with_time_columns(df: DataFrame, time: Column) -> DataFrame:
    """Return the table with the columns of `TIMES`; a column of the source with such a name comes first."""
    return df.withColumns({name: words(time) for name, words in TIMES.items() if not has_column(df, name)})


def has_column(df: DataFrame, name: str) -> bool:
    """Return whether a table has a column; Spark's names ignore case."""
    return name in {column.lower() for column in df.columns}


def expression_problem(df: DataFrame, expression: str, kind: ExpressionKind) -> str | None:
    """Return why an expression over a source's rows cannot be used and what to do; None if it can be used.

    `df` has the columns that the expression may name; no row of it is read.
    """
    # The columns of the time are null here: made of the present time, they would make every plan depend on it.
    df = with_time_columns(df, F.lit(None).cast("timestamp"))
    try:
        selected = df.select(F.expr(expression).alias("e"))
        dtype = selected.schema["e"].dataType
        df.where(F.expr(expression).isNotNull())
    except AnalysisException as error:
        return f"{str(error).strip().splitlines()[0][:200]}; columns are {', '.join(df.columns)}"
    plan: Any = selected._jdf.queryExecution().analyzed()
    patterns: Any = df.sparkSession.sparkContext._jvm.org.apache.spark.sql.catalyst.trees.TreePattern  # type: ignore[union-attr]
    if not plan.deterministic() or plan.containsPattern(patterns.CURRENT_LIKE()):
        return (
            "calls what may answer otherwise the next time (rand, uuid, current_date, java_method, ...); write it with "
            "the columns alone"
        )
    if plan.containsPattern(patterns.PLAN_EXPRESSION()):
        return "reads a table of its own (a subquery); write it with the columns of the event alone"
    return _type_problem(dtype, kind)


def _type_problem(dtype: DataType, kind: ExpressionKind) -> str | None:
    name = dtype.simpleString()
    if kind == "condition":
        return None if isinstance(dtype, BooleanType) else f"is {name}; write a condition"
    if kind == "number":
        return None if isinstance(dtype, NumericType) else f"is {name}; write a number"
    return None if is_single_value(dtype) else f"is {name}; write a single value (a text, number, time or boolean)"


def is_single_value(dtype: DataType) -> bool:
    """Return whether values of a type are single values that have a text."""
    return isinstance(dtype, AtomicType) and not isinstance(dtype, BinaryType | VariantType)
