"""Times with and without a declared zone, against Python's zoneinfo and datetime."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from pyspark.sql import functions as F
from pyspark.sql.types import StringType

from jobs.config.fields import regions
from jobs.lake.times import abbreviations, has_unknown_abbreviation, parse_time, to_local

CHANGES = {
    "America/New_York": ("2025-03-09 02:30", "2025-11-02 01:30"),
    "Europe/Berlin": ("2025-03-30 02:00", "2025-10-26 02:59"),
    "Europe/Dublin": ("2025-03-30 01:30", "2025-10-26 01:30"),
    "Australia/Lord_Howe": ("2025-10-05 02:15", "2025-04-06 01:45"),  # half an hour
    "America/Sao_Paulo": ("2018-11-04 00:00", "2019-02-16 23:30"),  # midnight does not exist
    "Africa/Casablanca": ("2025-04-06 02:30", "2025-02-23 02:30"),  # winter time within Ramadan
    "Pacific/Apia": ("2011-12-30 12:00", "2012-04-01 03:30"),  # a whole day does not exist
    "Asia/Shanghai": ("1986-05-04 02:30", "1991-09-15 01:30"),
    "Asia/Kathmandu": ("1986-01-01 00:10", "2025-01-01 12:00"),
    "Asia/Tehran": ("2022-03-22 00:30", "2022-09-21 23:30"),
    "America/Caracas": ("2016-05-01 02:45", "2007-12-09 02:45"),
    "UTC": ("2025-03-09 02:30", "2025-11-02 01:30"),
}
"""By zone, a local time that did not exist and one that occurred twice, or was an ordinary one."""
CASES = [
    (zone, datetime.fromisoformat(change) + timedelta(minutes=minutes))
    for zone, changes in CHANGES.items()
    for change in changes
    for minutes in (-24 * 60, -90, -30, 0, 30, 90, 24 * 60)
]


def moment(local: datetime, zone: str) -> datetime:
    """Return the moment of a local time as Python reads it, the first one where there are two."""
    return local.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


def parsed(spark, zone: str | None, *texts: str | None) -> list[datetime | None]:
    rows = spark.createDataFrame([(number, text) for number, text in enumerate(texts)], "n int, text string")
    column = parse_time(F.col("text"), StringType(), zone)
    micros = rows.select("n", F.unix_micros(column).alias("micros")).orderBy("n").collect()
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return [None if row.micros is None else epoch + timedelta(microseconds=row.micros) for row in micros]


@pytest.fixture(scope="module")
def read_in_zones(spark):
    """Every case of `CASES` as Spark reads it from a text, a timestamp without a zone and its date; and shown again."""
    selects = []
    for zone in CHANGES:
        locals_ = [(local,) for of, local in CASES if of == zone]
        rows = spark.createDataFrame(locals_, "local timestamp_ntz")
        rows = rows.withColumns({"text": F.col("local").cast("string"), "day": F.col("local").cast("date")})
        times = {name: parse_time(F.col(name), rows.schema[name].dataType, zone) for name in rows.columns}
        shown = F.date_format(to_local(times["text"], zone), "yyyy-MM-dd HH:mm EEEE")
        micros = [F.unix_micros(time).alias(f"at_{name}") for name, time in times.items()]
        selects.append(rows.select(F.lit(zone).alias("zone"), "local", shown.alias("shown"), *micros))
    all_zones = selects[0]
    for more in selects[1:]:
        all_zones = all_zones.union(more)
    return {(row.zone, row.local): row for row in all_zones.collect()}


@pytest.mark.parametrize("zone", CHANGES)
def test_local_times_are_the_moments_of_zoneinfo(read_in_zones, zone):
    for of, local in CASES:
        if of != zone:
            continue
        row = read_in_zones[zone, local]
        at = moment(local, zone)
        midnight = moment(datetime.combine(local.date(), datetime.min.time()), zone)
        assert row.at_text == row.at_local == at.timestamp() * 1_000_000, local
        assert row.at_day == midnight.timestamp() * 1_000_000, local
        assert row.shown == f"{at.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M %A}", local


def test_a_text_with_an_offset_ignores_the_declared_zone(spark):
    noon = datetime(2025, 1, 1, 12, tzinfo=UTC)
    texts = (
        "2025-01-01 12:00:00Z",
        "2025-01-01T20:00:00+08:00",
        "2025-01-01 20:00:00 +0800",
        "2025-01-01 20:00:00.000+8",
        "2025-01-01T12:00:00 UTC",
        "2025-01-01 12:00:00 GMT",
        "2025-01-01 20:00:00 UTC+8",
        "2025-01-01 20:00:00 Asia/Shanghai",
        "2025-01-01 07:00:00 America/New_York",
        " 2025-01-01 12:00:00-00:00 ",
    )
    for zone in (None, "Asia/Shanghai", "America/New_York"):
        assert parsed(spark, zone, *texts) == [noon] * len(texts)


def test_a_text_without_an_offset_is_of_the_declared_zone(spark):
    texts = ("2025-01-01", "2025-1-1 0", "2025-01-01T00:00", "2025-01-01 00:00:00.000000", " 2025-01-01 00:00:00 ")
    assert parsed(spark, None, *texts) == [datetime(2025, 1, 1, tzinfo=UTC)] * len(texts)
    assert parsed(spark, "Asia/Shanghai", *texts) == [datetime(2024, 12, 31, 16, tzinfo=UTC)] * len(texts)


AMBIGUOUS = ("CST", "IST", "BST", "PST", "EST", "MST", "AST", "ACT", "SST", "ECT", "PDT", "CEST", "HKT", "Japan")
"""Abbreviations; of those that Spark reads, it takes one meaning: CST is Chicago, IST Kolkata, BST Dhaka."""


@pytest.mark.parametrize("zone", [None, "Africa/Lagos"])
def test_an_abbreviation_that_the_zone_does_not_define_is_refused(spark, zone):
    texts = [f"2025-07-01 12:00:00{blank}{name}" for name in AMBIGUOUS for blank in (" ", "")]
    texts += ["2025-07-01 12:00:00.5 CST", "2025-07-01 12:00:00 EST5EDT"]
    assert parsed(spark, zone, *texts) == [None] * len(texts)
    rows = spark.createDataFrame([(text,) for text in texts], "text string")
    assert rows.where(has_unknown_abbreviation(F.col("text"), zone)).count() == len(texts)


@pytest.mark.parametrize(
    ("zone", "text", "hour"),
    [
        ("Asia/Shanghai", "2025-07-01 12:00:00 CST", 4),
        ("America/Chicago", "2025-07-01 12:00:00 CST", 18),
        ("America/Chicago", "2025-07-01 12:00:00CDT", 17),
        ("America/Havana", "2025-01-01 12:00:00 CST", 17),
        ("Europe/London", "2025-07-01 12:00:00 BST", 11),
        ("Asia/Kolkata", "2025-07-01 17:30:00 IST", 12),
        ("Europe/Dublin", "2025-07-01 12:00:00 IST", 11),
        ("Asia/Jerusalem", "2025-01-01 12:00:00.25 IST", 10),
        ("Asia/Manila", "2025-07-01 12:00:00 PST", 4),
        ("Europe/Berlin", "2025-07-01 12:00:00 CEST", 10),
        # The clocks showed 01:30 twice; the abbreviation says which.
        ("America/New_York", "2025-11-02 01:30:00 EDT", 5),
        ("America/New_York", "2025-11-02 01:30:00 EST", 6),
    ],
)
def test_an_abbreviation_of_the_declared_zone_has_its_meaning_there(spark, zone, text, hour):
    [at] = parsed(spark, zone, text)
    assert at is not None
    assert at.hour == hour
    [(name, offset)] = [(name, offset) for name, offset in abbreviations(zone).items() if text.endswith(name)]
    local = datetime.fromisoformat(text.removesuffix(name).strip() + offset)
    assert at == local


def test_abbreviations_with_several_offsets_in_a_zone_are_left_out():
    moscow = {"MSD": "+04:00", "EET": "+02:00", "EEST": "+03:00"}
    assert abbreviations("Europe/Moscow") == moscow  # MSK was +03:00 and +04:00
    assert abbreviations("UTC") == {}


def test_texts_that_are_no_times_stay_null(spark):
    texts = (None, "", " ", "noon", "12:30", "2025-02-30", "2025-01-01 24:00:00", "2025-01-01 02:00 PM", "20250101")
    for zone in (None, "America/New_York"):
        assert parsed(spark, zone, *texts) == [None] * len(texts)


def test_every_region_is_known_to_java(spark):
    known = {*spark._jvm.java.time.ZoneId.getAvailableZoneIds()}
    assert [region for region in regions() if region not in known] in ([], ["America/Coyhaique"])
    assert not {"EST", "CST6CDT"} & {*regions()}


def test_dates_at_the_ends_of_their_type_do_not_fail(spark):
    rows = spark.sql("SELECT DATE'-290308-12-22' AS first, DATE'5881580-07-11' AS last")
    times = [parse_time(F.col(name), rows.schema[name].dataType, "Asia/Shanghai") for name in rows.columns]
    first, last = rows.select(*[F.to_date(time).cast("string") for time in times]).collect()[0]
    assert (first[:4], last) == ("0999", "9999-12-30")
