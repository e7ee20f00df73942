"""Validate each row of the source tables.

A validated row keeps its columns and gains `__user` (string), `__time` (timestamp) and `__rejected` (the reason; null
for a good row); event rows also gain `__id`. No row is dropped here, so that every row can be accounted for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructType

from jobs.config.deployment import Deployment
from jobs.config.fields import FIRST_DAY, LAST_DAY
from jobs.config.sections import Attributes, EventSource
from jobs.lake.csv_rows import MALFORMED
from jobs.lake.spark_tables import midnight_column
from jobs.lake.spark_user_ids import refusal_column, user_id_column
from jobs.lake.times import has_unknown_abbreviation, parse_time
from jobs.profiles import templates
from jobs.profiles.source_tables import ATTRIBUTES
from jobs.profiles.templates import named, visible


def validate_sources(deployment: Deployment, opened: Mapping[str, DataFrame]) -> dict[str, DataFrame]:
    """Return every opened table with each row validated, by the source's name."""
    result = {}
    for source in deployment.sources:
        numbers = [
            a.column
            for a in deployment.aggregates
            if a.source == source.name and a.column and a.column_kind == "number"
        ]
        result[source.name] = validate_events(opened[source.name], source, numbers)
    if deployment.attributes:
        result[ATTRIBUTES] = validate_attributes(opened[ATTRIBUTES], deployment.attributes)
    return result


def validate_events(df: DataFrame, source: EventSource, numbers: Sequence[str] = ()) -> DataFrame:
    """Return a source's rows with `__user`, `__time`, `__id` and `__rejected`.

    `numbers` are further columns that are read as numbers: a text there that is no number rejects the row.
    """
    schema = df.schema
    numbers = [*numbers, *(column for column, call in source.fields if call.column == "number")]
    return df.withColumns(
        {
            "__user": _user(source.user, schema),
            "__time": parse_time(named(source.time), schema[source.time].dataType, source.timezone),
            "__id": _id(source.id, schema) if source.id else F.lit(None).cast("string"),
        }
    ).withColumn("__rejected", _reason(source, source.time, schema, numbers))


def validate_attributes(df: DataFrame, attributes: Attributes) -> DataFrame:
    """Return the attributes' rows with `__user`, `__time` (valid from; null where static) and `__rejected`."""
    schema, time = df.schema, attributes.valid_from
    numbers = [number.column for number in attributes.numbers]
    parsed = F.lit(None).cast("timestamp")
    if time:
        parsed = parse_time(named(time), schema[time].dataType, attributes.timezone)
    return df.withColumns({"__user": _user(attributes.user, schema), "__time": parsed}).withColumn(
        "__rejected", _reason(attributes, time, schema, numbers)
    )


def event_rows(
    df: DataFrame, source: EventSource, before: date, columns: Sequence[str] = (), texts_since: date | None = None
) -> DataFrame:
    """Return validated rows with `columns`, the columns of this module, `__text` and `__repeated`.

    A repeat is a good row before the midnight of `before` whose declared id an earlier such row has. Rows at or after
    that midnight never change what is kept. Only events from `texts_since` on get a text.
    """
    raw = list(dict.fromkeys(columns))
    good = F.col("__rejected").isNull() & (F.col("__time") < midnight_column(before))
    text = F.lit(None).cast("string")
    if texts_since is not None:
        text = F.when(
            good & (F.col("__time") >= midnight_column(texts_since)), templates.text(source, df.schema, F.col("__time"))
        )
    # The other columns order the copies of one id, so that the result does not depend on row order.
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
    # The hash comes first because it sorts fast. Rows that cannot be repeats are spread by `__rest`, not by a null id.
    spread = F.when(contest, F.xxhash64("__id")).otherwise(F.col("__rest"))
    window = Window.partitionBy(spread, F.when(contest, F.col("__id"))).orderBy("__time", "__user", "__rest")
    return kept.withColumn("__repeated", contest & (F.row_number().over(window) > 1))


def rejected_rows(df: DataFrame, source: str, raw: Sequence[str]) -> DataFrame:
    """Return the rejected rows of a validated table as (source, reason, row), row being its `raw` columns as JSON."""
    row = F.to_json(F.struct(*[named(column) for column in raw]), {"ignoreNullFields": "false"})
    return df.where(F.col("__rejected").isNotNull()).select(
        F.lit(source).alias("source"), F.col("__rejected").alias("reason"), row.alias("row")
    )


def _user(column: str, schema: StructType) -> Column:
    return user_id_column(named(column), schema[column].dataType)


def _id(column: str, schema: StructType) -> Column:
    value = named(column)
    return F.when(visible(value), value) if isinstance(schema[column].dataType, StringType) else value


def _reason(table: EventSource | Attributes, time: str | None, schema: StructType, numbers: Sequence[str]) -> Column:
    """Return the first reason to reject a row, or null for a good one."""
    parsed, refusal = F.col("__time"), refusal_column(named(table.user), schema[table.user].dataType)
    reason = F.when(refusal.isNotNull(), refusal)
    if MALFORMED in schema.names:
        malformed = F.col(MALFORMED)["reason"]
        reason = F.when(malformed.isNotNull(), malformed).when(refusal.isNotNull(), refusal)
    if time is not None:
        if isinstance(schema[time].dataType, StringType):
            unknown = has_unknown_abbreviation(named(time), table.timezone)
            reason = reason.when(unknown, "time zone is an abbreviation")
        reason = (
            reason.when(named(time).isNull(), "no time")
            .when(parsed.isNull(), "time does not parse")
            .when(
                (parsed < midnight_column(FIRST_DAY)) | (parsed >= midnight_column(LAST_DAY + timedelta(days=1))),
                f"time before {FIRST_DAY.year} or after {LAST_DAY.year}",
            )
        )
    for column in dict.fromkeys(numbers):
        reason = reason.when(_is_not_a_number(column, schema), f"{column} is not a number")
    return reason


def _is_not_a_number(column: str, schema: StructType) -> Column:
    value = named(column)
    if not isinstance(schema[column].dataType, StringType):
        return F.lit(False)
    return visible(value) & F.trim(value).try_cast("double").isNull()
