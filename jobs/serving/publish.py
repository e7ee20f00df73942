"""Publish: write the rows of a day to `user_vectors`, then bring the online store up to date."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import date

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from feature_repo.columns import scenario_columns
from feature_repo.vectors import pack
from jobs.config.deployment import Deployment
from jobs.lake import run_log, spark_tables, staleness
from jobs.lake.run_log import RefusedError
from jobs.serving.online_update import TABLE, PublishError, update_online
from model.progress import Progress, no_progress


class NotReadyError(PublishError, RefusedError):
    """A day that cannot be published yet; rows of it that were published before do not change."""


@dataclass(frozen=True, kw_only=True)
class PublishResult:
    """The result of one run of publish."""

    as_of: date
    users: int
    """Rows of the day in `user_vectors`."""
    replaced: bool
    """False: the day held the same rows already."""
    online_skipped: str | None
    """Why the online store was left as it was; None: it was updated."""
    online: int | None = None
    """Users online afterwards; None where the update was skipped."""
    written: int = 0
    """Users whose row online differed, written and read back."""
    cleared: int = 0
    """Users taken out of the online store."""
    seconds: float


def publish(
    spark: SparkSession, deployment: Deployment, as_of: date, progress: Progress = no_progress
) -> PublishResult:
    """Write a day of `user_vectors` and bring the online store to the table's latest rows.

    The online update is skipped while a later day is stale, because that day still carries the former vectors of this
    one; run that day too (`--through`).

    Parameters
    ----------
    progress : callable
        Called with the users compared and their number.

    Raises
    ------
    NotReadyError
        The day's embeddings are stale, or an earlier day is not published.
    PublishError
        The online store does not hold what was written to it.
    """
    started = time.monotonic()
    with spark_tables.job_run(spark, deployment, "publish", as_of) as run:
        later = _require_fresh(deployment, as_of)
        rows = whole_rows(run.read("user_embeddings"), deployment, as_of).persist()
        try:
            replaced = run.replace(rows.drop("rows_in"), TABLE)
            users, run.rows_in = rows.agg(F.count(F.lit(1)), F.coalesce(F.sum("rows_in"), F.lit(0))).collect()[0]
            run.rows_out = users
        finally:
            rows.unpersist()
        skipped = _reason_to_skip(deployment, later)
        update = {} if skipped else asdict(update_online(spark, deployment, progress))
        run.details |= {"online_skipped": skipped, **update}
    return PublishResult(
        as_of=as_of,
        users=users,
        replaced=replaced,
        online_skipped=skipped,
        seconds=time.monotonic() - started,
        **update,
    )


def whole_rows(embeddings: DataFrame, deployment: Deployment, as_of: date) -> DataFrame:
    """Return the day's rows of `user_vectors`: each user with an embedding of that day, and every scenario's latest.

    `rows_in`, beside the table's columns, counts the user's embeddings of the day.
    """
    touched = embeddings.where(F.col("day") == F.lit(as_of)).select("user_id").distinct()
    past = embeddings.select("user_id", "scenario", "as_of", "embedding", "model_version", "day").join(
        touched, "user_id", "left_semi"
    )
    newest = spark_tables.latest_per_key(past, ("user_id", "scenario"), as_of).select(
        "user_id", "scenario", "as_of", "model_version", "embedding"
    )

    def packed(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        # A closure, so that a worker imports `feature_repo.vectors` alone and not Feast.
        for batch in batches:
            yield batch.drop_columns(["embedding"]).append_column("vector", pack(batch["embedding"]))

    vectors = newest.mapInArrow(
        packed, "user_id string, scenario string, as_of timestamp, model_version string, vector binary"
    )
    cells = []
    for scenario in deployment.scenario_names:
        has_vector = (F.col("scenario") == scenario) & F.col("vector").isNotNull()
        cells += [
            F.max(F.when(has_vector, F.col(value))).alias(name)
            for name, value in zip(scenario_columns(scenario), ("vector", "model_version", "as_of"), strict=True)
        ]
    rows_in = F.count_if(F.col("as_of") == spark_tables.midnight_column(as_of)).alias("rows_in")
    return vectors.groupBy("user_id").agg(*cells, rows_in).withColumn("as_of", spark_tables.midnight_column(as_of))


def _require_fresh(deployment: Deployment, as_of: date) -> list[date]:
    """Return the published days after this one.

    Raises
    ------
    NotReadyError
        The day's embeddings are stale, or an earlier day is not published.
    """
    runs = [run for run in run_log.read_runs(deployment, "embed", "publish") if run.left_rows]
    reason = staleness.stale_reason(deployment, "embed", as_of)
    if reason:
        first = staleness.first_stale(deployment, "embed", as_of)
        raise NotReadyError(
            f"{as_of} cannot be published: {reason}; run `instructue embed --as-of {first} "
            f"--through {as_of}`, and `assemble` before it where it is stale too"
        )
    earlier = [run.day for run in runs if run.job == "embed" and run.day < as_of]
    reason = staleness.stale_reason(deployment, "publish", earlier[-1]) if earlier else None
    if reason:
        first = staleness.first_stale(deployment, "publish", earlier[-1])
        raise NotReadyError(
            f"{as_of} cannot be published before {earlier[-1]} is: {reason}; run `instructue publish "
            f"--as-of {first} --through {as_of}`"
        )
    return [run.day for run in runs if run.job == "publish" and run.day > as_of]


def _reason_to_skip(deployment: Deployment, later: list[date]) -> str | None:
    """Return why the online update is skipped; None where it is not."""
    reason = staleness.stale_reason(deployment, "publish", later[-1]) if later else None
    if reason is None:
        return None
    return (
        f"{later[-1]} is stale ({reason}), so the online store was left as it was; run `instructue publish "
        f"--as-of {later[0]} --through {later[-1]}`"
    )
