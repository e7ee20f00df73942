"""What aggregates read of each event: the columns of their values, divisors and conditions.

Each is computed once for a source's row, before the rows of all sources are brought to their users. Aggregates that
read the same expression share its column.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, DoubleType, FloatType

from jobs.config.aggregate import Aggregate
from jobs.config.functions import ColumnKind
from jobs.config.sections import EventSource
from jobs.lake.times import to_local
from jobs.profiles import templates
from jobs.profiles.expressions import ExpressionKind, expression_problem, with_time_columns
from jobs.profiles.templates import named

TEXT_CHARACTERS = 100
"""The longest text that `top` compares."""


@dataclass(frozen=True, kw_only=True)
class Expression:
    """An SQL expression that a key of an aggregate holds."""

    key: str
    text: str
    kind: ExpressionKind
    where: str | None = None
    """The condition of the rows on which it is computed; None: every good row."""

    def column(self, source: str) -> str:
        """Return the name of the column with its result in a source's rows."""
        content = f"{self.text}\0{self.where}"
        return f"__{self.kind}_{source}_{sha256(content.encode()).hexdigest()[:16]}"

    def result(self) -> Column:
        """Return its result on a row; null where the row is not good or does not fulfil `where`.

        It is not computed there: a division or a cast that `where` guards against would fail the job.
        """
        good = F.col("__rejected").isNull()
        return F.when(good if self.where is None else good & F.expr(self.where), F.expr(self.text))


def expressions(aggregate: Aggregate) -> Iterator[Expression]:
    """Yield the SQL expressions of an aggregate."""
    if aggregate.value is not None:
        yield _value_expression(aggregate)
    if aggregate.divisor is not None:
        yield Expression(key="divisor", text=aggregate.divisor, kind="number", where=aggregate.where)
    if aggregate.where is not None:
        yield Expression(key="where", text=aggregate.where, kind="condition")


def expression_errors(df: DataFrame, aggregates: Sequence[Aggregate]) -> list[str]:
    """Return a line for each expression of these aggregates that does not fit the columns of their source."""
    problems: dict[tuple[str, ExpressionKind], str | None] = {}
    errors = []
    for aggregate in aggregates:
        for expression in expressions(aggregate):
            read = expression.text, expression.kind
            if read not in problems:
                problems[read] = expression_problem(df, *read)
            if problem := problems[read]:
                errors.append(f"  aggregates.{aggregate.name}.{expression.key} = {expression.text}: {problem}")
    return errors


def with_expressions(
    df: DataFrame, source: EventSource, aggregates: Sequence[Aggregate]
) -> tuple[DataFrame, list[str]]:
    """Return a source's validated rows with the result of each expression, and the names of these columns."""
    read = {e.column(source.name): e for a in aggregates for e in expressions(a)}
    if not read:
        return df, []
    results = {name: expression.result() for name, expression in read.items()}
    computed = with_time_columns(df, to_local(F.col("__time"), source.timezone)).withColumns(results)
    converted = {name: _converted(F.col(name), computed.schema[name].dataType, e.kind) for name, e in read.items()}
    names = [named(column) for column in df.columns]
    return computed.withColumns(converted).select(*names, *read), [*read]


def input_columns(df: DataFrame, source: str, aggregates: Sequence[Aggregate]) -> dict[str, Column]:
    """Return the columns that the aggregates of a source read of its rows, by their names.

    `df` has the declared columns and the results of `with_expressions`.
    """
    columns = {e.column(source): F.col(e.column(source)) for a in aggregates for e in expressions(a)}
    for aggregate in aggregates:
        if aggregate.column is not None and aggregate.column_kind is not None:
            value = named(aggregate.column)
            converted = _converted(value, df.schema[aggregate.column].dataType, aggregate.column_kind)
            columns[_table_column(aggregate, aggregate.column_kind)] = converted
    return columns


def value_column(aggregate: Aggregate) -> Column:
    """Return the value that an aggregate reads of each row; null where it reads none."""
    if aggregate.value is not None:
        return F.col(_value_expression(aggregate).column(aggregate.source))
    if aggregate.column is not None and aggregate.column_kind is not None:
        return named(_table_column(aggregate, aggregate.column_kind))
    return F.lit(None)


def divisor_column(aggregate: Aggregate) -> Column:
    """Return the divisor that an aggregate reads of each row; null where it reads none."""
    return _result_of(aggregate, "divisor")


def fulfils(aggregate: Aggregate) -> Column | None:
    """Return whether a row fulfils an aggregate's `where`; None without one."""
    return None if aggregate.where is None else F.coalesce(_result_of(aggregate, "where"), F.lit(False))


def _result_of(aggregate: Aggregate, key: str) -> Column:
    names = [e.column(aggregate.source) for e in expressions(aggregate) if e.key == key]
    return F.col(names[0]) if names else F.lit(None)


def _value_expression(aggregate: Aggregate) -> Expression:
    assert aggregate.column_kind in ("number", "text", "id")
    return Expression(key="value", text=str(aggregate.value), kind=aggregate.column_kind, where=aggregate.where)


def _converted(value: Column, dtype: DataType, kind: ExpressionKind | ColumnKind) -> Column:
    """Return a value as its kind is read: no NaN, no negative zero among ids, a text in its words."""
    if kind == "number":
        return templates.number(value, dtype)
    if kind == "text":
        return templates.words(value, TEXT_CHARACTERS)
    if isinstance(dtype, FloatType | DoubleType):
        return F.when(~F.isnan(value), value + F.lit(0.0))
    return value


def _table_column(aggregate: Aggregate, kind: ColumnKind) -> str:
    """Return the name of the column with a table's column in a source's rows."""
    # Ids and values may be of any type, so no two sources share a column of them: no source's name has a dot.
    return f"__{kind}_{aggregate.source}.{aggregate.column}"
