"""A company's own tables: opened, checked against the deployment file, and each row judged.

A judged row keeps its columns and gains `__user` (string), `__time` (timestamp) and `__rejected` (the
reason, null for a good row); event rows also `__id`, `__text` and `__repeated`. Nothing is dropped here, so
that every row in can be accounted for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.types import (
    AtomicType,
    BinaryType,
    BooleanType,
    DataType,
    DateType,
    DecimalType,
    FractionalType,
    IntegralType,
    NumericType,
    StringType,
    StructType,
    TimestampNTZType,
    TimestampType,
    VariantType,
)

from jobs.config.deployment import Deployment
from jobs.config.sections import FIRST_DAY, LAST_DAY, Attributes, EventSource
from jobs.console.text import list_errors
from jobs.lake.delta import MissingTableError, absent_message
from jobs.lake.errors import TableError
from jobs.lake.spark_tables import SourceError, midnight_column
from jobs.profiles import templates
from jobs.profiles.templates import named, visible

ATTRIBUTES = "attributes"
"""Key of the tabular attributes among the event sources' names."""
EXACT_INTEGERS = 2**53
TIMES = (TimestampType, TimestampNTZType, DateType, StringType)


@dataclass(frozen=True, kw_only=True)
class Need:
    """A column that a key of the deployment (or questions) file names, and what it must hold."""

    key: str
    column: str
    kind: str
    """user, time, id, text or number."""


def open_sources(
    deployment: Deployment, read: Callable[[str], DataFrame], more: Mapping[str, Sequence[Need]] | None = None
) -> dict[str, DataFrame]:
    """Every source's table by the source's name, and `attributes` where declared.

    `more` are needs beside the deployment file's own, per source.

    Raises
    ------
    SourceError
        Missing tables, missing columns and wrong types, all of them, each with its key and what to do.
    """
    tables, mistakes = {}, []
    for name, (key, table, needs) in _wanted(deployment).items():
        try:
            tables[name] = read(table)
        except TableError as error:
            why = absent_message(deployment.table(table)) if isinstance(error, MissingTableError) else str(error)
            mistakes.append(f"  {key}.table = {table}: {why}")
            continue
        mistakes += _mistakes(tables[name].schema, table, [*needs, *(more or {}).get(name, ())])
    if mistakes:
        raise SourceError(list_errors(deployment.path, mistakes))
    return tables


def _wanted(deployment: Deployment) -> dict[str, tuple[str, str, list[Need]]]:
    wanted = {}
    for source in deployment.sources:
        key = f"sources.{source.name}"
        needs = [
            Need(key=f"{key}.user", column=source.user, kind="user"),
            Need(key=f"{key}.time", column=source.time, kind="time"),
        ]
        needs += [Need(key=f"{key}.id", column=source.id, kind="id")] if source.id else []
        needs += [
            Need(key=f"{key}.template", column=column, kind=TEMPLATE_KINDS.get(kind, "time"))
            for column, kind in source.fields
        ]
        needs += [
            Need(
                key=f"aggregates.{a.name}.column", column=a.column, kind="id" if a.function == "distinct" else "number"
            )
            for a in deployment.aggregates
            if a.source == source.name and a.column
        ]
        wanted[source.name] = (key, source.table, needs)
    if (attributes := deployment.attributes) is not None:
        needs = [Need(key="attributes.user", column=attributes.user, kind="user")]
        if attributes.valid_from:
            needs.append(Need(key="attributes.valid_from", column=attributes.valid_from, kind="time"))
        needs += [Need(key="attributes.numbers", column=number.column, kind="number") for number in attributes.numbers]
        needs += [
            Need(key="attributes.categories", column=category.column, kind="text") for category in attributes.categories
        ]
        wanted[ATTRIBUTES] = ("attributes", attributes.table, needs)
    return wanted


TEMPLATE_KINDS = {"text": "text", "amount_band": "number"}


def _mistakes(schema: StructType, table: str, needs: Iterable[Need]) -> list[str]:
    found: list[str] = []
    for need in needs:
        if need.column not in schema.names:
            found.append(
                f"  {need.key} = {need.column}: table {table} has no such column; use one of {', '.join(schema.names)}"
            )
        elif not FITS[need.kind](dtype := schema[need.column].dataType):
            found.append(
                f"  {need.key} = {need.column}: column of {table} is {dtype.simpleString()}; {FIXES[need.kind]}"
            )
    return list(dict.fromkeys(found))


def _is_text(dtype: DataType) -> bool:
    return isinstance(dtype, AtomicType) and not isinstance(dtype, BinaryType | VariantType)


FITS: dict[str, Callable[[DataType], bool]] = {
    "user": lambda dtype: isinstance(dtype, StringType | NumericType),
    "time": lambda dtype: isinstance(dtype, TIMES),
    "id": lambda dtype: _is_text(dtype) and not isinstance(dtype, BooleanType),
    "text": _is_text,
    "number": lambda dtype: isinstance(dtype, NumericType | StringType | BooleanType),
}
FIXES = {
    "user": "name a column of texts or numbers",
    "time": "name a column of timestamps, dates or ISO texts",
    "id": "name a column of texts, numbers or times",
    "text": "name a column of single values (texts, numbers, times, booleans)",
    "number": "name a column of numbers",
}


def validated(deployment: Deployment, opened: Mapping[str, DataFrame]) -> dict[str, DataFrame]:
    """Every opened table with each row judged, by the source's name."""
    found = {}
    for source in deployment.sources:
        numbers = [
            a.column
            for a in deployment.aggregates
            if a.source == source.name and a.column and a.function in ("sum", "mean")
        ]
        found[source.name] = validated_events(opened[source.name], source, numbers)
    if deployment.attributes:
        found[ATTRIBUTES] = judged_attributes(opened[ATTRIBUTES], deployment.attributes)
    return found


def validated_events(df: DataFrame, source: EventSource, numbers: Sequence[str] = ()) -> DataFrame:
    """A source's rows with `__user`, `__time`, `__id` and `__rejected`.

    `numbers` are further columns used as numbers: a text there that is no number makes the row refused.
    """
    schema = df.schema
    numbers = [*numbers, *(column for column, kind in source.fields if kind == "amount_band")]
    wrong = [(_not_a_number(name, schema), f"{name} is not a number") for name in dict.fromkeys(numbers)]
    return df.withColumns(
        {
            "__user": _user(source.user, schema),
            "__time": templates.timestamp(named(source.time), schema[source.time].dataType),
            "__id": _id(source.id, schema) if source.id else F.lit(None).cast("string"),
        }
    ).withColumn("__rejected", _reason(source.user, source.time, schema, wrong))


def judged_attributes(df: DataFrame, attributes: Attributes) -> DataFrame:
    """The attributes' rows with `__user`, `__time` (valid from; null where static) and `__rejected`."""
    schema, time = df.schema, attributes.valid_from
    wrong = [
        (_not_a_number(number.column, schema), f"{number.column} is not a number") for number in attributes.numbers
    ]
    parsed = templates.timestamp(named(time), schema[time].dataType) if time else F.lit(None).cast("timestamp")
    return df.withColumns({"__user": _user(attributes.user, schema), "__time": parsed}).withColumn(
        "__rejected", _reason(attributes.user, time, schema, wrong)
    )


def event_rows(
    df: DataFrame, source: EventSource, before: date, columns: Sequence[str] = (), texts_since: date | None = None
) -> DataFrame:
    """Judged rows cut to `columns` beside our own, with `__text` and `__repeated`.

    A repeat is a good row before the midnight of `before` whose declared id an earlier such row has: rows at
    or after it can never change what is kept. Texts are made of events from `texts_since` on.
    """
    raw = list(dict.fromkeys(columns))
    good = F.col("__rejected").isNull() & (F.col("__time") < midnight_column(before))
    text = F.lit(None).cast("string")
    if texts_since is not None:
        text = F.when(
            good & (F.col("__time") >= midnight_column(texts_since)), templates.text(source, df.schema, F.col("__time"))
        )
    # What else tells two rows apart decides between copies of one id, so that the order of rows cannot.
    content = dict.fromkeys([*raw, *(column for column, _ in source.fields)])
    rest = F.xxhash64("__user", "__time", *[named(column) for column in content])
    kept = df.select(
        "__user",
        "__time",
        "__id",
        "__rejected",
        text.alias("__text"),
        rest.alias("__rest"),
        *[named(column) for column in raw],
    )
    if source.id is None:
        return kept.withColumn("__repeated", F.lit(False))
    contest = good & F.col("__id").isNotNull()
    # A number first, for it sorts fast; rows that cannot repeat spread rather than gather at the null id.
    spread = F.when(contest, F.xxhash64("__id")).otherwise(F.col("__rest"))
    window = Window.partitionBy(spread, F.when(contest, F.col("__id"))).orderBy("__time", "__user", "__rest")
    return kept.withColumn("__repeated", contest & (F.row_number().over(window) > 1))


def rejected_rows(df: DataFrame, source: str, raw: Sequence[str]) -> DataFrame:
    """The refused rows of a judged table as (source, reason, row): the row's own columns as JSON."""
    row = F.to_json(F.struct(*[named(column) for column in raw]), {"ignoreNullFields": "false"})
    return df.where(F.col("__rejected").isNotNull()).select(
        F.lit(source).alias("source"), F.col("__rejected").alias("reason"), row.alias("row")
    )


def _user(column: str, schema: StructType) -> Column:
    value, dtype = named(column), schema[column].dataType
    if isinstance(dtype, StringType):
        return F.when(visible(value) & F.is_valid_utf8(value), value)
    if isinstance(dtype, IntegralType):
        return value.cast("string")
    # 12.0 and 12 are one user: a table that once held a null keeps its ids as doubles.
    whole = (value == F.floor(value)) & (F.abs(value) < EXACT_INTEGERS)
    return F.when(whole, value.try_cast("bigint").cast("string"))


def _id(column: str, schema: StructType) -> Column:
    value = named(column)
    return F.when(visible(value), value) if isinstance(schema[column].dataType, StringType) else value


def _not_a_number(column: str, schema: StructType) -> Column:
    value = named(column)
    if not isinstance(schema[column].dataType, StringType):
        return F.lit(False)
    return visible(value) & F.trim(value).try_cast("double").isNull()


def _reason(user: str, time: str | None, schema: StructType, wrong: Sequence[tuple[Column, str]]) -> Column:
    """Why a row is refused: the first reason that holds, or null."""
    value, parsed = named(user), F.col("__time")
    reason = F.when(value.isNull(), "no user id")
    if isinstance(schema[user].dataType, FractionalType | DecimalType):
        reason = reason.when(F.col("__user").isNull(), "user id is not a whole number")
    else:
        if isinstance(schema[user].dataType, StringType):
            # Replacing its bytes could make two users one.
            reason = reason.when(~F.is_valid_utf8(value), "user id is not UTF-8")
        reason = reason.when(F.col("__user").isNull(), "empty user id")
    if time is not None:
        reason = (
            reason.when(named(time).isNull(), "no time")
            .when(parsed.isNull(), "time does not parse")
            .when(
                (parsed < midnight_column(FIRST_DAY)) | (parsed >= midnight_column(LAST_DAY + timedelta(days=1))),
                f"time before {FIRST_DAY.year} or after {LAST_DAY.year}",
            )
        )
    for condition, words in wrong:
        reason = reason.when(condition, words)
    return reason
