"""A user's history as of a moment: each source's last events, its counts, and the values that aggregates need.

The rows of all sources go to their users in one shuffle. There they are sorted once, from a user's latest event to
his earliest, which tells what lies over the limit and how far an event is from the one before it; one grouping then
collects them in that order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from jobs.config.deployment import Deployment
from jobs.config.sections import Aggregate, Attributes, EventSource
from jobs.lake.spark_tables import midnight_column, union
from jobs.profiles import source_tables, templates
from jobs.profiles.templates import named

KEYS = ("__user", "__spread", "__as_of")
"""`__spread` is null but for rows without a user, which would otherwise all meet in one task."""
DAY_MICROS = 86_400_000_000
EXACT = "decimal(28,8)"
"""Sums are exact decimals: a float sum would depend on the order of rows, and a hash on its last bit."""


def event_histories(
    judged: Mapping[str, DataFrame], deployment: Deployment, cut_offs: Sequence[date], clock: datetime
) -> DataFrame:
    """One row per user and cut-off, those without a user (refused rows) among them.

    Returns
    -------
    DataFrame
        `KEYS`; per source, under its name, its last events from the latest on as array<struct<event_time, text,
        gap>>; per source and for the attributes `__n_<name>`, the counts of its rows; `__values`, the attributes'
        latest row; per aggregate `__a_<name>` and, under `read_by`, the rows in its window.
    """
    rows = [_event_rows(judged[source.name], source, deployment.aggregates, cut_offs) for source in deployment.sources]
    if deployment.attributes:
        rows.append(_attribute_rows(judged[source_tables.ATTRIBUTES], deployment.attributes))
    placed = [one.withColumn("__source", F.lit(place).cast("byte")) for place, one in enumerate(rows)]
    together = union(placed)
    spread = F.when(F.col("__user").isNull(), F.spark_partition_id())
    shuffled = together.withColumn("__spread", spread).repartition("__user", "__spread")
    return _collected(_ranked(_at(shuffled, cut_offs)), deployment, clock)


def source_names(deployment: Deployment) -> list[str]:
    """Every event source, and `attributes` where declared; a place in the list is what `__source` holds."""
    attributes = [source_tables.ATTRIBUTES] if deployment.attributes else []
    return [*(source.name for source in deployment.sources), *attributes]


def window_count_column(aggregate: Aggregate) -> str:
    """Column with the number of a user's events in an aggregate's window."""
    return f"__w_{aggregate.source}_{aggregate.window_days}"


def log2_band(days: Column) -> Column:
    """floor(log2(1 + days)) exactly, for whole days >= 0."""
    return (F.length(F.bin(days + 1)) - 1).cast("int")


def whole_days(earlier: Column, later: Column) -> Column:
    """Full days of 24 hours between two timestamps, rounded down."""
    return F.call_function("div", F.unix_micros(later) - F.unix_micros(earlier), F.lit(DAY_MICROS))


def without_negative_zero(value: Column) -> Column:
    """A double without a negative zero, which would be another hash of the same number."""
    return value.cast("double") + F.lit(0.0)


def _event_rows(
    judged: DataFrame, source: EventSource, aggregates: Sequence[Aggregate], cut_offs: Sequence[date]
) -> DataFrame:
    own = [a for a in aggregates if a.source == source.name and a.column]
    columns = sorted({str(a.column) for a in own})
    # The earliest copy of an id is kept, so whoever is a repeat at the last cut-off is one at any earlier.
    texts_since = min(cut_offs) - timedelta(days=source.window_days)
    rows = source_tables.event_rows(judged, source, max(cut_offs), columns, texts_since)
    # Ids and values may be of any type, so no two sources share a column of them.
    values = {
        _value(a): named(str(a.column))
        if a.function == "distinct"
        else templates.number(named(str(a.column)), judged.schema[str(a.column)].dataType)
        for a in own
    }
    ids = {f"__id_{source.name}": F.col("__id")} if source.id else {}
    return _bounded(
        rows,
        source.window_days * DAY_MICROS,
        source.max_events,
        {"__text": F.col("__text"), "__repeated": F.col("__repeated"), **ids, **values},
    )


def _attribute_rows(judged: DataFrame, attributes: Attributes) -> DataFrame:
    schema = judged.schema
    numbers = [
        without_negative_zero(templates.number(named(number.column), schema[number.column].dataType)).alias(number.name)
        for number in attributes.numbers
    ]
    categories = [templates.words(named(category.column)).alias(category.name) for category in attributes.categories]
    # Two rows valid from the same moment: the values themselves decide, so that the order of rows cannot.
    values = F.struct("__time", *numbers, *categories)
    return _bounded(judged, None, 1, {"__values": values, "__repeated": F.lit(False)})


def _bounded(rows: DataFrame, window: int | None, limit: int, more: Mapping[str, Column]) -> DataFrame:
    """A source's rows with what a profile takes of it: `__window` microseconds (null: all time), `__limit` rows."""
    bounds = F.lit(window).cast("bigint").alias("__window"), F.lit(limit).alias("__limit")
    return rows.select(
        "__user",
        "__time",
        F.col("__rejected").isNull().alias("__good"),
        *bounds,
        *[value.alias(name) for name, value in more.items()],
    )


def _value(aggregate: Aggregate) -> str:
    """Column with what an aggregate reads of each row."""
    kind = "value" if aggregate.function == "distinct" else "number"
    return f"__{kind}_{aggregate.source}_{aggregate.column}"


def _at(rows: DataFrame, cut_offs: Sequence[date]) -> DataFrame:
    """Each row once per cut-off, in `__as_of`: whether it lies before it, is kept, and lies within the window."""
    # Also where there is but one: Spark takes a literal out of the keys, and would sort once more to group by them.
    rows = rows.withColumn("__as_of", F.explode(F.array(*map(midnight_column, cut_offs))))
    # A good row without a time is an attribute's that holds for ever.
    rows = rows.withColumn("__before", F.col("__good") & F.coalesce(F.col("__time") < F.col("__as_of"), F.lit(True)))
    rows = rows.withColumn("__kept", F.col("__before") & ~F.col("__repeated"))
    return rows.withColumn("__within", F.col("__kept") & F.coalesce(_age() <= F.col("__window"), F.lit(True)))


def _age() -> Column:
    """How long before `__as_of` a row's time is, in microseconds."""
    return F.unix_micros("__as_of") - F.unix_micros("__time")


def _ranked(rows: DataFrame) -> DataFrame:
    """Rows from the latest to the earliest of each source and user; `__used`: within the limit; `__gap` in bands."""
    ties = [name for name in rows.columns if name.startswith("__id_") or name in ("__text", "__values")]
    order = Window.partitionBy(*KEYS, "__source").orderBy(*map(F.desc, ["__within", "__time", *sorted(ties)]))
    rows = rows.withColumn("__when", F.when(F.col("__within"), F.col("__time")))
    rows = rows.withColumns({"__rank": F.row_number().over(order), "__earlier": F.lead("__when").over(order)})
    first = F.col("__earlier").isNull() | (F.col("__rank") == F.col("__limit"))
    gap = F.when(first, F.lit(-1)).otherwise(log2_band(whole_days(F.col("__earlier"), F.col("__time"))))
    return rows.withColumns({"__used": F.col("__within") & (F.col("__rank") <= F.col("__limit")), "__gap": gap})


def _collected(rows: DataFrame, deployment: Deployment, clock: datetime) -> DataFrame:
    """The rows of each user, sorted as they are, in one."""
    here = {name: F.col("__source") == place for place, name in enumerate(source_names(deployment))}
    # Conditions and values become columns first: what stands inside collect_list or collect_set is interpreted.
    made, grouped = {}, {}
    for name in here:
        counts = [F.count_if(here[name] & rule).alias(count) for count, rule in _rules(clock).items()]
        grouped[f"__n_{name}"] = F.struct(*counts)
    event = F.struct(F.col("__time").alias("event_time"), F.col("__text").alias("text"), F.col("__gap").alias("gap"))
    for source in deployment.sources:
        made[f"__event_{source.name}"] = F.when(here[source.name] & F.col("__used"), event)
        grouped[source.name] = F.collect_list(f"__event_{source.name}")
    if deployment.attributes:
        made["__attributes"] = F.when(here[source_tables.ATTRIBUTES] & F.col("__used"), F.col("__values"))
        grouped["__values"] = F.any_value("__attributes", True)
    for aggregate in deployment.aggregates:
        recent = _age() <= aggregate.window_days * DAY_MICROS
        inside = here[aggregate.source] & F.col("__kept") & recent
        grouped[window_count_column(aggregate)] = F.count_if(inside)
        name = f"__a_{aggregate.name}"
        if aggregate.function in ("sum", "mean"):
            made[name] = F.when(inside, named(_value(aggregate)).try_cast(EXACT))
            grouped[name] = F.struct(F.try_sum(name).alias("sum"), F.count(name).alias("count"))
        elif aggregate.function == "distinct":
            made[name] = F.when(inside, named(_value(aggregate)))
            grouped[name] = F.size(F.collect_set(name))
        elif aggregate.function == "days_since_last":
            made[name] = F.when(inside, F.col("__time"))
            grouped[name] = F.max(name)
    return rows.withColumns(made).groupBy(*KEYS).agg(*[value.alias(name) for name, value in grouped.items()])


def _rules(clock: datetime) -> dict[str, Column]:
    """Which rows of a source each count of an account holds."""
    good, before = F.col("__good"), F.col("__before")
    return {
        "rows_in": F.lit(True),
        "after": good & ~before,
        "repeated": before & F.col("__repeated"),
        "rejected": ~good,
        "kept": F.col("__kept"),
        "within": F.col("__within"),
        "later": good & (F.col("__time") > F.lit(clock)),
    }
