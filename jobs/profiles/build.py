"""User profiles as of a moment: every source's last events as texts, and the tabular values, point in time.

Nothing at or after `as_of` can change a profile.

`profile_hash` is the SHA-256 of a compact JSON of everything that the model reads, with nulls written out:
`{"<source>":[{"text":...,"gap":...},...],...,"ages":{"<source>":...},"tabular":{"<column>":...}}`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.config.deployment import Deployment
from jobs.config.sections import Column as AttributeColumn
from jobs.lake import spark_tables
from jobs.lake.spark_tables import midnight_column
from jobs.profiles.aggregate_windows import user_value
from jobs.profiles.event_history import event_histories
from jobs.profiles.peer_groups import with_relative_values
from jobs.profiles.row_account import Totals, count_totals
from jobs.profiles.templates import finite
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
    deployment: Deployment, opened: Mapping[str, DataFrame], cut_offs: Sequence[date], clock: datetime | None = None
) -> Profiles:
    """Build the profiles as of the midnights (UTC) of some days, and read each source once for all of them.

    Parameters
    ----------
    opened
        The source tables, from `source_tables.open_sources`.
    clock
        Rows later than this moment are counted as `later`; None: the present.
    """
    clock = clock or datetime.now(UTC)
    validated = validate_sources(deployment, opened)
    users = _with_values(event_histories(validated, deployment, cut_offs, clock), deployment)
    relative = {_value_column(a.name): _value_column(a.per) for a in deployment.aggregates if a.per}
    compared = users
    if relative:
        # Read twice: for the means of the groups, and for the users that are compared with them.
        compared = with_relative_values(users.persist(StorageLevel.MEMORY_AND_DISK), relative)
    cached = _with_profile_columns(compared, deployment).persist(StorageLevel.MEMORY_AND_DISK)
    columns = [name for name in spark_tables.table_schema(deployment, "user_profiles").names if name != "day"]
    totals = count_totals(cached, deployment, cut_offs)
    if relative:
        users.unpersist()
    return Profiles(
        rows=cached.where("__eligible").select(*columns),
        totals=totals,
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


def _with_values(users: DataFrame, deployment: Deployment) -> DataFrame:
    """Add `__eligible` and every tabular value, under `_value_column` of its name, to the histories."""
    attributes = deployment.attributes
    declared = (*attributes.numbers, *attributes.categories) if attributes else ()
    values = {_value_column(column.name): _attribute(column) for column in declared}
    values |= {_value_column(a.name): user_value(a) for a in deployment.aggregates}
    numbers = [_value_column(a.name) for a in deployment.aggregates if not a.declared.category]
    users = users.withColumns({"__eligible": _eligible(deployment), **values})
    # In a second step, because Spark would compute a value anew for each of its uses.
    return users.withColumns({name: finite(F.col(name)) for name in numbers})


def _attribute(declared: AttributeColumn) -> Column:
    """Return an attribute's value; null as of the days on which it was not yet known."""
    value = F.col("__values")[declared.name]
    if declared.known_from is None:
        return value
    return F.when(F.col("__as_of") > midnight_column(declared.known_from), value)


def _eligible(deployment: Deployment) -> Column:
    """Return whether a user gets a profile: by events in the windows, or with `min_events: 0` by an attributes row."""
    least = deployment.eligible.min_events
    used = sum((F.size(source.name) for source in deployment.sources), F.lit(0))
    enough = used >= max(1, least)
    if least == 0:
        enough = enough | F.col("__values").isNotNull()
    return F.col("__user").isNotNull() & enough


def _with_profile_columns(users: DataFrame, deployment: Deployment) -> DataFrame:
    """Add the profile's columns to the users, one row per user id of any source."""
    events = [source.name for source in deployment.sources]
    # A history begins with the latest event, a profile with the oldest.
    users = users.withColumns({name: F.reverse(name) for name in events})
    ages = F.struct(*[_age(name).alias(name) for name in events])
    users = users.withColumns({"user_id": F.col("__user"), "as_of": F.col("__as_of"), "ages": ages})
    hashed = [F.arrays_zip(F.col(f"{name}.text"), F.col(f"{name}.gap")).alias(name) for name in events]
    hashed.append(F.col("ages"))
    if names := [*deployment.numbers, *deployment.categories]:
        tabular = F.struct(*[F.col(_value_column(name)).alias(name) for name in names])
        users = users.withColumn("tabular", tabular)
        hashed.append(F.col("tabular"))
    canonical = F.to_json(F.struct(*hashed), {"ignoreNullFields": "false"})
    users = users.withColumn("profile_hash", F.when(F.col("__eligible"), F.sha2(canonical, 256)))
    return users.drop(*[name for name in users.columns if name.startswith(("__a_", "__t_"))])


def _age(name: str) -> Column:
    """Return the band of days since a source's last event."""
    last = F.try_element_at(F.col(name), F.lit(-1))["event_time"]
    return time_band(whole_days(last, F.col("__as_of")))


def _value_column(name: str) -> str:
    return f"__t_{name}"
