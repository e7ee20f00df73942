"""Embed: `user_profiles` -> `user_embeddings`, whose day holds the vectors that are new and the vectors that ended.

One forward pass computes all scenarios of a user. Where the last embedded day is fresh and has the same model and
instructions, only users with a profile since that day can have a change, and only they are compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.config.deployment import Deployment
from jobs.lake import handoff, run_log, staleness
from jobs.lake.handoff import AssembleHandoff, EmbedHandoff
from jobs.lake.run_log import RefusedError, Run
from jobs.lake.spark_tables import JobRun, job_run
from jobs.serving.embed_udf import RETURNS, Embedder
from jobs.serving.vector_changes import TABLE, ChangeCounts, count_changes, ended_rows, identities, read_changes
from jobs.training.registry import check_vector_spec, open_release
from model.serving.release import Release, ReleaseError

USERS_PER_TASK = 8_192
ROWS_PER_BATCH = "1024"
"""Users in one call of the function: enough to sort by length, and few enough for a worker's memory."""


class EmbedError(RefusedError):
    """A day that cannot be embedded yet."""


@dataclass(frozen=True, kw_only=True)
class EmbedResult:
    """The result of one run of embed."""

    as_of: date
    release: str
    model_version: str
    users: int
    """Users with a profile at the day."""
    embedded: int
    """Of them, those embedded in at least one scenario."""
    vectors: dict[str, int]
    """Vectors of the day by scenario."""
    deactivated: int
    """Users deactivated on the day: they are no longer eligible."""
    ended: int
    """Vectors that ended: those of these users, and those of scenarios that were removed from the deployment file."""
    replaced: bool
    """False: the day held these rows already, and no model ran."""
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
        The day's profiles were not assembled, they are stale, or another deployment file made them.
    """
    opened = open_release(deployment, release)
    hashes = {name: opened.instructions[name].hash for name in deployment.scenario_names}
    with job_run(spark, deployment, "embed", as_of) as run:
        run.model_version = opened.model_version
        assembled = _require_profiles(deployment, as_of)
        since = _compared_until(deployment, as_of, opened.model_version, hashes)
        profiles = run.read("user_profiles")
        work = read_changes(run, profiles, since, hashes, opened.model_version).cache()
        try:
            counts = count_changes(work, deployment.scenario_names)
            replaced = _replace(run, opened, profiles, work, counts)
        finally:
            work.unpersist()
        users = counts.active if since is None else assembled.handoff(AssembleHandoff).users
        run.handoff = EmbedHandoff(instructions=hashes, embedded=counts.embedded)
        _record(run, opened, counts, users)
        return EmbedResult(
            as_of=as_of,
            release=opened.path.name,
            model_version=opened.model_version,
            users=users,
            embedded=counts.embedded,
            vectors=counts.vectors,
            deactivated=counts.deactivated,
            ended=counts.ended,
            replaced=replaced,
            seconds=run.seconds(),
        )


def _require_profiles(deployment: Deployment, as_of: date) -> Run:
    """Return the run that assembled the day's profiles; they must be fresh and made with this deployment file."""
    stale = staleness.stale_reason(deployment, "assemble", as_of)
    if stale:
        first = staleness.first_stale(deployment, "assemble", as_of)
        raise EmbedError(
            f"the profiles of {as_of} cannot be embedded: {stale}; "
            f"run `instructue assemble --as-of {first} --through {as_of}` first"
        )
    [assembled] = run_log.read_runs(deployment, "assemble", first=as_of, last=as_of)
    try:
        check_vector_spec(deployment, assembled)
    except ReleaseError as error:
        raise EmbedError(str(error)) from error
    return assembled


def _compared_until(deployment: Deployment, as_of: date, model_version: str, hashes: Mapping[str, str]) -> date | None:
    """Return the last embedded day before this one, None where its vectors may lack a change.

    They may where that day is stale, or was embedded by another model, with other instructions, or by a version of the
    project that did not end the vectors of removed scenarios.
    """
    earlier = [run for run in run_log.read_runs(deployment, "embed", last=as_of - timedelta(days=1)) if run.left_rows]
    if not earlier:
        return None
    last = earlier[-1]
    if last.model_version != model_version or staleness.stale_reason(deployment, "embed", last.day):
        return None
    if handoff.KEY not in last.details:
        return None
    return last.day if last.handoff(EmbedHandoff).instructions == hashes else None


def _replace(run: JobRun, release: Release, profiles: DataFrame, work: DataFrame, counts: ChangeCounts) -> bool:
    """Replace the day's rows and return True; return False where the day held them already."""
    columns = {"model_version": F.lit(release.model_version), "created_at": F.lit(run.started_at)}
    embedder = embedder_of(run.spark, run.deployment, release)
    with batched(run.spark):
        of_days = profiles.where(F.col("day").isin(counts.days))  # most days have no profile to embed
        rows = _embedded_rows(of_days, work, embedder, counts.embedded).unionByName(ended_rows(work))
        # The identities of the rows show, without running a model, whether the day holds them already.
        return run.replace(rows.withColumns(columns), TABLE, known=identities(work).withColumns(columns))


def _embedded_rows(profiles: DataFrame, work: DataFrame, embedder: Embedder, users: int) -> DataFrame:
    """Return a row for each new vector, without the columns that are the same in all of them."""
    spark = profiles.sparkSession
    to_embed = work.where(F.size("to_embed") > 0).select("user_id", "day", "to_embed")
    tasks = max(spark.sparkContext.defaultParallelism, math.ceil(users / USERS_PER_TASK))
    vectors = F.arrow_udf(embedder.function(), RETURNS)  # type: ignore[call-overload]
    return (
        profiles.join(to_embed, ["user_id", "day"])
        .repartition(tasks, "user_id")
        .withColumn("scenarios", F.array_join("to_embed.scenario", ","))
        .select("user_id", "profile_hash", "to_embed", vectors(*map(F.col, embedder.columns)).alias("vectors"))
        .select("user_id", "profile_hash", "vectors", F.posexplode("to_embed").alias("position", "pair"))
        .withColumn("embedding", F.col("vectors")[F.col("position")])
        .select("user_id", "pair.scenario", "embedding", "pair.instruction_hash", "profile_hash")
    )


def _record(run: JobRun, release: Release, counts: ChangeCounts, users: int) -> None:
    """Record the counts of users and vectors in the run."""
    run.rows_in, run.rows_out = users + counts.deactivated, sum(counts.vectors.values()) + counts.ended
    run.left_out = {"unchanged": users - counts.embedded}
    run.details |= {
        "release": release.path.name,
        "deactivated": counts.deactivated,
        "ended": counts.ended,
        "vectors": counts.vectors,
    }


def embedder_of(spark: SparkSession, deployment: Deployment, release: Release) -> Embedder:
    """Return the settings of the function with which workers embed."""
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
