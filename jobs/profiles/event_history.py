"""A user's history as of a moment: each source's last events, row counts, and the values that aggregates need.

One shuffle brings the rows of all sources to their users. There each row is repeated for the cut-offs whose windows it
is in. The rows are sorted once, from the latest event to the earliest, which gives the rows over the limit and the gap
between neighbouring events. One grouping then collects them in that order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from jobs.config.deployment import Deployment
from jobs.config.sections import Attributes, EventSource
from jobs.lake.spark_tables import midnight_column, union
from jobs.profiles import templates
from jobs.profiles.aggregate_inputs import input_columns, with_expressions
from jobs.profiles.aggregate_windows import event_values, grouped_values
from jobs.profiles.source_tables import ATTRIBUTES
from jobs.profiles.templates import named
from jobs.profiles.time_bands import DAY_MICROS, time_band, whole_days
from jobs.profiles.validation import event_rows
from model.data.time_bands import NO_BAND

KEYS = ("__user", "__spread", "__as_of")
"""`__spread` is null except in rows without a user: there it is a number that spreads them over several tasks."""

OWN_ID = "__own_id_"
"""Prefix of the columns with the events' declared ids, one for each source, because ids may be of any type."""


def event_histories(
    validated: Mapping[str, DataFrame], deployment: Deployment, cut_offs: Sequence[date], clock: datetime
) -> DataFrame:
    """Return one row per user and cut-off, and further rows that count the rejected rows without a user.

    Returns
    -------
    DataFrame
        `KEYS`; per source, under its name, its last events from the latest on as array<struct<event_time, text,
        gap>>; per source and for the attributes `__n_<name>`, the counts of its rows; `__values`, the attributes'
        latest row; per aggregate the columns of `jobs.profiles.aggregate_windows`.
    """
    rows = [_event_rows(validated[source.name], source, deployment, cut_offs) for source in deployment.sources]
    if deployment.attributes:
        rows.append(_attribute_rows(validated[ATTRIBUTES], deployment.attributes))
    numbered = [table.withColumn("__source", F.lit(number).cast("byte")) for number, table in enumerate(rows)]
    spread = F.when(F.col("__user").isNull(), F.spark_partition_id())
    shuffled = union(numbered).withColumn("__spread", spread).repartition("__user", "__spread")
    return _collect(_rank(_at_cut_offs(shuffled, cut_offs)), deployment, clock)


def source_names(deployment: Deployment) -> list[str]:
    """Return every event source, and `attributes` where declared; `__source` holds a position in this list."""
    attributes = [ATTRIBUTES] if deployment.attributes else []
    return [*(source.name for source in deployment.sources), *attributes]


def _event_rows(df: DataFrame, source: EventSource, deployment: Deployment, cut_offs: Sequence[date]) -> DataFrame:
    own = [a for a in deployment.aggregates if a.source == source.name]
    df, results = with_expressions(df, source, own)
    columns = [*sorted({a.column for a in own if a.column}), *results]
    # The earliest copy of an id is kept, so a repeat at the last cut-off is a repeat at every earlier one.
    texts_since = min(cut_offs) - timedelta(days=source.window_days)
    rows = event_rows(df, source, max(cut_offs), columns, texts_since)
    values = input_columns(df, source.name, own)
    ids = {f"{OWN_ID}{source.name}": F.col("__id")} if source.id else {}
    return _with_bounds(
        rows,
        source.window_days,
        max([source.window_days, *(aggregate.longest_days for aggregate in own)]),
        source.max_events,
        {"__text": F.col("__text"), "__repeated": F.col("__repeated"), **ids, **values},
    )


def _attribute_rows(df: DataFrame, attributes: Attributes) -> DataFrame:
    schema = df.schema
    numbers = [
        templates.finite(templates.number(named(number.column), schema[number.column].dataType)).alias(number.name)
        for number in attributes.numbers
    ]
    categories = [templates.words(named(category.column)).alias(category.name) for category in attributes.categories]
    # Two rows valid from the same moment are ordered by their values, so that the result does not depend on row order.
    values = F.struct("__time", *numbers, *categories)
    return _with_bounds(df, None, None, 1, {"__values": values, "__repeated": F.lit(False)})


def _with_bounds(
    rows: DataFrame, window: int | None, reach: int | None, limit: int, more: Mapping[str, Column]
) -> DataFrame:
    """Return a source's rows with `__window` and `__reach` in microseconds, `__limit` in rows, and `more`.

    `window` is the days of the profile's events, `reach` those of the profile and its aggregates; None: all time.
    """
    bounds = {"__window": window, "__reach": reach}
    return rows.select(
        "__user",
        "__time",
        F.col("__rejected").isNull().alias("__good"),
        *[F.lit(days and days * DAY_MICROS).cast("bigint").alias(name) for name, days in bounds.items()],
        F.lit(limit).alias("__limit"),
        *[value.alias(name) for name, value in more.items()],
    )


def _at_cut_offs(rows: DataFrame, cut_offs: Sequence[date]) -> DataFrame:
    """Return each row once per cut-off (`__as_of`) that reads it, and at its first cut-off, with four flags.

    A good row's first cut-off is the earliest after its time. That of other rows is the last of all.

    `__first`: at the first cut-off; `__before`: good and before the cut-off; `__kept`: also no repeat; `__within`: also
    within the source's window.
    """
    *earlier, last = map(midnight_column, sorted(cut_offs))
    first = F.when(~F.col("__good"), last)
    # A good row without a time is a static attribute's.
    for cut_off in earlier:
        first = first.when(F.coalesce(F.col("__time") < cut_off, F.lit(True)), cut_off)
    rows = rows.withColumn("__counted_at", first.otherwise(last))
    # Exploded even for one cut-off: Spark removes a literal from the keys, and then sorts once more to group by them.
    rows = rows.withColumn("__as_of", F.explode(F.array(*earlier, last)))
    rows = rows.withColumn("__before", F.col("__good") & F.coalesce(F.col("__time") < F.col("__as_of"), F.lit(True)))
    rows = rows.withColumns(
        {"__first": F.col("__as_of") == F.col("__counted_at"), "__kept": F.col("__before") & ~F.col("__repeated")}
    )
    # Fewer rows to sort: of a year of events and a window of three months, a cut-off reads a quarter.
    rows = rows.where(F.col("__first") | (F.col("__kept") & F.coalesce(_age() <= F.col("__reach"), F.lit(True))))
    return rows.withColumn("__within", F.col("__kept") & F.coalesce(_age() <= F.col("__window"), F.lit(True)))


def _age() -> Column:
    """Return the microseconds from a row's time to `__as_of`."""
    return F.unix_micros("__as_of") - F.unix_micros("__time")


def _rank(rows: DataFrame) -> DataFrame:
    """Sort each user's rows of a source from the latest on; add `__used` (within the limit) and `__gap` (a band)."""
    ties = [name for name in rows.columns if name.startswith(OWN_ID) or name in ("__text", "__values")]
    order = Window.partitionBy(*KEYS, "__source").orderBy(*map(F.desc, ["__within", "__time", *sorted(ties)]))
    rows = rows.withColumn("__when", F.when(F.col("__within"), F.col("__time")))
    rows = rows.withColumns({"__rank": F.row_number().over(order), "__earlier": F.lead("__when").over(order)})
    first = F.col("__earlier").isNull() | (F.col("__rank") == F.col("__limit"))
    gap = F.when(first, F.lit(NO_BAND)).otherwise(time_band(whole_days(F.col("__earlier"), F.col("__time"))))
    return rows.withColumns({"__used": F.col("__within") & (F.col("__rank") <= F.col("__limit")), "__gap": gap})


def _collect(rows: DataFrame, deployment: Deployment, clock: datetime) -> DataFrame:
    """Group the sorted rows of each user and cut-off into one."""
    of_source = {name: F.col("__source") == number for number, name in enumerate(source_names(deployment))}
    # Conditions and values become columns first: Spark interprets what is inside collect_list or collect_set.
    values, grouped = {}, {}
    for name in of_source:
        counts = [F.count_if(of_source[name] & rule).alias(count) for count, rule in _rules(clock).items()]
        grouped[f"__n_{name}"] = F.struct(*counts)
    event = F.struct(F.col("__time").alias("event_time"), F.col("__text").alias("text"), F.col("__gap").alias("gap"))
    for source in deployment.sources:
        values[f"__event_{source.name}"] = F.when(of_source[source.name] & F.col("__used"), event)
        grouped[source.name] = F.collect_list(f"__event_{source.name}")
    if deployment.attributes:
        values["__attributes"] = F.when(of_source[ATTRIBUTES] & F.col("__used"), F.col("__values"))
        grouped["__values"] = F.any_value("__attributes", True)
    values |= event_values(deployment.aggregates, of_source, _age())
    grouped |= grouped_values(deployment.aggregates, of_source, _age())
    return rows.withColumns(values).groupBy(*KEYS).agg(*[value.alias(name) for name, value in grouped.items()])


def _rules(clock: datetime) -> dict[str, Column]:
    """Return the condition of each count of a source's rows; all but `within` count a row at its first cut-off."""
    first, good, before = F.col("__first"), F.col("__good"), F.col("__before")
    return {
        "rows_in": first,
        "before": first & before,
        "repeated": first & before & F.col("__repeated"),
        "rejected": first & ~good,
        "later": first & good & (F.col("__time") > F.lit(clock)),
        "within": F.col("__within"),
    }
