"""Counts over the profiles of two neighbouring days: users that changed, and event texts with their lengths."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.config.deployment import Deployment
from jobs.lake.spark_tables import midnight_column
from model.data.text import Tokenizers


def count_users(rows: DataFrame, deployment: Deployment, before: date, as_of: date) -> dict[str, Any]:
    """Return counts of users and of their events at `as_of`.

    Parameters
    ----------
    rows : DataFrame
        Columns of `user_profiles` except `day`: every eligible user's profile at `before` and at `as_of`.

    Returns
    -------
    dict
        `users` (eligible), `changed`, `new`, `deactivated`; `events`, `changed_events` (of changed users), `mean`,
        `most` and `quantiles` (.5 and .95) of the events of a user, null without users.
    """
    row = (
        _both_days(rows, deployment, before, as_of)
        .agg(
            F.count_if("active").alias("users"),
            F.count_if("changed").alias("changed"),
            F.count_if(F.col("active") & F.col("before").isNull()).alias("new"),
            F.count_if(~F.col("active")).alias("deactivated"),
            F.coalesce(F.sum("events"), F.lit(0)).alias("events"),
            F.coalesce(F.sum(F.when(F.col("changed"), F.col("events"))), F.lit(0)).alias("changed_events"),
            F.avg("events").alias("mean"),
            F.max("events").alias("most"),
            F.percentile("events", [0.5, 0.95]).alias("quantiles"),
        )
        .first()
    )
    assert row is not None
    return row.asDict()


def count_texts(
    rows: DataFrame, deployment: Deployment, before: date, as_of: date, folder: Path | None
) -> dict[str, dict[str, int]]:
    """Return counts of the event texts at `as_of`, per source.

    Lengths are tokens of the tokenizers in `folder`, or words where it is None.

    Returns
    -------
    dict
        Per source: `used`, `distinct`, `new` (not in a profile of `before`) and `changed` (of changed users) texts;
        `read` (repeats included), `encoded` (distinct) and `changed_length`, their total lengths up to `max_tokens`;
        `longest`, and `cut`, the distinct texts longer than `max_tokens`.
    """
    texts = _with_length(_distinct_texts(_both_days(rows, deployment, before, as_of), deployment), folder)
    limits = F.create_map(
        *[F.lit(value) for source in deployment.sources for value in (source.name, source.max_tokens)]
    )
    limit, length, used, changed = limits[F.col("source")], F.col("length"), F.col("used") > 0, F.col("changed")
    # A text in words has at least as many tokens, and `<cls>` in addition.
    read, cut = (length, length + 1 > limit) if folder is None else (F.least(length, limit), length > limit)
    counts = {
        "used": F.sum("used"),
        "distinct": F.count_if(used),
        "read": F.sum(F.col("used") * read),
        "encoded": F.sum(F.when(used, read)),
        "longest": F.max(F.when(used, length)),
        "cut": F.count_if(used & cut),
        "new": F.count_if(used & ~F.col("before")),
        "changed": F.count_if(changed),
        "changed_length": F.sum(F.when(changed, read)),
    }
    groups = texts.groupBy("source").agg(*[F.coalesce(value, F.lit(0)).alias(name) for name, value in counts.items()])
    result = {row["source"]: {name: int(row[name]) for name in counts} for row in groups.collect()}
    return {source.name: result.get(source.name, dict.fromkeys(counts, 0)) for source in deployment.sources}


def _both_days(rows: DataFrame, deployment: Deployment, before: date, as_of: date) -> DataFrame:
    """Return each user with the texts of both days in `before` and `after`, null on a day without a profile.

    `active`: has a profile at `as_of`; `changed`: it is new or differs; `events`: the number of its events.
    """
    names = [source.name for source in deployment.sources]
    profile = F.struct("profile_hash", *[F.col(f"{name}.text").alias(name) for name in names])
    sides = [
        F.any_value(F.when(F.col("as_of") == midnight_column(day), profile), True).alias(side)
        for side, day in (("before", before), ("after", as_of))
    ]
    active = F.col("after").isNotNull()
    return (
        rows.groupBy("user_id")
        .agg(*sides)
        .withColumns(
            {
                "active": active,
                "changed": active & ~F.col("after.profile_hash").eqNullSafe(F.col("before.profile_hash")),
                "events": F.when(active, sum((F.size(f"after.{name}") for name in names), F.lit(0))),
            }
        )
    )


def _distinct_texts(users: DataFrame, deployment: Deployment) -> DataFrame:
    """Return each distinct text of a source.

    `used` is how often the later day has it, `before` whether the day before has it, `changed` whether a changed user
    has it on the later day.
    """

    def texts(side: str, name: str) -> Column:
        return F.transform(
            F.coalesce(F.col(f"{side}.{name}"), F.array().cast("array<string>")),
            lambda text: F.struct(
                F.lit(name).alias("source"), text.alias("text"), F.lit(side == "after").alias("after")
            ),
        )

    both = F.concat(*[texts(side, source.name) for side in ("before", "after") for source in deployment.sources])
    after = F.col("after")
    return (
        users.select("changed", F.inline(both))
        .groupBy("source", "text")
        .agg(
            F.count_if(after).alias("used"),
            F.bool_or(~after).alias("before"),
            F.bool_or(after & F.col("changed")).alias("changed"),
        )
    )


def _with_length(texts: DataFrame, folder: Path | None) -> DataFrame:
    """Add `length`: tokens before truncation, `<cls>` included, or words where there is no tokenizer."""
    if folder is None:
        return texts.withColumn("length", F.size(F.split("text", " ")))

    def add_length(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        tokenizers = Tokenizers.load(folder)
        for batch in batches:
            ids = tokenizers.event_ids(batch["text"].to_pylist(), sys.maxsize)
            yield batch.append_column("length", pa.array(ids.lengths, pa.int32()))

    return texts.mapInArrow(
        add_length, "source string, text string, used bigint, before boolean, changed boolean, length int"
    )
