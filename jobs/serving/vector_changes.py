"""The changes of a day: for each user, the scenarios to embed and the scenarios whose vector ends.

A user is embedded in a scenario where the profile, the instruction's vectors or the model differ from those of the
latest row before the day. A vector ends where the user was deactivated, and where the scenario was removed from the
deployment file; its row then has neither embedding nor profile hash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.lake import spark_tables
from jobs.lake.catalog import TABLES
from jobs.lake.spark_tables import JobRun

TABLE = "user_embeddings"
IDENTITY = TABLES[TABLE].same_by


@dataclass(frozen=True, kw_only=True)
class ChangeCounts:
    """The counts of a day's changes."""

    active: int
    """Users with a profile, among those compared."""
    embedded: int
    """Of them, those to embed in at least one scenario."""
    deactivated: int
    """Users who were deactivated on the day and had a vector."""
    ended: int
    """Vectors that end."""
    vectors: dict[str, int]
    """Vectors to make by scenario; without scenarios that have none."""
    days: list[date]
    """Days whose profiles are embedded."""


def read_changes(
    run: JobRun, profiles: DataFrame, since: date | None, hashes: Mapping[str, str], model_version: str
) -> DataFrame:
    """Return the changes of the run's day.

    Parameters
    ----------
    profiles : DataFrame
        The table `user_profiles`.
    since : date or None
        Compare only the users with a profile after this day; None: every user.

    The other parameters and the result are those of `changes`.
    """
    latest = _latest_hashes(run, profiles, since)
    return changes(latest, _vectors_before(run, None if since is None else latest), hashes, model_version)


def changes(profiles: DataFrame, before: DataFrame, hashes: Mapping[str, str], model_version: str) -> DataFrame:
    """Return the scenarios in which to embed each user, and those whose vector ends.

    Parameters
    ----------
    profiles : DataFrame
        user_id, day, profile_hash: each user's latest at the day; a null hash marks a deactivated user.
    before : DataFrame
        user_id, scenario and the three hashes: each pair's latest row before the day.
    hashes : mapping
        The hash of each scenario's instruction, in the file's order.
    model_version : str
        Of the release.

    Returns
    -------
    DataFrame
        user_id, day, profile_hash and two arrays of struct<scenario, instruction_hash>: `to_embed`, in the file's
        order, and `to_end`. Both are empty for a user without a change.
    """
    current = F.array(
        *[
            F.struct(F.lit(scenario).alias("scenario"), F.lit(hash).alias("instruction_hash"))
            for scenario, hash in hashes.items()
        ]
    )
    row = F.struct("profile_hash", "instruction_hash", "model_version")
    former = before.groupBy("user_id").agg(
        F.map_from_entries(F.collect_list(F.struct("scenario", row))).alias("former")
    )

    def has_changed(pair: Column) -> Column:
        former_row = F.try_element_at("former", pair["scenario"])
        return ~(
            F.col("profile_hash").eqNullSafe(former_row["profile_hash"])
            & pair["instruction_hash"].eqNullSafe(former_row["instruction_hash"])
            & F.lit(model_version).eqNullSafe(former_row["model_version"])
        )

    active, none = F.col("profile_hash").isNotNull(), F.slice(current, 1, 0)
    with_vector = F.map_entries(F.map_filter("former", lambda _, former_row: former_row["profile_hash"].isNotNull()))
    ending = F.filter(with_vector, lambda entry: ~active | ~entry["key"].isin(*hashes))
    to_end = F.transform(
        ending,
        lambda entry: F.struct(
            entry["key"].alias("scenario"), entry["value"]["instruction_hash"].alias("instruction_hash")
        ),
    )
    return profiles.join(former, "user_id", "left").select(
        "user_id",
        "day",
        "profile_hash",
        F.when(active, F.filter(current, has_changed)).otherwise(none).alias("to_embed"),
        F.coalesce(to_end, none).alias("to_end"),
    )


def count_changes(work: DataFrame, scenarios: Sequence[str]) -> ChangeCounts:
    """Return the counts of a result of `changes`."""
    active, embeds, ends = F.col("profile_hash").isNotNull(), F.size("to_embed") > 0, F.size("to_end") > 0
    vectors = [F.count_if(F.array_contains("to_embed.scenario", name)).alias(f"to {name}") for name in scenarios]
    row = work.agg(
        F.count_if(active).alias("active"),
        F.count_if(embeds).alias("embedded"),
        F.count_if(~active & ends).alias("deactivated"),
        F.coalesce(F.sum(F.size("to_end")), F.lit(0)).alias("ended"),
        F.collect_set(F.when(embeds, F.col("day"))).alias("days"),
        *vectors,
    ).first()
    assert row is not None
    return ChangeCounts(
        active=row["active"],
        embedded=row["embedded"],
        deactivated=row["deactivated"],
        ended=row["ended"],
        vectors={name: row[f"to {name}"] for name in scenarios if row[f"to {name}"]},
        days=row["days"],
    )


def identities(work: DataFrame) -> DataFrame:
    """Return user_id, profile_hash, scenario and instruction_hash of each row of the day, without a model."""
    embedded = work.select("user_id", "profile_hash", F.inline("to_embed"))
    return embedded.unionByName(work.select("user_id", _no_hash(), F.inline("to_end")))


def ended_rows(work: DataFrame) -> DataFrame:
    """Return a row without embedding and profile hash for each vector that ends."""
    return work.select("user_id", _no_hash(), F.inline("to_end")).withColumn(
        "embedding", F.lit(None).cast("array<float>")
    )


def _no_hash() -> Column:
    return F.lit(None).cast("string").alias("profile_hash")


def _latest_hashes(run: JobRun, profiles: DataFrame, since: date | None) -> DataFrame:
    """Return each user's latest profile hash at the day; with `since`, of the users with a profile after it."""
    narrow = profiles.select("user_id", "as_of", "profile_hash", "day")
    if since is not None:
        narrow = narrow.where(F.col("day") > F.lit(since))
    return spark_tables.latest_per_key(narrow, ["user_id"], run.as_of).drop("as_of")


def _vectors_before(run: JobRun, users: DataFrame | None) -> DataFrame:
    """Return each user's and scenario's latest row before the day; with `users`, of these users alone."""
    if not spark_tables.delta_exists(run.spark, run.deployment.table(TABLE)):
        return run.spark.createDataFrame([], ", ".join(f"{name} string" for name in IDENTITY))
    rows = run.read(TABLE).select(*IDENTITY, "as_of", "day")
    if users is not None:
        rows = rows.join(users.select("user_id"), "user_id", "left_semi")
    # Partitioned by user once, so that the two groupings and the join with profiles shuffle no row again.
    rows = rows.repartition("user_id")
    return spark_tables.latest_per_key(rows, ["user_id", "scenario"], run.as_of, strictly_before=True).select(*IDENTITY)
