"""User profiles as of a moment: every source's last events as texts, and the tabular values, point in time.

Nothing at or after `as_of` can change a profile.

`profile_hash` is the SHA-256 of a compact JSON of everything the model sees, nulls written out:
`{"<source>":[{"text":...,"gap":...},...],...,"ages":{"<source>":...},"tabular":{"<column>":...}}`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.config.deployment import Deployment
from jobs.config.sections import Aggregate
from jobs.lake import spark_tables
from jobs.profiles import source_tables
from jobs.profiles.event_history import (
    event_histories,
    log2_band,
    source_names,
    whole_days,
    window_count_column,
    without_negative_zero,
)


@dataclass(frozen=True, kw_only=True)
class RowAccount:
    """Where every row of a source went. Rows in are the sum of the others up to `rejected`."""

    rows_in: int
    used: int
    after: int
    """At or after as_of."""
    outside: int
    """Before the source's window."""
    over: int
    """Over the source's limit."""
    repeated: int
    superseded: int
    """Attribute rows with a later one."""
    rejected: int
    later: int
    """Later than the run's clock; these are among `after`, or among used ones where as_of lies ahead."""

    def left_out(self) -> dict[str, int]:
        """What was not used, by reason; `rejected` is told apart by the rejected rows' own reasons."""
        named = {
            "at or after as_of": self.after,
            "outside the window": self.outside,
            "over the limit": self.over,
            "repeated": self.repeated,
            "superseded": self.superseded,
        }
        return {reason: count for reason, count in named.items() if count}

    def too_many_rejected(self, share: float) -> bool:
        """Whether more than this share of the rows were rejected."""
        return self.rejected > share * self.rows_in

    @property
    def balanced(self) -> bool:
        return self.rows_in == self.used + sum(self.left_out().values()) + self.rejected


@dataclass(frozen=True, kw_only=True)
class Totals:
    """What was read and found as of one moment."""

    users: int
    """Eligible ones."""
    accounts: dict[str, RowAccount]
    """Per event source, and `attributes`."""
    aggregate_rows: dict[str, int]
    """Rows read per aggregate."""


@dataclass(frozen=True, kw_only=True)
class Profiles:
    """The profiles of every eligible user at every cut-off, cached until `release`."""

    rows: DataFrame
    """Columns of `user_profiles` but `day`."""
    totals: dict[date, Totals]
    """Per cut-off."""
    judged: dict[str, DataFrame] = field(repr=False)
    """The judged source tables."""
    raw: dict[str, list[str]] = field(repr=False)
    cached: DataFrame = field(repr=False)

    def rejected(self) -> DataFrame:
        """Refused rows of all sources as (source, reason, row)."""
        return spark_tables.union(
            [source_tables.rejected_rows(df, name, self.raw[name]) for name, df in self.judged.items()]
        )

    def release(self) -> None:
        """Forget the cached rows."""
        self.cached.unpersist()


def build_profiles(
    spark: SparkSession,
    deployment: Deployment,
    cut_offs: Sequence[date],
    read: Callable[[str], DataFrame] | None = None,
    clock: datetime | None = None,
) -> Profiles:
    """Profiles as of the midnights (UTC) of some days, each source read once for all of them.

    Parameters
    ----------
    read
        Gives a table of the lake by its name; `tables.read` unless a run pins versions.
    clock
        Rows later than this moment are counted; now unless given.

    Raises
    ------
    SourceError
        A source table or column is missing or of the wrong type; all such mistakes at once.
    """
    opened = source_tables.open_sources(
        deployment, read or (lambda table: spark_tables.read_table(spark, deployment, table))
    )
    clock = clock or datetime.now(UTC)
    judged = source_tables.validated(deployment, opened)
    users = event_histories(judged, deployment, cut_offs, clock)
    cached = _shaped(users, deployment).persist(StorageLevel.MEMORY_AND_DISK)
    columns = [name for name in spark_tables.table_schema(deployment, "user_profiles").names if name != "day"]
    return Profiles(
        rows=cached.where("__eligible").select(*columns),
        totals=_totals(cached, deployment, cut_offs),
        judged=judged,
        raw={name: df.columns for name, df in opened.items()},
        cached=cached,
    )


def _shaped(users: DataFrame, deployment: Deployment) -> DataFrame:
    """One row per user id of any source: the profile's columns, the counts, and whether he is eligible."""
    events = [source.name for source in deployment.sources]
    # Collected from the latest on; what a person and the model read goes from the oldest.
    users = users.withColumns({name: F.reverse(name) for name in events})
    used = sum((F.size(name) for name in events), F.lit(0))
    users = users.withColumns(
        {
            "user_id": F.col("__user"),
            "as_of": F.col("__as_of"),
            "ages": F.struct(*[_age(name).alias(name) for name in events]),
            "__eligible": F.col("__user").isNotNull() & (used >= deployment.eligible.min_events),
        }
    )
    seen = [F.arrays_zip(F.col(f"{name}.text"), F.col(f"{name}.gap")).alias(name) for name in events]
    seen.append(F.col("ages"))
    if tabular := _tabular(deployment):
        users = users.withColumn("tabular", F.struct(*tabular))
        seen.append(F.col("tabular"))
    canonical = F.to_json(F.struct(*seen), {"ignoreNullFields": "false"})
    return users.withColumn("profile_hash", F.when(F.col("__eligible"), F.sha2(canonical, 256)))


def _age(name: str) -> Column:
    last = F.try_element_at(F.col(name), F.lit(-1))["event_time"]
    return log2_band(whole_days(last, F.col("__as_of")))


def _tabular(deployment: Deployment) -> list[Column]:
    attributes = deployment.attributes
    declared = attributes.numbers if attributes else ()
    numbers = [F.col("__values")[number.name].alias(number.name) for number in declared]
    numbers += [without_negative_zero(_aggregate(a)).alias(a.name) for a in deployment.aggregates]
    return [*numbers, *(F.col("__values")[name].alias(name) for name in deployment.categories)]


def _aggregate(aggregate: Aggregate) -> Column:
    """A user's value: 0 for a count or sum over no event, null (missing) where there is nothing to tell."""
    rows, value = F.col(window_count_column(aggregate)), F.col(f"__a_{aggregate.name}")
    if aggregate.function == "count":
        return rows
    if aggregate.function == "distinct":
        return value
    if aggregate.function == "days_since_last":
        return log2_band(whole_days(value, F.col("__as_of")))
    if aggregate.function == "mean":
        return F.when(value["count"] > 0, value["sum"].cast("double") / value["count"])
    return F.when(rows == 0, 0.0).when(value["count"] > 0, value["sum"].cast("double"))


def _totals(users: DataFrame, deployment: Deployment, cut_offs: Sequence[date]) -> dict[date, Totals]:
    counts = [F.count_if("__eligible").alias("users")]
    for name in source_names(deployment):
        fields = users.select(f"__n_{name}.*").columns
        counts += [F.sum(F.col(f"__n_{name}")[key]).alias(f"{name}.{key}") for key in fields]
    counts += [F.sum(F.size(source.name)).alias(f"{source.name}.used") for source in deployment.sources]
    counts += [F.count("__values").alias("attributes.used")] if deployment.attributes else []
    counts += [
        F.sum(name).alias(name) for name in {window_count_column(aggregate) for aggregate in deployment.aggregates}
    ]
    rows = users.groupBy(F.to_date("__as_of").alias("day")).agg(*counts).collect()
    found = {row["day"]: row.asDict() for row in rows}

    def totals(cut_off: date) -> Totals:
        # Where every table is empty there is no group at all.
        count = (
            {name: int(found[cut_off][name] or 0) for name in found[cut_off] if name != "day"}
            if (cut_off in found)
            else defaultdict(int)
        )
        return Totals(
            users=count["users"],
            accounts=_accounts(count, deployment),
            aggregate_rows={a.name: count[window_count_column(a)] for a in deployment.aggregates},
        )

    return {cut_off: totals(cut_off) for cut_off in cut_offs}


def _accounts(count: Mapping[str, int], deployment: Deployment) -> dict[str, RowAccount]:
    def events(name: str) -> RowAccount:
        kept, within, used = (count[f"{name}.{key}"] for key in ("kept", "within", "used"))
        return RowAccount(
            rows_in=count[f"{name}.rows_in"],
            used=used,
            after=count[f"{name}.after"],
            outside=kept - within,
            over=within - used,
            repeated=count[f"{name}.repeated"],
            superseded=0,
            rejected=count[f"{name}.rejected"],
            later=count[f"{name}.later"],
        )

    found = {source.name: events(source.name) for source in deployment.sources}
    if deployment.attributes:
        kept, used = count["attributes.kept"], count["attributes.used"]
        found[source_tables.ATTRIBUTES] = RowAccount(
            rows_in=count["attributes.rows_in"],
            used=used,
            after=count["attributes.after"],
            outside=0,
            over=0,
            repeated=0,
            superseded=kept - used,
            rejected=count["attributes.rejected"],
            later=count["attributes.later"],
        )
    return found


def deactivated_rows(deployment: Deployment) -> dict[str, Column]:
    """The values of a user who fell out, for every column of `user_profiles` but user_id, as_of and day."""
    empty = {source.name: F.array() for source in deployment.sources}
    return {
        column.name: empty.get(column.name, F.lit(None)).cast(column.dataType)
        for column in spark_tables.table_schema(deployment, "user_profiles")
        if column.name not in ("user_id", "as_of", "day")
    }
