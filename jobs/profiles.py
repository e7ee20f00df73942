"""User profiles as of a moment: every source's last events as texts, and the tabular values, point in time.

One grouping per source (a user's last events are kept by a bounded top-k, never all of them), one more that
brings a user's sources together. Nothing at or after `as_of` can change a profile.

`profile_hash` is the SHA-256 of a compact JSON of everything the model sees, nulls written out:
`{"<source>":[{"text":...,"gap":...},...],...,"ages":{"<source>":...},"tabular":{"<column>":...}}`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs import sources, tables, templates
from jobs.blocks import Aggregate, Attributes, EventSource
from jobs.deployment import Deployment
from jobs.tables import moment
from jobs.templates import named

KEYS = ("__user", "__as_of")
DAY_MICROS = 86_400_000_000
EXACT = "decimal(28,8)"
"""Sums are exact decimals: a float sum would depend on the order of rows, and a hash on its last bit."""


@dataclass(frozen=True, kw_only=True)
class Account:
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
        named = {"at or after as_of": self.after, "outside the window": self.outside,
                 "over the limit": self.over, "repeated": self.repeated, "superseded": self.superseded}
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
    accounts: dict[str, Account]
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
        frames = [sources.rejected_rows(df, name, self.raw[name]) for name, df in self.judged.items()]
        return _union(frames)

    def release(self) -> None:
        """Forget the cached rows."""
        self.cached.unpersist()


def profiles(spark: SparkSession, deployment: Deployment, cut_offs: Sequence[date],
             read: Callable[[str], DataFrame] | None = None, clock: datetime | None = None) -> Profiles:
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
    opened = sources.opened(deployment, read or (lambda table: tables.read(spark, deployment, table)))
    clock = clock or datetime.now(UTC)
    judged = sources.judged(deployment, opened)
    groups = [_last_events(judged[source.name], source,
                           [a for a in deployment.aggregates if a.source == source.name], cut_offs, clock)
              for source in deployment.sources]
    if deployment.attributes:
        groups.append(_last_attributes(judged[sources.ATTRIBUTES], deployment.attributes, cut_offs, clock))
    together = _union(groups)
    values = [F.any_value(name, True).alias(name) for name in together.columns if name not in KEYS]
    cached = _shaped(together.groupBy(*KEYS).agg(*values), deployment).persist(StorageLevel.MEMORY_AND_DISK)
    columns = [name for name in tables.user_profiles(deployment).names if name != "day"]
    return Profiles(rows=cached.where("__eligible").select(*columns),
                    totals=_totals(cached, deployment, cut_offs), judged=judged,
                    raw={name: df.columns for name, df in opened.items()}, cached=cached)


def band(days: Column) -> Column:
    """floor(log2(1 + days)) exactly, for whole days >= 0."""
    return (F.length(F.bin(days + 1)) - 1).cast("int")


def whole_days(earlier: Column, later: Column) -> Column:
    """Full days of 24 hours between two timestamps, rounded down."""
    return F.call_function("div", F.unix_micros(later) - F.unix_micros(earlier), F.lit(DAY_MICROS))


def _read(aggregate: Aggregate) -> str:
    """Column with the number of a user's events in an aggregate's window."""
    return f"__w_{aggregate.source}_{aggregate.window_days}"


def _at(rows: DataFrame, cut_offs: Sequence[date]) -> DataFrame:
    """Each row once per cut-off, in `__as_of`."""
    moments = [moment(cut_off) for cut_off in cut_offs]
    return rows.withColumn("__as_of", moments[0] if len(moments) == 1 else F.explode(F.array(*moments)))


def _since(days: int) -> Column:
    """Whether an event is at most so many days of 24 hours older than `__as_of`."""
    return F.unix_micros("__as_of") - F.unix_micros("__time") <= days * DAY_MICROS


def _last_events(judged: DataFrame, source: EventSource, aggregates: list[Aggregate],
                 cut_offs: Sequence[date], clock: datetime) -> DataFrame:
    """Per user and cut-off: the source's last events, its aggregates and its counts."""
    columns = [a.column for a in aggregates if a.column]
    schema = judged.schema
    # The earliest copy of an id is kept, so whoever is a repeat at the last cut-off is one at any earlier.
    texts_since = min(cut_offs) - timedelta(days=source.window_days)
    rows = _at(sources.events(judged, source, max(cut_offs), columns, texts_since), cut_offs)
    good, time = F.col("__rejected").isNull(), F.col("__time")
    # Conditions and values become columns first: what stands inside max_by or collect_set is interpreted row by row.
    rows = rows.withColumn("__before", good & (time < F.col("__as_of")))
    rows = rows.withColumn("__kept", F.col("__before") & ~F.col("__repeated"))
    rows = rows.withColumn("__within", F.col("__kept") & _since(source.window_days))
    event = F.struct(time.alias("event_time"), F.col("__id").alias("id"), F.col("__text").alias("text"))
    made = {"__event": F.when(F.col("__within"), event)}
    aggregated: dict[str, Column] = {
        source.name: F.max_by("__event", "__event", source.max_events),
        f"__n_{source.name}": F.struct(
            F.count(F.lit(1)).alias("rows_in"), F.count_if(good & ~F.col("__before")).alias("after"),
            F.count_if(F.col("__before") & F.col("__repeated")).alias("repeated"), F.count_if(~good).alias("rejected"),
            F.count_if("__kept").alias("kept"), F.count_if("__within").alias("within"),
            F.count_if(good & (time > F.lit(clock))).alias("later")),
    }
    for aggregate in aggregates:
        inside = F.col("__kept") & _since(aggregate.window_days)
        aggregated[_read(aggregate)] = F.count_if(inside)
        column, name = named(str(aggregate.column)), f"__a_{aggregate.name}"
        if aggregate.function in ("sum", "mean"):
            number = templates.number(column, schema[str(aggregate.column)].dataType).try_cast(EXACT)
            made[name] = F.when(inside, number)
            aggregated[name] = F.struct(F.try_sum(name).alias("sum"), F.count(name).alias("count"))
        elif aggregate.function == "distinct":
            made[name] = F.when(inside, column)
            aggregated[name] = F.size(F.collect_set(name))
        elif aggregate.function == "days_since_last":
            made[name] = F.when(inside, time)
            aggregated[name] = F.max(name)
    rows = rows.withColumns(made)
    return rows.groupBy(*KEYS).agg(*[value.alias(name) for name, value in aggregated.items()])


def _last_attributes(judged: DataFrame, attributes: Attributes, cut_offs: Sequence[date],
                     clock: datetime) -> DataFrame:
    """Per user and cut-off: the latest row of attributes valid before it, and the counts."""
    good, time = F.col("__rejected").isNull(), F.col("__time")
    before = good & (F.lit(True) if attributes.static else time < F.col("__as_of"))
    schema = judged.schema
    numbers = [_plain(templates.number(named(number.column), schema[number.column].dataType)).alias(number.name)
               for number in attributes.numbers]
    categories = [_clean(named(category.column)).alias(category.name) for category in attributes.categories]
    # Two rows valid from the same moment: the values themselves decide, so that the order of rows cannot.
    row = F.when(before, F.struct(time.alias("__time"), *numbers, *categories))
    return _at(judged, cut_offs).groupBy(*KEYS).agg(
        F.max(row).alias("__values"),
        F.struct(F.count(F.lit(1)).alias("rows_in"), F.count_if(good & ~before).alias("after"),
                 F.count_if(~good).alias("rejected"), F.count_if(before).alias("kept"),
                 F.count_if(good & (time > F.lit(clock))).alias("later")).alias("__n_attributes"))


def _shaped(users: DataFrame, deployment: Deployment) -> DataFrame:
    """One row per user id of any source: the profile's columns, the counts, and whether he is eligible."""
    names = [source.name for source in deployment.sources]
    # Empty where null, sorted from the oldest; sort_array orders structs by time, then id, then text.
    users = users.withColumns({name: F.coalesce(F.sort_array(name), F.array()) for name in names})
    used = sum((F.size(name) for name in names), F.lit(0))
    users = users.withColumns({name: _with_gaps(name) for name in names}).withColumns({
        "user_id": F.col("__user"), "as_of": F.col("__as_of"),
        "ages": F.struct(*[_age(name).alias(name) for name in names]),
        "__eligible": F.col("__user").isNotNull() & (used >= deployment.eligible.min_events)})
    seen = [F.transform(name, lambda e: F.struct(e["text"].alias("text"), e["gap"].alias("gap"))).alias(name)
            for name in names]
    seen.append(F.col("ages"))
    if tabular := _tabular(deployment):
        users = users.withColumn("tabular", F.struct(*tabular))
        seen.append(F.col("tabular"))
    canonical = F.to_json(F.struct(*seen), {"ignoreNullFields": "false"})
    return users.withColumn("profile_hash", F.when(F.col("__eligible"), F.sha2(canonical, 256)))


def _with_gaps(name: str) -> Column:
    events = F.col(name)

    def kept(event: Column, index: Column) -> Column:
        before = F.get(events, index - 1)["event_time"]
        time = event["event_time"]
        gap = F.when(index == 0, F.lit(-1)).otherwise(band(whole_days(before, time)))
        return F.struct(time.alias("event_time"), event["text"].alias("text"), gap.alias("gap"))

    return F.transform(events, kept)


def _age(name: str) -> Column:
    last = F.try_element_at(F.col(name), F.lit(-1))["event_time"]
    return band(whole_days(last, F.col("__as_of")))


def _tabular(deployment: Deployment) -> list[Column]:
    attributes = deployment.attributes
    declared = attributes.numbers if attributes else ()
    numbers = [F.col("__values")[number.name].alias(number.name) for number in declared]
    numbers += [_plain(_aggregate(a)).alias(a.name) for a in deployment.aggregates]
    return [*numbers, *(F.col("__values")[name].alias(name) for name in deployment.categories)]


def _aggregate(aggregate: Aggregate) -> Column:
    """A user's value: 0 for a count or sum over no event, null (missing) where there is nothing to tell."""
    rows, value = F.coalesce(F.col(_read(aggregate)), F.lit(0)), F.col(f"__a_{aggregate.name}")
    if aggregate.function == "count":
        return rows
    if aggregate.function == "distinct":
        return F.coalesce(value, F.lit(0))
    if aggregate.function == "days_since_last":
        return band(whole_days(value, F.col("__as_of")))
    if aggregate.function == "mean":
        return F.when(value["count"] > 0, value["sum"].cast("double") / value["count"])
    return F.when(rows == 0, 0.0).when(value["count"] > 0, value["sum"].cast("double"))


def _plain(value: Column) -> Column:
    """A double without a negative zero, which would be another hash of the same number."""
    return value.cast("double") + F.lit(0.0)


def _clean(value: Column) -> Column:
    words = F.trim(F.regexp_replace(F.make_valid_utf8(value.cast("string")), templates.BLANKS, " "))
    return F.when(words != "", F.substring(words, 1, templates.MAX_CHARACTERS))


def _totals(users: DataFrame, deployment: Deployment, cut_offs: Sequence[date]) -> dict[date, Totals]:
    counts = [F.count_if("__eligible").alias("users")]
    for name in _counted(deployment):
        fields = users.select(f"__n_{name}.*").columns
        counts += [F.sum(F.col(f"__n_{name}")[key]).alias(f"{name}.{key}") for key in fields]
    counts += [F.sum(F.size(source.name)).alias(f"{source.name}.used") for source in deployment.sources]
    counts += [F.count("__values").alias("attributes.used")] if deployment.attributes else []
    counts += [F.sum(name).alias(name) for name in {_read(aggregate) for aggregate in deployment.aggregates}]
    rows = users.groupBy(F.to_date("__as_of").alias("day")).agg(*counts).collect()
    found = {row["day"]: row.asDict() for row in rows}

    def totals(cut_off: date) -> Totals:
        # Where every table is empty there is no group at all.
        count = {name: int(found[cut_off][name] or 0) for name in found[cut_off] if name != "day"} if (
            cut_off in found) else defaultdict(int)
        return Totals(users=count["users"], accounts=_accounts(count, deployment),
                      aggregate_rows={a.name: count[_read(a)] for a in deployment.aggregates})

    return {cut_off: totals(cut_off) for cut_off in cut_offs}


def _counted(deployment: Deployment) -> list[str]:
    attributes = [sources.ATTRIBUTES] if deployment.attributes else []
    return [*(source.name for source in deployment.sources), *attributes]


def _accounts(count: Mapping[str, int], deployment: Deployment) -> dict[str, Account]:
    def events(name: str) -> Account:
        kept, within, used = (count[f"{name}.{key}"] for key in ("kept", "within", "used"))
        return Account(rows_in=count[f"{name}.rows_in"], used=used, after=count[f"{name}.after"],
                       outside=kept - within, over=within - used, repeated=count[f"{name}.repeated"],
                       superseded=0, rejected=count[f"{name}.rejected"], later=count[f"{name}.later"])

    found = {source.name: events(source.name) for source in deployment.sources}
    if deployment.attributes:
        kept, used = count["attributes.kept"], count["attributes.used"]
        found[sources.ATTRIBUTES] = Account(
            rows_in=count["attributes.rows_in"], used=used, after=count["attributes.after"], outside=0, over=0,
            repeated=0, superseded=kept - used, rejected=count["attributes.rejected"],
            later=count["attributes.later"])
    return found


def _union(frames: list[DataFrame]) -> DataFrame:
    whole = frames[0]
    for frame in frames[1:]:
        whole = whole.unionByName(frame, allowMissingColumns=True)
    return whole


def ended(deployment: Deployment) -> dict[str, Column]:
    """The values of a user who fell out, for every column of `user_profiles` but user_id, as_of and day."""
    empty = {source.name: F.array() for source in deployment.sources}
    return {column.name: empty.get(column.name, F.lit(None)).cast(column.dataType)
            for column in tables.user_profiles(deployment) if column.name not in ("user_id", "as_of", "day")}
