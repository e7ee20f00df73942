"""The text of an event: the filters of a source's template as Spark columns.

A text carries no date and no raw amount, because each distinct text is encoded once and texts repeat only without them:
`amount_band` and `band` give an interval, `number` two significant digits, and a time appears as a weekday, hour, part
of the day or month, in the source's declared zone or else in UTC. `jobs.config.functions.TEMPLATE_FILTERS` declares the
same filters for the deployment file.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, StringType, StructType, TimestampType

from jobs.config.functions import FilterCall
from jobs.config.sections import EventSource
from jobs.console.text import sql_name
from jobs.lake.times import parse_time, to_local

MAX_CHARACTERS = 1_000
UNKNOWN = "unknown"
UNKNOWN_AMOUNT = "unknown amount"
AMOUNTS = (*(step * 10**power for power in range(6) for step in (1, 2, 5)), 10**6)
"""Edges of the amount bands: 1, 2, 5, 10, ... 1,000,000, in the table's own currency."""
DAYPARTS = ((6, "night"), (12, "morning"), (18, "afternoon"), (24, "evening"))
"""Part of the day up to this hour."""
BLANK_CLASS = r"\s\p{Z}\p{Cc}"
"""White space of any kind, the ideographic space included, and control characters."""
BLANK, VISIBLE = f"[{BLANK_CLASS}]", f"[^{BLANK_CLASS}]"
BLANKS = rf"[[^ -~]&&{BLANK}]{BLANK}*| {BLANK}+"
"""Every run of blanks but a single space; the first class lets the search skip most letters at once."""


def text(source: EventSource, schema: StructType, time: Column) -> Column:
    """Return the event's text: the template with its fields filled in, at most 1,000 characters.

    `time` is the parsed event time, which filters of times read where a field names the time column.
    """
    pieces = []
    for literal, column, call in source.parts:
        if literal:
            pieces.append(F.lit(literal))
        if column is not None:
            parsed_time = time if column == source.time else None
            pieces.append(_field(column, call, schema[column].dataType, parsed_time, source.timezone))
    return F.rtrim(F.substring(_fold_blanks(F.concat(*pieces)), 1, MAX_CHARACTERS))


def words(value: Column, max_characters: int = MAX_CHARACTERS) -> Column:
    """Return a value as a text of at most so many characters, null where it has no visible character."""
    folded = _fold_blanks(F.make_valid_utf8(value.cast("string")))
    return F.when(folded != "", F.substring(folded, 1, max_characters))


def _fold_blanks(text: Column) -> Column:
    return F.trim(F.regexp_replace(text, BLANKS, " "))


def _field(column: str, call: FilterCall, dtype: DataType, time: Column | None, zone: str | None) -> Column:
    value = named(column)
    if call.column == "number":
        value = number(value, dtype)
    elif call.column == "time":
        value = to_local(parse_time(value, dtype, zone) if time is None else time, zone)
    elif isinstance(dtype, TimestampType):
        value = to_local(value, zone)
    return FILTERS[call.name](value, *call.edges)


def named(column: str) -> Column:
    """Return a table's column by its name, which may hold dots and backticks."""
    return F.col(sql_name(column))


def visible(text: Column) -> Column:
    """Return whether a text holds more than blanks; for most texts the first character decides without a search."""
    return F.ascii(text).between(33, 126) | text.rlike(VISIBLE)


def number(value: Column, dtype: DataType) -> Column:
    """Return a column as a double: null where it is null, NaN, infinite or not a number."""
    parsed = F.trim(value).try_cast("double") if isinstance(dtype, StringType) else value.cast("double")
    return F.when(F.isnan(parsed) | (F.abs(parsed) == float("inf")), None).otherwise(parsed)


def finite(value: Column) -> Column:
    """Return a double: null where it is NaN or infinite, 0 where it is a negative zero, which has another hash."""
    return F.when(F.abs(value) < float("inf"), value + F.lit(0.0))


def value_words(value: Column) -> Column:
    """Return the value as a text, 'unknown' for null and for a text of blanks."""
    text = F.make_valid_utf8(value.cast("string"))
    return F.when(visible(text), text).otherwise(UNKNOWN)


def amount_band(amount: Column) -> Column:
    """Return '20 to 50' for 20 <= amount < 50, 'refund 20 to 50' for the negative one, 'unknown amount' for null."""
    bands = [f"under {AMOUNTS[0]}", *(f"{low} to {high}" for low, high in pairwise(AMOUNTS)), f"{AMOUNTS[-1]} or more"]
    names = [*bands, *(f"refund {band}" for band in bands)]
    # An array index, because a case for each band would be more code than the JVM compiles.
    reached = sum(((F.abs(amount) >= edge).cast("int") for edge in AMOUNTS), F.lit(0))
    position = reached + F.when(amount < 0, len(bands)).otherwise(0)
    return F.when(amount.isNull() | F.isnan(amount), UNKNOWN_AMOUNT).otherwise(
        F.get(F.array(*map(F.lit, names)), position)
    )


def band(number: Column, *edges: str) -> Column:
    """Return '-20 to -10' for -20 <= number < -10, 'under 0' and '100 or more' beyond the edges, 'unknown' for null.

    Without edges they are those of the amount bands on both sides of 0.
    """
    edges = edges or (*(f"-{edge}" for edge in reversed(AMOUNTS)), "0", *map(str, AMOUNTS))
    names = [f"under {edges[0]}", *(f"{low} to {high}" for low, high in pairwise(edges)), f"{edges[-1]} or more"]
    reached = sum(((number >= float(edge)).cast("int") for edge in edges), F.lit(0))
    return F.when(number.isNull() | F.isnan(number), UNKNOWN).otherwise(F.get(F.array(*map(F.lit, names)), reached))


def two_digits(value: Column) -> Column:
    """Return a number rounded half up to two significant digits, as '1200', '0.012' or '-57'; 'unknown' for null.

    Numbers of more than 26 digits stay in the form '1.2e+30', and those under 1e-12 become '0'.
    """
    rounded = F.format_string("%.1e", value)
    # A fixed number of decimals, so that the text has a point up to which trailing zeros may be removed.
    plain = F.regexp_replace(rounded.try_cast("decimal(38,12)").cast("string"), r"\.?0+$", "")
    plain = F.when(plain.isin("", "-", "-0"), "0").otherwise(plain)
    return F.when(value.isNull(), UNKNOWN).otherwise(F.coalesce(plain, rounded))


def weekday(time: Column) -> Column:
    """Return the day of the week, as 'Monday'; 'unknown' for null, as in the filters below."""
    return F.coalesce(F.date_format(time, "EEEE"), F.lit(UNKNOWN))


def month(time: Column) -> Column:
    """Return the month, as 'January'."""
    return F.coalesce(F.date_format(time, "MMMM"), F.lit(UNKNOWN))


def hour(time: Column) -> Column:
    """Return the hour, as '09:00' for 09:00 to 09:59."""
    return F.coalesce(F.date_format(time, "HH:00"), F.lit(UNKNOWN))


def daypart(time: Column) -> Column:
    """Return 'night', 'morning', 'afternoon' or 'evening', six hours each from midnight."""
    part = F.when(time.isNull(), UNKNOWN)
    for before, name in DAYPARTS:
        part = part.when(F.hour(time) < before, name)
    return part


FILTERS: dict[str, Callable[..., Column]] = {
    "text": value_words,
    "amount_band": amount_band,
    "band": band,
    "number": two_digits,
    "weekday": weekday,
    "hour": hour,
    "daypart": daypart,
    "month": month,
}
