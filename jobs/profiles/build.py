"""User profiles as of a moment: every source's last events as texts, and the tabular values, point in time.

Nothing at or after `as_of` can change a profile.

`profile_hash` is the SHA-256 of a compact JSON of everything that the model reads, with nulls written out:
`{"<source>":[{"text":...,"gap":...},...],...,"ages":{"<source>":...},"tabular":{"<column>":...}}`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.config.deployment import Deployment
from jobs.config.sections import Aggregate
from jobs.lake import spark_tables
from jobs.profiles.aggregates import Grouped, aggregate_function
from jobs.profiles.event_history import event_histories, grouped_column, window_count_column, without_negative_zero
from jobs.profiles.row_account import Totals, count_totals
from jobs.profiles.source_tables import open_sources
from jobs.profiles.time_bands import time_band, whole_days
from jobs.profiles.validation import rejected_rows, validate_sources


@dataclass(frozen=True, kw_only=True)
class Profiles:
    """The profiles of every eligible user at every cut-off, cached until `release`."""

    rows: DataFrame
    """Columns of `user_profiles` except `day`."""
    totals: dict[date, Totals]
    """Per cut-off."""
    validated: dict[str, DataFrame] = field(repr=False)
    """The validated source tables."""
    raw: dict[str, list[str]] = field(repr=False)
    """The source tables' own columns."""
    cached: DataFrame = field(repr=False)

    def rejected(self) -> DataFrame:
        """Return the rejected rows of all sources as (source, reason, row)."""
        return spark_tables.union([rejected_rows(df, name, self.raw[name]) for name, df in self.validated.items()])

    def release(self) -> None:
        """Remove the rows from the cache."""
        self.cached.unpersist()


def build_profiles(
    spark: SparkSession,
    deployment: Deployment,
    cut_offs: Sequence[date],
    read: Callable[[str], DataFrame] | None = None,
    clock: datetime | None = None,
) -> Profiles:
    """Build the profiles as of the midnights (UTC) of some days, and read each source once for all of them.

    Parameters
    ----------
    read
        Reads a table of the lake by its name, for example at a pinned version; None: `spark_tables.read_table`.
    clock
        Rows later than this moment are counted as `later`; None: the present.

    Raises
    ------
    SourceError
        Source tables or columns are missing or of the wrong type; all such errors at once.
    """
    opened = open_sources(deployment, read or (lambda table: spark_tables.read_table(spark, deployment, table)))
    clock = clock or datetime.now(UTC)
    validated = validate_sources(deployment, opened)
    users = event_histories(validated, deployment, cut_offs, clock)
    cached = _with_profile_columns(users, deployment).persist(StorageLevel.MEMORY_AND_DISK)
    columns = [name for name in spark_tables.table_schema(deployment, "user_profiles").names if name != "day"]
    return Profiles(
        rows=cached.where("__eligible").select(*columns),
        totals=count_totals(cached, deployment, cut_offs),
        validated=validated,
        raw={name: df.columns for name, df in opened.items()},
        cached=cached,
    )


def deactivated_rows(deployment: Deployment) -> dict[str, Column]:
    """Return the values of a deactivated user for every column of `user_profiles` but user_id, as_of and day."""
    empty = {source.name: F.array() for source in deployment.sources}
    return {
        column.name: empty.get(column.name, F.lit(None)).cast(column.dataType)
        for column in spark_tables.table_schema(deployment, "user_profiles")
        if column.name not in ("user_id", "as_of", "day")
    }


def _with_profile_columns(users: DataFrame, deployment: Deployment) -> DataFrame:
    """Add the profile's columns and `__eligible` to the histories, one row per user id of any source."""
    events = [source.name for source in deployment.sources]
    # A history begins with the latest event, a profile with the oldest.
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
    hashed = [F.arrays_zip(F.col(f"{name}.text"), F.col(f"{name}.gap")).alias(name) for name in events]
    hashed.append(F.col("ages"))
    if tabular := _tabular(deployment):
        users = users.withColumn("tabular", F.struct(*tabular))
        hashed.append(F.col("tabular"))
    canonical = F.to_json(F.struct(*hashed), {"ignoreNullFields": "false"})
    return users.withColumn("profile_hash", F.when(F.col("__eligible"), F.sha2(canonical, 256)))


def _age(name: str) -> Column:
    """Return the band of days since a source's last event."""
    last = F.try_element_at(F.col(name), F.lit(-1))["event_time"]
    return time_band(whole_days(last, F.col("__as_of")))


def _tabular(deployment: Deployment) -> list[Column]:
    attributes = deployment.attributes
    declared = attributes.numbers if attributes else ()
    numbers = [F.col("__values")[number.name].alias(number.name) for number in declared]
    numbers += [without_negative_zero(_aggregate(a)).alias(a.name) for a in deployment.aggregates]
    return [*numbers, *(F.col("__values")[name].alias(name) for name in deployment.categories)]


def _aggregate(aggregate: Aggregate) -> Column:
    user = Grouped(
        events=F.col(window_count_column(aggregate)), value=F.col(grouped_column(aggregate)), as_of=F.col("__as_of")
    )
    return aggregate_function(aggregate).finish(user)
