"""Check: what a deployment file finds in its tables, and what each day will cost. It reads, and changes nothing.

Rows are judged and counted as assemble would have it as of a day, for the check runs the same profiles; it runs them
as of the day before too, and what differs is what a day costs (`jobs.operations.cost_estimate`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.config.deployment import Deployment
from jobs.lake import spark_tables
from jobs.lake.spark_tables import midnight_column
from jobs.operations.cost_estimate import CostEstimate, estimate_costs
from jobs.profiles.aggregates import aggregate_function
from jobs.profiles.build import Profiles, build_profiles
from jobs.profiles.row_account import RowAccount
from jobs.profiles.source_tables import ATTRIBUTES, open_sources
from jobs.profiles.validation import validate_sources

SAMPLES = 3
"""Rejected rows shown of a reason."""
SAMPLE_CHARACTERS = 200


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """The refused rows of a source for one reason."""

    rows: int
    samples: list[str]
    """Some of them as JSON, cut where they are long."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """What a source's table holds, and where its rows go as of the day."""

    table: str
    version: int
    """Of the table, as it was read."""
    users: int
    """Distinct users of its good rows, whenever these are."""
    first: datetime | None
    """Time of the first good row; None without one, and where attributes carry no time."""
    last: datetime | None
    account: RowAccount
    rejected: dict[str, Rejected]
    """By reason."""
    refused: bool
    """Whether assemble would fail: more than `max_reject_share` of the rows are rejected."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """An event of the sample profile."""

    event_time: datetime
    text: str
    gap: int
    """Band of days since the event before; -1 for the first."""


@dataclass(frozen=True, kw_only=True)
class ProfileSample:
    """The profile of an eligible user: the median by number of events, the first by user id among those."""

    user_id: str
    events: dict[str, list[Event]]
    """By source, the oldest first."""
    ages: dict[str, int | None]
    """By source, the band of days since its last event; None without events."""
    tabular: dict[str, Any]
    banded: list[str]
    """Tabular columns that hold a band of days, as gaps and ages do."""


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """What one check found."""

    as_of: date
    sources: dict[str, Source]
    """Per event source, and `attributes`."""
    static: bool
    """Whether attributes carry no time and hold for every day."""
    costs: CostEstimate
    profile: ProfileSample | None
    """None where no user is eligible."""
    seconds: float


def check(
    spark: SparkSession, deployment: Deployment, as_of: date | None = None, now: datetime | None = None
) -> CheckResult:
    """Find out what assemble and embed would make of the tables as of a day, and write nothing.

    Parameters
    ----------
    as_of : date, optional
        None: the day after the newest good event before today, UTC.
    now : datetime, optional
        The clock, UTC; now unless given.

    Raises
    ------
    SourceError
        Source tables or columns are missing or of the wrong type; all such mistakes at once.
    TokenizerError
        The release's or checkpoint's tokenizer cannot be read.
    """
    started, now = time.monotonic(), now or datetime.now(UTC)
    versions: dict[str, int] = {}

    def read(table: str) -> DataFrame:
        return spark_tables.read_pinned(spark, deployment, table, versions)

    spans = _spans(validate_sources(deployment, open_sources(deployment, read)), now.date())
    as_of = as_of or _day_after(spans, deployment, now.date())
    before = as_of - timedelta(days=1)
    found = build_profiles(spark, deployment, [before, as_of], read, now)
    accounts = found.totals[as_of].accounts
    try:
        expected = estimate_costs(found.rows, deployment, before, as_of)
        rejected = _rejected(found, accounts)
        sample = _sample(found.rows.where(F.col("as_of") == midnight_column(as_of)), deployment)
    finally:
        found.release()

    def source(name: str, table: str) -> Source:
        account, span = accounts[name], spans[name]
        return Source(
            table=table,
            version=versions[table],
            users=span["users"],
            first=span["first"],
            last=span["last"],
            account=account,
            rejected=rejected.get(name, {}),
            refused=account.too_many_rejected(deployment.max_reject_share),
        )

    named = [(events.name, events.table) for events in deployment.sources]
    attributes = deployment.attributes
    if attributes:
        named.append((ATTRIBUTES, attributes.table))
    return CheckResult(
        as_of=as_of,
        sources={name: source(name, table) for name, table in named},
        static=attributes is not None and attributes.static,
        costs=expected,
        profile=sample,
        seconds=time.monotonic() - started,
    )


def _spans(judged: Mapping[str, DataFrame], today: date) -> dict[str, dict[str, Any]]:
    """By source: distinct users of the good rows, and the times of the first, the last and the last before today."""

    def good(name: str) -> DataFrame:
        rows = judged[name].where(F.col("__rejected").isNull())
        return rows.select(F.lit(name).alias("source"), F.col("__user").alias("user"), F.col("__time").alias("time"))

    first, *others = map(good, judged)
    rows = first
    for other in others:
        rows = rows.unionByName(other)
    past = F.when(F.col("time") < midnight_column(today), F.col("time"))
    counts = rows.groupBy("source").agg(
        F.count_distinct("user").alias("users"),
        F.min("time").alias("first"),
        F.max("time").alias("last"),
        F.max(past).alias("past"),
    )
    # By Arrow, for collect() would tell times in this machine's time zone.
    found = {row["source"]: row for row in counts.toArrow().to_pylist()}
    nothing: dict[str, Any] = {"users": 0, "first": None, "last": None, "past": None}
    return {name: found.get(name, nothing) for name in judged}


def _day_after(spans: Mapping[str, Mapping[str, Any]], deployment: Deployment, today: date) -> date:
    """The day after the newest good event before today: the last day that is over, where rows arrive every day."""
    past = [spans[source.name]["past"] for source in deployment.sources]
    return max((time.date() + timedelta(days=1) for time in past if time), default=today)


def _rejected(found: Profiles, accounts: Mapping[str, RowAccount]) -> dict[str, dict[str, Rejected]]:
    """Refused rows by source and reason, with the first few of them in the order of their JSON."""
    if not any(account.rejected for account in accounts.values()):
        return {}
    rows = (
        found.rejected()
        .groupBy("source", "reason")
        .agg(F.count(F.lit(1)).alias("rows"), F.sort_array(F.min_by("row", "row", SAMPLES)).alias("samples"))
    )
    told: dict[str, dict[str, Rejected]] = {}
    for row in rows.orderBy(F.desc("rows"), "reason").collect():
        samples = [
            text if len(text) <= SAMPLE_CHARACTERS else text[:SAMPLE_CHARACTERS] + " ..." for text in row["samples"]
        ]
        told.setdefault(row["source"], {})[row["reason"]] = Rejected(rows=row["rows"], samples=samples)
    return told


def _sample(rows: DataFrame, deployment: Deployment) -> ProfileSample | None:
    """The profile in the middle, of a day's."""
    names = [source.name for source in deployment.sources]
    counted = rows.withColumn("__events", sum((F.size(name) for name in names), F.lit(0)))
    middle = counted.agg(F.expr("percentile_disc(0.5) WITHIN GROUP (ORDER BY __events)").alias("events")).first()
    if middle is None or middle["events"] is None:
        return None
    [row] = counted.where(F.col("__events") == middle["events"]).orderBy("user_id").limit(1).toArrow().to_pylist()
    return ProfileSample(
        user_id=row["user_id"],
        events={name: [Event(**event) for event in row[name]] for name in names},
        ages=row["ages"],
        tabular=row.get("tabular") or {},
        banded=[a.name for a in deployment.aggregates if aggregate_function(a).banded],
    )
