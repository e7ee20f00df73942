"""Times of the company's tables as timestamps: texts, dates and timestamps with or without a zone.

A time without an offset is of the zone that its section of the deployment file declares, else of UTC. Where clocks were
put forward, a local time that did not exist is read as later by the skipped hour. Where they were put back, a local
time that occurred twice is read as the first. Both are what `datetime.replace(tzinfo=ZoneInfo(...))` gives.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, DateType, StringType, TimestampType

BEGINS_WITH_DATE = r"^\d{4}-\d{1,2}-\d{1,2}"
WITHOUT_OFFSET = BEGINS_WITH_DATE + r"([T ](\d{1,2}(:\d{1,2}(:\d{1,2}(\.\d*)?)?)?)?)?$"
ABBREVIATION = r":\d{1,2}(?:\.\d*)? ?([A-Za-z]{3,}(?:\d[A-Za-z]+)?)$"
"""A zone in letters at the end of a text, as in `12:00:00 CST`. Spark takes some of them for one of their meanings."""
UNAMBIGUOUS = ("UTC", "GMT")
FIRST_YEAR, LAST_YEAR = 1970, 2037
"""Years in which the abbreviations of a zone are looked up; the tz database has no transitions after them."""


def parse_time(value: Column, dtype: DataType, zone: str | None) -> Column:
    """Return a column as a timestamp; null where a text is not an ISO time or has a zone that is an abbreviation.

    A text must begin with a date, because Spark reads '12:30' as that time of the current day.
    """
    if isinstance(dtype, TimestampType):
        return value
    if not isinstance(dtype, StringType):
        if isinstance(dtype, DateType):
            # The last dates of 32 bits are beyond the microseconds of 64 bits, and one of them would fail the job.
            first, last = date(1000, 1, 1), date.max
            value = F.when(value < F.lit(first), first).when(value > F.lit(last), last).otherwise(value)
        return _of_zone(value.cast("timestamp"), zone)
    text = _with_offset(F.trim(value), zone)
    parsed = F.try_to_timestamp(text)
    if zone is not None:
        parsed = F.when(text.rlike(WITHOUT_OFFSET), _of_zone(parsed, zone)).otherwise(parsed)
    return F.when(text.rlike(BEGINS_WITH_DATE) & ~_has_abbreviation(text), parsed)


def has_unknown_abbreviation(value: Column, zone: str | None) -> Column:
    """Return whether a text ends in an abbreviation of a time zone that the declared zone does not define."""
    return _has_abbreviation(_with_offset(F.trim(value), zone))


def to_local(time: Column, zone: str | None) -> Column:
    """Return a timestamp whose hours in UTC are the hours of the zone."""
    return time if zone is None else F.from_utc_timestamp(time, zone)


def _of_zone(time: Column, zone: str | None) -> Column:
    """Return the moment at which the clocks of a zone show what `time` shows in UTC."""
    return time if zone is None else F.to_utc_timestamp(time, zone)


def _has_abbreviation(text: Column) -> Column:
    name = F.regexp_extract(text, ABBREVIATION, 1)
    # The last character decides for most texts without a search.
    return _ends_in_letter(text) & (name != "") & ~name.isin(*UNAMBIGUOUS)


def _ends_in_letter(text: Column) -> Column:
    return F.upper(F.right(text, F.lit(1))).between("A", "Y")


def _with_offset(text: Column, zone: str | None) -> Column:
    """Return a text with the zone's own abbreviations replaced by their offsets."""
    offsets = abbreviations(zone) if zone else {}
    if not offsets:
        return text
    written = F.regexp_extract(text, ABBREVIATION, 1)
    replaced = text
    for name, offset in offsets.items():
        start = F.substring(text, F.lit(1), F.length(text) - len(name))
        replaced = F.when(written == name, F.concat(F.rtrim(start), F.lit(offset))).otherwise(replaced)
    return F.when(_ends_in_letter(text), replaced).otherwise(text)


@cache
def abbreviations(zone: str) -> dict[str, str]:
    """Return the abbreviations that a zone uses for one offset alone, each with this offset as `+08:00`."""
    offsets: dict[str, set[timedelta]] = {}
    region = ZoneInfo(zone)
    hours = (LAST_YEAR - FIRST_YEAR) * 366 * 24
    for step in range(0, hours, 24 * 7):
        moment = (datetime(FIRST_YEAR, 1, 1) + timedelta(hours=step)).replace(tzinfo=region)
        offsets.setdefault(moment.tzname() or "", set()).add(moment.utcoffset() or timedelta())
    return {
        name: _written(*offset)
        for name, offset in offsets.items()
        if len(offset) == 1 and name.isalpha() and name not in UNAMBIGUOUS
    }


def _written(offset: timedelta) -> str:
    minutes = int(offset.total_seconds()) // 60
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
