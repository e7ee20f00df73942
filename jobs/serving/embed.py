"""Embed: `user_profiles` -> `user_embeddings`, a day's partition holding the vectors that are new.

A user is embedded again in a scenario where the profile, the instruction's vectors or the model differ from those of
the latest row before that day; all scenarios of a user that are wanted come out of one forward. A user who has ended
gets one row without a vector.

Where the last embedded day is fresh and was embedded by the same model and instructions, only users with a profile
since then can lack anything, and nobody else is looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.config.deployment import Deployment
from jobs.lake import run_log, spark_tables, staleness
from jobs.lake.catalog import TABLES
from jobs.lake.handoff import AssembleHandoff, EmbedHandoff
from jobs.lake.spark_tables import JobRun, job_run
from jobs.serving.embed_udf import RETURNS, Embedder
from jobs.training.registry import check_vector_spec, open_release
from model.errors import InstructUEError
from model.serving.release import Release

TABLE = "user_embeddings"
SAME = TABLES[TABLE].same_by
USERS_PER_TASK = 8_192
ROWS_PER_BATCH = "1024"
"""Users in one call of the function: enough to sort by length, and never more memory than their texts."""


class EmbedError(InstructUEError):
    """A day that cannot be embedded yet."""


@dataclass(frozen=True, kw_only=True)
class EmbedResult:
    """What one run of embed did."""

    as_of: date
    release: str
    model_version: str
    users: int
    """Users with a profile at the day."""
    embedded: int
    """Of them, those embedded in at least one scenario."""
    vectors: dict[str, int]
    """Vectors of the day by scenario."""
    ended: int
    """Users who fell out on the day: their vectors have ended."""
    replaced: bool
    """False: the day held these rows already; no model ran."""
    seconds: float


def embed(spark: SparkSession, deployment: Deployment, as_of: date, release: str | Path | None = None) -> EmbedResult:
    """Replace the day's rows of `user_embeddings` by the vectors that are new.

    Parameters
    ----------
    release : str or Path, optional
        A release's name or folder; None: the current one.

    Raises
    ------
    ReleaseError
        There is no release, one of its files was changed, or it would not make this deployment's vectors.
    EmbedError
        The day's profiles were not assembled, or from days that have been replaced since.
    """
    found = open_release(deployment, release)
    with job_run(spark, deployment, "embed", as_of) as run:
        run.model_version = found.model_version
        stale = staleness.stale_reason(deployment, "assemble", as_of)
        if stale:
            first = staleness.first_stale(deployment, "assemble", as_of)
            raise EmbedError(
                f"the profiles of {as_of} cannot be embedded: {stale}; "
                f"run `instructue assemble --as-of {first} --through {as_of}` first"
            )
        [assembled] = run_log.read_runs(deployment, "assemble", first=as_of, last=as_of)
        check_vector_spec(deployment, assembled)
        hashes = {name: found.instructions[name].hash for name in deployment.scenario_names}
        since = _settled(deployment, as_of, found.model_version, hashes)
        profiles = run.read("user_profiles")
        latest = _latest_hashes(run, profiles, since)
        before = _before(run, None if since is None else latest)
        work = wanted(latest, before, hashes, found.model_version).cache()
        try:
            counts = _count(work, deployment.scenario_names)
            lives = counts.lives if since is None else assembled.handoff(AssembleHandoff).users
            with batched(spark):
                here = profiles.where(F.col("day").isin(counts.days))  # most days hold nobody who is wanted
                rows = _rows(here, work, embedder_of(spark, deployment, found), counts.embedded)
                made = {"model_version": F.lit(found.model_version), "created_at": F.lit(run.started_at)}
                # Compared by what is wanted alone: the same day again reads no profile and runs no model.
                known = work.select("user_id", "profile_hash", F.inline("wanted")).withColumns(made)
                replaced = run.replace(rows.withColumns(made), TABLE, known=known)
        finally:
            work.unpersist()
        run.rows_in, run.rows_out = lives + counts.ended, sum(counts.vectors.values()) + counts.ended_rows
        run.left_out = {"unchanged": lives - counts.embedded}
        run.handoff = EmbedHandoff(instructions=hashes, embedded=counts.embedded)
        run.details |= {"release": found.path.name, "ended": counts.ended, "vectors": counts.vectors}
        return EmbedResult(
            as_of=as_of,
            release=found.path.name,
            model_version=found.model_version,
            users=lives,
            embedded=counts.embedded,
            vectors=counts.vectors,
            ended=counts.ended,
            replaced=replaced,
            seconds=run.seconds(),
        )


def _settled(deployment: Deployment, as_of: date, model_version: str, hashes: Mapping[str, str]) -> date | None:
    """The last embedded day before this one, where what stands since then is this model's and these instructions'."""
    earlier = [run for run in run_log.read_runs(deployment, "embed", last=as_of - timedelta(days=1)) if run.left_rows]
    if not earlier:
        return None
    last = earlier[-1]
    if last.model_version != model_version or staleness.stale_reason(deployment, "embed", last.day):
        return None
    return last.day if last.handoff(EmbedHandoff).instructions == hashes else None


def wanted(profiles: DataFrame, before: DataFrame, hashes: Mapping[str, str], model_version: str) -> DataFrame:
    """What each user lacks.

    Parameters
    ----------
    profiles : DataFrame
        user_id, day, profile_hash: each user's latest at the day; a null hash marks one who ended.
    before : DataFrame
        user_id, scenario and the three hashes: each pair's latest row before the day.
    hashes : mapping
        The hash of each scenario's instruction, in the file's order.
    model_version : str
        Of the release.

    Returns
    -------
    DataFrame
        user_id, day, profile_hash, and `wanted`, an array of struct<scenario, instruction_hash> in the file's order:
        what to embed, or, for a user who ended, what to end. It is empty for a user of whom all stands.
    """
    current = F.array(
        *[
            F.struct(F.lit(scenario).alias("scenario"), F.lit(hash).alias("instruction_hash"))
            for scenario, hash in hashes.items()
        ]
    )
    was = F.struct("profile_hash", "instruction_hash", "model_version")
    former = before.groupBy("user_id").agg(
        F.map_from_entries(F.collect_list(F.struct("scenario", was))).alias("former")
    )

    def changed(one: Column) -> Column:
        was = F.try_element_at("former", one["scenario"])
        return ~(
            F.col("profile_hash").eqNullSafe(was["profile_hash"])
            & one["instruction_hash"].eqNullSafe(was["instruction_hash"])
            & F.lit(model_version).eqNullSafe(was["model_version"])
        )

    # Whoever ends does so in every scenario that he has a vector in, also in one that the file no longer names.
    stands = F.map_entries(F.map_filter("former", lambda _, was: was["profile_hash"].isNotNull()))
    to_end = F.transform(
        stands,
        lambda entry: F.struct(
            entry["key"].alias("scenario"), entry["value"]["instruction_hash"].alias("instruction_hash")
        ),
    )
    lives = F.col("profile_hash").isNotNull()
    return profiles.join(former, "user_id", "left").select(
        "user_id",
        "day",
        "profile_hash",
        F.when(lives, F.filter(current, changed)).otherwise(F.coalesce(to_end, F.slice(current, 1, 0))).alias("wanted"),
    )


def _latest_hashes(run: JobRun, profiles: DataFrame, since: date | None) -> DataFrame:
    """Each user's latest profile hash at the day; with `since`, of the users with a profile after it."""
    narrow = profiles.select("user_id", "as_of", "profile_hash", "day")
    if since is not None:
        narrow = narrow.where(F.col("day") > F.lit(since))
    return spark_tables.latest_per_key(narrow, ["user_id"], run.as_of).drop("as_of")


def _before(run: JobRun, users: DataFrame | None) -> DataFrame:
    """Each user's and scenario's latest row before the day; of these users alone, if any are named."""
    columns = [*SAME, "as_of", "day"]
    if not spark_tables.delta_exists(run.spark, run.deployment.table(TABLE)):
        return run.spark.createDataFrame([], ", ".join(f"{name} string" for name in SAME))
    rows = run.read(TABLE).select(*columns)
    if users is not None:
        rows = rows.join(users.select("user_id"), "user_id", "left_semi")
    # By user at once: the groupings by user and scenario, by user, and the join with profiles then move no row again.
    rows = rows.repartition("user_id")
    return spark_tables.latest_per_key(rows, ["user_id", "scenario"], run.as_of, strictly_before=True).select(*SAME)


@dataclass(frozen=True, kw_only=True)
class _Counts:
    lives: int
    embedded: int
    ended: int
    ended_rows: int
    vectors: dict[str, int]
    days: list[date]
    """Days whose profiles are wanted."""


def _count(work: DataFrame, scenarios: Sequence[str]) -> _Counts:
    lives, busy = F.col("profile_hash").isNotNull(), F.size("wanted") > 0
    vectors = [F.count_if(lives & F.array_contains("wanted.scenario", name)).alias(f"to {name}") for name in scenarios]
    row = work.agg(
        F.count_if(lives).alias("lives"),
        F.count_if(lives & busy).alias("embedded"),
        F.count_if(~lives & busy).alias("ended"),
        F.coalesce(F.sum(F.when(~lives, F.size("wanted"))), F.lit(0)).alias("ended_rows"),
        F.collect_set(F.when(lives & busy, F.col("day"))).alias("days"),
        *vectors,
    ).first()
    assert row is not None
    found = {name: row[f"to {name}"] for name in scenarios}
    return _Counts(
        lives=row["lives"],
        embedded=row["embedded"],
        ended=row["ended"],
        ended_rows=row["ended_rows"],
        vectors={name: count for name, count in found.items() if count},
        days=row["days"],
    )


def _rows(profiles: DataFrame, work: DataFrame, embedder: Embedder, users: int) -> DataFrame:
    """The day's rows of `user_embeddings`, but for what is the same in all of them."""
    busy = work.where(F.size("wanted") > 0)
    lives = busy.where(F.col("profile_hash").isNotNull()).drop("profile_hash")
    tasks = max(profiles.sparkSession.sparkContext.defaultParallelism, math.ceil(users / USERS_PER_TASK))
    vectors = F.arrow_udf(embedder.function(), RETURNS)  # type: ignore[call-overload]
    embedded = (
        profiles.join(lives, ["user_id", "day"])
        .repartition(tasks, "user_id")
        .withColumn("scenarios", F.array_join("wanted.scenario", ","))
        .select("user_id", "profile_hash", "wanted", vectors(*map(F.col, embedder.columns)).alias("vectors"))
        .select("user_id", "profile_hash", "vectors", F.posexplode("wanted").alias("position", "one"))
        .withColumn("embedding", F.col("vectors")[F.col("position")])
    )
    ended = (
        busy.where(F.col("profile_hash").isNull())
        .select("user_id", "profile_hash", F.explode("wanted").alias("one"))
        .withColumn("embedding", F.lit(None).cast("array<float>"))
    )
    columns = ["user_id", "one.scenario", "embedding", "one.instruction_hash", "profile_hash"]
    return embedded.select(*columns).unionByName(ended.select(*columns))


def embedder_of(spark: SparkSession, deployment: Deployment, release: Release) -> Embedder:
    """The function that workers embed with, and the columns that it takes."""
    return Embedder(
        release=str(release.path),
        providers=deployment.model.providers,
        threads=int(spark.conf.get("spark.task.cpus", "1") or 1),
        sources=tuple(source.name for source in deployment.sources),
        tabular=bool(deployment.numbers or deployment.categories),
    )


@contextmanager
def batched(spark: SparkSession) -> Iterator[None]:
    """Give a Python function `ROWS_PER_BATCH` rows at a time while the block runs."""
    key = "spark.sql.execution.arrow.maxRecordsPerBatch"
    before = spark.conf.get(key)
    spark.conf.set(key, ROWS_PER_BATCH)
    try:
        yield
    finally:
        spark.conf.set(key, str(before))
