"""From an event's columns to its text: the filters of a source's template as Spark columns.

A text carries no date and no raw amount, for texts repeat only without them (an event text is encoded once):
`amount_band` puts an amount into a logarithmic band, and a time appears as a weekday, hour, part of the day
or month.
"""

from __future__ import annotations

from datetime import date
from itertools import pairwise

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, DateType, StringType, StructType, TimestampType

from jobs.config.sections import EventSource

MAX_CHARACTERS = 1_000
UNKNOWN = "unknown"
UNKNOWN_AMOUNT = "unknown amount"
AMOUNTS = (*(step * 10**power for power in range(6) for step in (1, 2, 5)), 10**6)
"""Edges of the amount bands: 1, 2, 5, 10, ... 1,000,000, in the table's own currency."""
DAYPARTS = ((6, "night"), (12, "morning"), (18, "afternoon"), (24, "evening"))
"""Part of the day up to this hour, UTC."""
UNSEEN = r"\s\p{Z}\p{Cc}"
"""Any white space, also the ideographic space, and control characters."""
BLANK, VISIBLE = f"[{UNSEEN}]", f"[^{UNSEEN}]"
BLANKS = rf"[[^ -~]&&{BLANK}]{BLANK}*| {BLANK}+"
"""What becomes one space: every run of blanks but a single space. Most letters are passed by at a glance."""


def text(source: EventSource, schema: StructType, time: Column) -> Column:
    """The event's text: the template with its fields filled in, at most 1,000 characters.

    `time` is the parsed event time; a template that names the time column means it.
    """
    pieces = []
    for literal, column, kind in source.parts:
        if literal:
            pieces.append(F.lit(literal))
        if column is not None:
            own = time if column == source.time else None
            pieces.append(_field(column, kind, schema[column].dataType, own))
    return F.rtrim(F.substring(_spaced(F.concat(*pieces)), 1, MAX_CHARACTERS))


def words(value: Column, most: int = MAX_CHARACTERS) -> Column:
    """A value as a text of at most so many characters, null where it has none to be seen."""
    spaced = _spaced(F.make_valid_utf8(value.cast("string")))
    return F.when(spaced != "", F.substring(spaced, 1, most))


def _spaced(text: Column) -> Column:
    return F.trim(F.regexp_replace(text, BLANKS, " "))


def _field(column: str, kind: str, dtype: DataType, time: Column | None) -> Column:
    value = named(column)
    if kind == "text":
        words = F.make_valid_utf8(value.cast("string"))
        return F.when(visible(words), words).otherwise(UNKNOWN)
    if kind == "amount_band":
        return amount_band(number(value, dtype))
    return TIME_FILTERS[kind](timestamp(value, dtype) if time is None else time)


def named(column: str) -> Column:
    """A table's column by its name, whatever dots and backticks that has."""
    return F.col("`" + column.replace("`", "``") + "`")


def visible(text: Column) -> Column:
    """Whether a text holds more than blanks; its first character mostly tells without a search."""
    return F.ascii(text).between(33, 126) | text.rlike(VISIBLE)


def number(value: Column, dtype: DataType) -> Column:
    """A column as a double: null where it is null, NaN, infinite or not a number."""
    parsed = F.trim(value).try_cast("double") if isinstance(dtype, StringType) else value.cast("double")
    return F.when(F.isnan(parsed) | (F.abs(parsed) == float("inf")), None).otherwise(parsed)


def timestamp(value: Column, dtype: DataType) -> Column:
    """A column as a timestamp; ISO texts with or without an offset (none: UTC), null where a text is not one.

    Spark alone would read '12:30' as that time today, which changes from run to run: a date comes first.
    """
    if isinstance(dtype, StringType):
        return F.when(value.rlike(r"^\s*\d{4}-\d{1,2}-\d{1,2}"), F.try_to_timestamp(F.trim(value)))
    if isinstance(dtype, DateType):
        # The last days that 32 bits hold lie beyond the microseconds of 64, and one of them would stop the job.
        first, last = date(1000, 1, 1), date.max
        value = F.when(value < F.lit(first), first).when(value > F.lit(last), last).otherwise(value)
    return value if isinstance(dtype, TimestampType) else value.cast("timestamp")


def amount_band(amount: Column) -> Column:
    """'20 to 50' for 20 <= amount < 50, 'refund 20 to 50' for the negative one, 'unknown amount' for null."""
    bands = [f"under {AMOUNTS[0]}", *(f"{low} to {high}" for low, high in pairwise(AMOUNTS)), f"{AMOUNTS[-1]} or more"]
    names = [*bands, *(f"refund {band}" for band in bands)]
    # A number looked up, where a case for each band would be more code than the JVM compiles.
    reached = sum(((F.abs(amount) >= edge).cast("int") for edge in AMOUNTS), F.lit(0))
    position = reached + F.when(amount < 0, len(bands)).otherwise(0)
    return F.when(amount.isNull() | F.isnan(amount), UNKNOWN_AMOUNT).otherwise(
        F.get(F.array(*map(F.lit, names)), position)
    )


def weekday(time: Column) -> Column:
    """'Monday'."""
    return F.coalesce(F.date_format(time, "EEEE"), F.lit(UNKNOWN))


def month(time: Column) -> Column:
    """'January'."""
    return F.coalesce(F.date_format(time, "MMMM"), F.lit(UNKNOWN))


def hour(time: Column) -> Column:
    """'09:00' for 09:00 to 09:59 UTC."""
    return F.coalesce(F.date_format(time, "HH:00"), F.lit(UNKNOWN))


def daypart(time: Column) -> Column:
    """'night', 'morning', 'afternoon' or 'evening', six hours each from midnight UTC."""
    part = F.when(time.isNull(), UNKNOWN)
    for before, name in DAYPARTS:
        part = part.when(F.hour(time) < before, name)
    return part


TIME_FILTERS = {"weekday": weekday, "month": month, "hour": hour, "daypart": daypart}
