"""CSV files of the company as rows of their declared columns.

Spark reads every field as a text, and this module converts the texts. A line that does not have as many fields as the
schema has columns keeps its place as a row with a reason, as does one with a text that is no value of its column's
type. No value becomes null without a reason.
"""

from __future__ import annotations

from typing import Any, cast

from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import (
    BooleanType,
    DataType,
    DateType,
    NumericType,
    StringType,
    StructField,
    StructType,
    TimestampNTZType,
    TimestampType,
)

from jobs.config.company_table import CompanyTable
from jobs.console.text import sql_name
from jobs.lake.errors import TableError
from jobs.lake.times import BEGINS_WITH_DATE, WITHOUT_OFFSET, has_unknown_abbreviation, parse_time

MALFORMED = "_malformed"
"""Column of struct<reason, line>: why a line is no row of the schema, and its text; null for a good row."""
LINE = "_line"
REPLACED = "\ufffd"
"""The character that Java decodes bytes to which are no text in the file's encoding."""
DEFAULTS = {"header": True, "escape": '"'}
"""As RFC 4180 says: a quote within quotes is written twice."""
FIXED = {
    # A header must have the columns of the schema in their order; otherwise Spark takes them by position.
    "enforceSchema": False,
    # With fewer columns parsed, a line with too many fields would look sound.
    "columnPruning": False,
    "mode": "PERMISSIVE",
    "columnNameOfCorruptRecord": LINE,
    "__globPaths__": False,
}
TYPES = (StringType, NumericType, BooleanType, DateType, TimestampType, TimestampNTZType)


def read_csv(spark: SparkSession, path: str, table: CompanyTable) -> DataFrame:
    """Return the rows of CSV files with `MALFORMED`; folders named `column=value` give further columns of texts.

    Raises
    ------
    TableError
        The schema does not parse, or has a type that a CSV file cannot hold.
    """
    declared = _declared(str(table.columns))
    texts = StructType(
        [*(StructField(field.name, StringType()) for field in declared), StructField(LINE, StringType())]
    )
    options: dict[str, Any] = {**DEFAULTS, **table.options, **FIXED}
    raw = spark.read.format("csv").options(**options).schema(texts).load(path)
    values = {field.name: _value(field, table.timezone) for field in declared}
    reason = F.when(F.col(LINE).isNotNull(), "line does not have the fields of the schema")
    for field in declared:
        reason = _with_reasons(reason, field, values[field.name], table.timezone)
    line = F.coalesce(F.col(LINE), F.to_csv(F.struct(*[_column(field.name) for field in declared])))
    malformed = F.when(reason.isNotNull(), F.struct(reason.alias("reason"), line.alias("line")))
    # Partitions' columns that the schema leaves out come last.
    columns = [values.get(name, _column(name)).alias(name) for name in raw.columns if name != LINE]
    return raw.select(*columns, malformed.alias(MALFORMED))


def _declared(schema: str) -> StructType:
    try:
        declared = cast(StructType, StructType.fromDDL(schema))
    except PySparkException as error:
        why = str(error).strip().splitlines()[0]
        raise TableError(f"schema = {schema}: does not parse ({why}); write `<column> <TYPE>, ...`") from None
    for field in declared:
        if not isinstance(field.dataType, TYPES):
            raise TableError(
                f"schema: {field.name} is {field.dataType.simpleString()}, which a CSV file cannot hold; write "
                "STRING, a number, BOOLEAN, DATE, TIMESTAMP or TIMESTAMP_NTZ"
            )
    return declared


def _value(field: StructField, zone: str | None) -> Column:
    """Return a column converted to its type; null where the text is missing or no value of the type."""
    text, dtype = _column(field.name), field.dataType
    if isinstance(dtype, StringType):
        return text
    if isinstance(dtype, TimestampType):
        return parse_time(text, StringType(), zone)
    value = F.trim(text)
    pattern = _pattern(dtype)
    return F.when(value.rlike(pattern) if pattern else F.lit(True), value.try_cast(dtype))


def _pattern(dtype: DataType) -> str | None:
    """Return the pattern of a type's texts where Spark's cast would drop a part of a longer text."""
    if isinstance(dtype, DateType):
        return BEGINS_WITH_DATE + "$"
    return WITHOUT_OFFSET if isinstance(dtype, TimestampNTZType) else None


def _with_reasons(reason: Column, field: StructField, value: Column, zone: str | None) -> Column:
    text = _column(field.name)
    if isinstance(field.dataType, StringType):
        return reason.when(F.contains(text, F.lit(REPLACED)), f"{field.name} is not text in the file's encoding")
    if isinstance(field.dataType, TimestampType):
        reason = reason.when(has_unknown_abbreviation(text, zone), "time zone is an abbreviation")
    kind = field.dataType.simpleString()
    return reason.when((F.trim(text) != "") & value.isNull(), f"{field.name} is not {kind}")


def _column(name: str) -> Column:
    return F.col(sql_name(name))
