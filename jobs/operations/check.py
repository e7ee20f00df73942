"""Check: the rows of the source tables and the cost of each day, without writing anything.

The check builds the profiles as of a day, so rows are validated and counted as assemble would do it. It also builds
them as of the day before, and the difference is the cost of a day (`jobs.operations.cost_estimate`).
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
from jobs.lake.delta import midnight
from jobs.lake.spark_tables import midnight_column
from jobs.operations.cost_estimate import CostEstimate, estimate_costs
from jobs.operations.instruction_check import instruction_warnings
from jobs.operations.label_check import LabelCheck, check_labels, label_days, read_checked_labels
from jobs.operations.look_alikes import LookAlikes, find_look_alikes
from jobs.operations.store_check import store_problem
from jobs.profiles.build import Profiles, build_profiles
from jobs.profiles.row_account import RowAccount
from jobs.profiles.source_tables import ATTRIBUTES, open_sources
from jobs.profiles.validation import validate_sources
from jobs.training.labels import LabelSet
from jobs.userqa.question_sample import QuestionSample, sample_questions
from jobs.userqa.question_windows import check_questions, first_label
from jobs.userqa.questions import Questions
from jobs.userqa.static_leaks import StaticLeak, static_leaks

SAMPLES = 3
"""Sample rows per reason."""
SAMPLE_CHARACTERS = 200


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """The rejected rows of a source for one reason."""

    rows: int
    samples: list[str]
    """Some of the rows as JSON, truncated where they are long."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """The rows of a source's table, and their account as of the day."""

    table: str
    version: int | None
    """Delta version of the table that was read; None where it has no versions."""
    users: int
    """Distinct users of the good rows of any time."""
    first: datetime | None
    """Time of the first good row; None without one, and where attributes carry no time."""
    last: datetime | None
    account: RowAccount
    rejected: dict[str, Rejected]
    """By reason."""
    refused: bool
    """Whether assemble would fail, because more than `max_reject_share` of the rows are rejected."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """An event of the sample profile."""

    event_time: datetime
    text: str
    gap: int
    """Band of days since the event before; -1 for the first event."""


@dataclass(frozen=True, kw_only=True)
class ProfileSample:
    """The profile of the eligible user with the median number of events; of several, the first by user id."""

    user_id: str
    events: dict[str, list[Event]]
    """Per source, the oldest event first."""
    ages: dict[str, int | None]
    """Per source, the band of days since its last event; None without events."""
    tabular: dict[str, Any]
    banded: list[str]
    """Tabular columns that hold a time band, as gaps and ages do."""


@dataclass(frozen=True, kw_only=True)
class Users:
    """The users of the good rows of all sources, of any time."""

    known: int
    """Different users."""
    without_events: int
    """Those of them who have attributes alone."""


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """The result of one check."""

    as_of: date
    sources: dict[str, Source]
    """Per event source, and `attributes`."""
    static: bool
    """Whether attributes carry no time and hold for every day."""
    costs: CostEstimate
    look_alikes: LookAlikes
    """User ids of all sources that look like one."""
    users: Users
    labels: dict[str, LabelCheck]
    """Per scenario with labels; empty where `refusals` has an error of one."""
    static_leaks: list[StaticLeak]
    instructions: dict[str, str]
    """Per scenario whose instruction the current release does not understand, the warning; empty without focus."""
    refusals: list[str]
    """Why evaluate would refuse the labels, or publish and lookup the store; the other jobs' errors are raised."""
    profile: ProfileSample | None
    """None where no user is eligible."""
    questions: QuestionSample
    seconds: float


def check(
    spark: SparkSession, deployment: Deployment, as_of: date | None = None, now: datetime | None = None
) -> CheckResult:
    """Return what assemble, userqa and embed would do with the tables as of a day, without writing anything.

    Parameters
    ----------
    as_of : date, optional
        None: the day after the newest good event before today, UTC.
    now : datetime, optional
        The present, UTC; None: as the clock says.

    Raises
    ------
    SourceError
        Source tables or columns are missing or of the wrong type; all such errors at once.
    TableError
        A scenario names a table of labels that does not exist.
    QuestionError
        The questions file, or a query of it, is wrong; all such errors at once.
    TokenizerError
        The release's or checkpoint's tokenizer cannot be read.
    """
    started, now = time.monotonic(), now or datetime.now(UTC)
    questions = Questions.read(deployment.resolve(deployment.userqa.questions))
    versions: dict[str, int] = {}

    def read(table: str) -> DataFrame:
        return spark_tables.read_pinned(spark, deployment, table, versions)

    opened = open_sources(deployment, read)
    span = check_questions(spark, deployment, questions, opened, first_label(deployment, spark, versions))
    spans, users, look_alikes = _users(validate_sources(deployment, opened), now.date())
    labels, refusals = read_checked_labels(deployment)
    as_of = as_of or _day_after(spans, deployment, now.date())
    before = as_of - timedelta(days=1)
    profiles = build_profiles(deployment, opened, sorted({before, as_of, *label_days(labels)}), now)
    try:
        counts = _count_profiles(profiles, deployment, labels, before, as_of)
        rejected = _rejected(profiles, as_of)
    finally:
        profiles.release()
    store = store_problem(deployment)
    return CheckResult(
        as_of=as_of,
        sources=_sources(deployment, versions, spans, profiles.totals[as_of].accounts, rejected),
        static=deployment.attributes is not None and deployment.attributes.static,
        look_alikes=look_alikes,
        users=users,
        static_leaks=static_leaks(deployment, questions),
        instructions=instruction_warnings(deployment),
        refusals=[*refusals, *([store] if store else [])],
        questions=sample_questions(deployment, questions, opened, span, users.known, now),
        **counts,
        seconds=time.monotonic() - started,
    )


def _count_profiles(
    profiles: Profiles, deployment: Deployment, labels: Mapping[str, LabelSet], before: date, as_of: date
) -> dict[str, Any]:
    """Return the fields of the result that are read from the profiles."""
    rows = profiles.rows
    return {
        "costs": estimate_costs(
            rows.where(F.col("as_of").isin(midnight(before), midnight(as_of))), deployment, before, as_of
        ),
        "labels": check_labels(labels, rows),
        "profile": _sample(rows.where(F.col("as_of") == midnight_column(as_of)), deployment),
    }


def _sources(
    deployment: Deployment,
    versions: Mapping[str, int],
    spans: Mapping[str, Mapping[str, Any]],
    accounts: Mapping[str, RowAccount],
    rejected: Mapping[str, dict[str, Rejected]],
) -> dict[str, Source]:
    tables = {source.name: source.table for source in deployment.sources}
    if deployment.attributes:
        tables[ATTRIBUTES] = deployment.attributes.table
    return {
        name: Source(
            table=table,
            version=versions.get(table),
            users=spans[name]["users"],
            first=spans[name]["first"],
            last=spans[name]["last"],
            account=accounts[name],
            rejected=rejected.get(name, {}),
            refused=accounts[name].too_many_rejected(deployment.max_reject_share),
        )
        for name, table in tables.items()
    }


def _users(validated: Mapping[str, DataFrame], today: date) -> tuple[dict[str, dict[str, Any]], Users, LookAlikes]:
    """Return the spans of the sources, the number of users, and the user ids that look alike.

    The spans are per source the distinct `users` of the good rows, and their times: `first`, `last`, last before today.
    """

    def good(name: str) -> DataFrame:
        rows = validated[name].where(F.col("__rejected").isNull())
        return rows.select(F.lit(name).alias("source"), F.col("__user").alias("user"), F.col("__time").alias("time"))

    rows = spark_tables.union([good(name) for name in validated])
    past = F.when(F.col("time") < midnight_column(today), F.col("time"))
    users = (
        rows.groupBy("source", "user")
        .agg(F.min("time").alias("first"), F.max("time").alias("last"), F.max(past).alias("past"))
        .cache()
    )
    counts = users.groupBy("source").agg(
        F.count(F.lit(1)).alias("users"),
        F.min("first").alias("first"),
        F.max("last").alias("last"),
        F.max("past").alias("past"),
    )
    # Arrow keeps UTC, where collect() converts to the time zone of this machine.
    result = {row["source"]: row for row in counts.toArrow().to_pylist()}
    look_alikes = find_look_alikes(users)
    sources = users.groupBy("user").agg(F.bool_and(F.col("source") == ATTRIBUTES).alias("alone"))
    known, alone = sources.agg(F.count(F.lit(1)), F.count_if("alone")).collect()[0]
    users.unpersist()
    empty: dict[str, Any] = {"users": 0, "first": None, "last": None, "past": None}
    spans = {name: result.get(name, empty) for name in validated}
    return spans, Users(known=known, without_events=alone), look_alikes


def _day_after(spans: Mapping[str, Mapping[str, Any]], deployment: Deployment, today: date) -> date:
    """Return the day after the newest good event before today; where rows arrive every day, the last complete day."""
    past = [spans[source.name]["past"] for source in deployment.sources]
    return max((time.date() + timedelta(days=1) for time in past if time), default=today)


def _rejected(profiles: Profiles, as_of: date) -> dict[str, dict[str, Rejected]]:
    """Return the rejected rows per source and reason, with the first few in the order of their JSON."""
    if not any(account.rejected for account in profiles.totals[as_of].accounts.values()):
        return {}
    rows = (
        profiles.rejected()
        .groupBy("source", "reason")
        .agg(F.count(F.lit(1)).alias("rows"), F.sort_array(F.min_by("row", "row", SAMPLES)).alias("samples"))
    )
    result: dict[str, dict[str, Rejected]] = {}
    for row in rows.orderBy(F.desc("rows"), "reason").collect():
        samples = [
            text if len(text) <= SAMPLE_CHARACTERS else text[:SAMPLE_CHARACTERS] + " ..." for text in row["samples"]
        ]
        result.setdefault(row["source"], {})[row["reason"]] = Rejected(rows=row["rows"], samples=samples)
    return result


def _sample(rows: DataFrame, deployment: Deployment) -> ProfileSample | None:
    """Return the profile with the median number of events of a day's profiles; None without profiles."""
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
        banded=[a.name for a in deployment.aggregates if a.declared.banded],
    )
