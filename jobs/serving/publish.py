"""Publish a day: the whole row of each user touched on it, in `user_vectors`, then in the online store.

The online store says what the latest rows of `user_vectors` say. Stores differ in what they do with a row
that is older than theirs, so none of them decides: each user's row online is read and compared, one that
differs is written and read back, and a user who has ended is cleared. `online_users` lists who may be
online, written before the store is, so that a user deleted from every table is cleared too.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from itertools import islice
from typing import TypeVar

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from feature_repo.columns import feature_names, scenario_columns
from feature_repo.online import OnlineRow, OnlineView, online_row
from feature_repo.settings import StoreError
from feature_repo.store import apply, open_store, translate_store_errors
from feature_repo.vectors import DTYPE, pack
from jobs.config.deployment import Deployment
from jobs.lake import run_log, spark_tables, staleness
from jobs.serving.store_settings import store_settings
from model.errors import InstructUEError
from model.progress import Progress, no_progress

TABLE, ONLINE_USERS = "user_vectors", "online_users"
Item = TypeVar("Item")
BATCH = 1000
"""Users in one write."""


class PublishError(InstructUEError):
    """A day that cannot be published, or a store that does not hold what was written to it."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """What one publish did."""

    as_of: date
    users: int
    """Rows of the day in `user_vectors`."""
    replaced: bool
    """False: the day held the same rows already."""
    held_back: str | None
    """Why the online store was left as it was; None where it was brought up to date."""
    online: int | None = None
    """Users online afterwards; None where it was held back."""
    written: int = 0
    """Users whose row online differed, written and read back."""
    cleared: int = 0
    """Users taken out of the online store."""
    seconds: float


def publish(spark: SparkSession, deployment: Deployment, as_of: date, progress: Progress = no_progress) -> Published:
    """Write a day of `user_vectors` and bring the online store to the table's latest rows.

    The online store is left alone, and `held_back` says why, while a later day was made from the day as it was
    before: run that day too (`--through`).

    Parameters
    ----------
    progress
        Called with the users compared so far and their number.

    Raises
    ------
    PublishError
        The day's embeddings are stale, an earlier day is not published, or the store lost what was written.
    """
    started = time.monotonic()
    with spark_tables.job_run(spark, deployment, "publish", as_of) as run:
        later = _require_fresh(spark, deployment, as_of)
        embeddings = run.read("user_embeddings")
        rows = whole_rows(embeddings, deployment, as_of).persist()
        try:
            replaced = run.replace(rows.drop("rows_in"), TABLE)
            users, run.rows_in = rows.agg(F.count(F.lit(1)), F.coalesce(F.sum("rows_in"), F.lit(0))).collect()[0]
            run.rows_out = users
        finally:
            rows.unpersist()
        held_back = _held_back(spark, deployment, later)
        with translate_store_errors(store_settings(deployment)):
            done = {} if held_back else serve(spark, deployment, progress)
        run.details |= {"held_back": held_back, **done}
    return Published(
        as_of=as_of, users=users, replaced=replaced, held_back=held_back, seconds=time.monotonic() - started, **done
    )


def whole_rows(embeddings: DataFrame, deployment: Deployment, as_of: date) -> DataFrame:
    """The day's rows of `user_vectors`: every scenario's latest vector of each user with an embedding that day.

    `rows_in`, beside the table's columns, counts the user's embeddings of the day.
    """
    touched = embeddings.where(F.col("day") == F.lit(as_of)).select("user_id").distinct()
    past = (
        embeddings.where(F.col("scenario").isin(*deployment.scenario_names))
        .select("user_id", "scenario", "as_of", "embedding", "model_version", "day")
        .join(touched, "user_id", "left_semi")
    )
    newest = spark_tables.latest_per_key(past, ("user_id", "scenario"), as_of).select(
        "user_id", "scenario", "as_of", "model_version", "embedding"
    )

    def packed(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        # Inside, so that a worker imports the packing alone and not Feast.
        for batch in batches:
            yield batch.drop_columns(["embedding"]).append_column("vector", pack(batch["embedding"]))

    vectors = newest.mapInArrow(
        packed, "user_id string, scenario string, as_of timestamp, model_version string, vector binary"
    )
    cells = []
    for scenario in deployment.scenario_names:
        there = (F.col("scenario") == scenario) & F.col("vector").isNotNull()
        cells += [
            F.max(F.when(there, F.col(value))).alias(name)
            for name, value in zip(scenario_columns(scenario), ("vector", "model_version", "as_of"), strict=True)
        ]
    rows_in = F.count_if(F.col("as_of") == spark_tables.midnight_column(as_of)).alias("rows_in")
    return vectors.groupBy("user_id").agg(*cells, rows_in).withColumn("as_of", spark_tables.midnight_column(as_of))


def serve(spark: SparkSession, deployment: Deployment, progress: Progress = no_progress) -> dict[str, int]:
    """Bring the online store to the latest rows of `user_vectors`; counts of users online, written and cleared.

    Raises
    ------
    PublishError
        The store does not hold what was written to it.
    """
    vectors = spark_tables.read_table(spark, deployment, TABLE)
    names = [name for name in feature_names(deployment.scenario_names) if name in vectors.columns]
    scenarios = [scenario for scenario in deployment.scenario_names if scenario in names]
    rows = spark_tables.latest_per_key(vectors.select("user_id", "as_of", "day", *names), ("user_id",), date.max)
    times = ["as_of", *(scenario_columns(scenario)[2] for scenario in scenarios)]
    rows = (
        rows.where(F.coalesce(*scenarios).isNotNull())
        .drop("day")
        .withColumns({name: F.unix_seconds(name) for name in times})
        .persist()
    )
    try:
        total, width = _width(deployment, rows, scenarios)
        view = _view(deployment, width)
        if view is None:
            return {"online": 0, "written": 0, "cleared": 0}
        project = deployment.store.project
        users = rows.select(F.lit(project).alias("project"), "user_id")
        gone = _list_first(spark, users, project, deployment.table(ONLINE_USERS))
        written = _write(view, _online_rows(rows, names), total, progress)
        cleared = _clear(view, gone)
        if gone:
            (
                users.write.format("delta")
                .mode("overwrite")
                .option("replaceWhere", f"project = '{project}'")
                .save(deployment.table(ONLINE_USERS))
            )
        return {"online": total, "written": written, "cleared": cleared}
    finally:
        rows.unpersist()


def _width(deployment: Deployment, rows: DataFrame, scenarios: list[str]) -> tuple[int, int | None]:
    """Number of rows, and the one width of their vectors; None where there are none."""
    nothing = F.lit(None).cast("int")
    lengths = [F.octet_length(scenario) for scenario in scenarios]
    ends = F.min(F.least(nothing, *lengths)), F.max(F.greatest(nothing, *lengths))
    total, shortest, longest = rows.agg(F.count(F.lit(1)), *ends).collect()[0]
    if shortest != longest:
        raise PublishError(
            f"{deployment.table(TABLE)}: the latest rows hold vectors of {shortest // DTYPE.itemsize} "
            f"and of {longest // DTYPE.itemsize} values; embed every user with one release, then "
            "publish"
        )
    return total, None if longest is None else longest // DTYPE.itemsize


def _view(deployment: Deployment, width: int | None) -> OnlineView | None:
    """The view, applied for vectors of this width; None where there is neither a vector nor a store yet."""
    if width is not None:
        return OnlineView(apply(store_settings(deployment), width))
    try:
        return OnlineView(open_store(store_settings(deployment)))
    except StoreError:
        return None


def _list_first(spark: SparkSession, users: DataFrame, project: str, ledger: str) -> list[str]:
    """Add to `online_users`, before they are written, those who are not in it; who is in it and must go."""
    if not spark_tables.delta_exists(spark, ledger):
        users.write.format("delta").partitionBy("project").save(ledger)
        return []
    listed = spark.read.format("delta").load(ledger).where(F.col("project") == project).select("user_id")
    wanted, there = users.select("user_id", F.lit(True).alias("wanted")), listed.withColumn("listed", F.lit(True))
    differing = (
        wanted.join(there, "user_id", "full_outer")
        .where(F.col("wanted").isNull() | F.col("listed").isNull())
        .select("user_id", "wanted")
        .collect()
    )
    new = [(project, row.user_id) for row in differing if row.wanted]
    if new:
        spark.createDataFrame(new, "project string, user_id string").write.format("delta").mode("append").save(ledger)
    return [row.user_id for row in differing if not row.wanted]


def _online_rows(rows: DataFrame, names: list[str]) -> Iterator[OnlineRow]:
    for user_id, as_of, *cells in rows.select("user_id", "as_of", *names).toLocalIterator(prefetchPartitions=True):
        yield online_row(
            user_id,
            as_of,
            {
                name: bytes(cell) if isinstance(cell, bytearray) else cell
                for name, cell in zip(names, cells, strict=True)
            },
        )


def _write(view: OnlineView, wanted: Iterator[OnlineRow], total: int, progress: Progress) -> int:
    """Write the rows that differ from what is online; their number."""
    compared = written = 0
    for batch in _batches(wanted):
        there = view.read([row.user_id for row in batch])
        differing = [row for row, online in zip(batch, there, strict=True) if not row.same(online)]
        _write_and_read_back(view, differing)
        compared, written = compared + len(batch), written + len(differing)
        progress(compared, total)
    return written


def _clear(view: OnlineView, users: list[str]) -> int:
    """Clear those of `users` that are online; their number."""
    cleared = 0
    for batch in _batches(iter(users)):
        there = [row for row in view.read(batch) if row.values]
        _write_and_read_back(view, [OnlineRow(user_id=row.user_id, as_of=row.as_of, values={}) for row in there])
        cleared += len(there)
    return cleared


def _write_and_read_back(view: OnlineView, rows: list[OnlineRow]) -> None:
    if not rows:
        return
    view.write(rows)
    there = view.read([row.user_id for row in rows])
    lost = [row.user_id for row, online in zip(rows, there, strict=True) if not row.same(online)]
    if lost:
        raise PublishError(
            f"the online store does not hold what was written for {len(lost)} of {len(rows)} users "
            f"({', '.join(lost[:3])}, ...): see that nothing else writes to project "
            f"{view.config.project!r} and that the store has room, then publish again"
        )


def _batches(items: Iterator[Item]) -> Iterator[list[Item]]:
    while batch := list(islice(items, BATCH)):
        yield batch


def _require_fresh(spark: SparkSession, deployment: Deployment, as_of: date) -> list[date]:
    """Refuse a day whose embeddings are stale, or before which a day is missing; the published days after it."""
    done = [run for run in run_log.read_runs(deployment, "embed", "publish") if run.left_rows]
    reason = staleness.stale_reason(deployment, "embed", as_of)
    if reason:
        first = staleness.first_stale(deployment, "embed", as_of)
        raise PublishError(
            f"{as_of} cannot be published: {reason}; run `instructue embed --as-of {first} "
            f"--through {as_of}`, and `assemble` before it where it is stale too"
        )
    earlier = [run.day for run in done if run.job == "embed" and run.day < as_of]
    reason = staleness.stale_reason(deployment, "publish", earlier[-1]) if earlier else None
    if reason:
        first = staleness.first_stale(deployment, "publish", earlier[-1])
        raise PublishError(
            f"{as_of} cannot be published before {earlier[-1]} is: {reason}; run `instructue publish "
            f"--as-of {first} --through {as_of}`"
        )
    return [run.day for run in done if run.job == "publish" and run.day > as_of]


def _held_back(spark: SparkSession, deployment: Deployment, later: list[date]) -> str | None:
    """Why the latest rows of `user_vectors` must not be served: a later day carries this one's former vectors."""
    reason = staleness.stale_reason(deployment, "publish", later[-1]) if later else None
    if reason is None:
        return None
    return (
        f"{later[-1]} is stale ({reason}), so the online store was left as it was; run `instructue publish "
        f"--as-of {later[0]} --through {later[-1]}`"
    )
