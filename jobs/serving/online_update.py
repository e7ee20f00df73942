"""Bring the online store to the latest rows of `user_vectors`.

Stores differ in what they do with a row that is older than theirs, so the store does not decide: each user's row
online is read and compared, a row that differs is written and read back, and a user without a vector is cleared. The
table `online_users` lists the users who may be online. It is written before the store is, so a user who was deleted
from every table is cleared too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from itertools import islice
from typing import TypeVar

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from feature_repo.columns import feature_names, scenario_columns
from feature_repo.online import OnlineRow, OnlineView, online_row
from feature_repo.redis_server import remove_expiry
from feature_repo.store import apply, check_writable, find_store, record_owner, translate_store_errors
from feature_repo.vectors import DTYPE
from jobs.config.deployment import Deployment
from jobs.lake import spark_tables
from jobs.serving.store_settings import ONLINE_USERS, store_settings
from model.errors import InstructUEError
from model.progress import Progress, no_progress

TABLE = "user_vectors"
BATCH = 1000
"""Users in one write."""
Item = TypeVar("Item")


class PublishError(InstructUEError):
    """A day that cannot be published, or a store that does not hold what was written to it."""


@dataclass(frozen=True, kw_only=True)
class OnlineUpdate:
    """The result of one update of the online store."""

    online: int
    """Users online afterwards."""
    written: int
    """Users whose row online differed, written and read back."""
    cleared: int
    """Users taken out of the online store."""


def update_online(spark: SparkSession, deployment: Deployment, progress: Progress = no_progress) -> OnlineUpdate:
    """Bring the online store to the latest rows of `user_vectors`.

    Raises
    ------
    PublishError
        The store does not hold what was written to it.
    StoreError
        The store cannot be used, or holds the vectors of another lake.
    """
    settings = store_settings(deployment)
    rows, scenarios = _latest_rows(spark, deployment)
    rows.persist()
    try:
        with translate_store_errors(settings):
            total, width = _count(deployment, rows, scenarios)
            store = find_store(settings)
            if width is None and store is None:
                return OnlineUpdate(online=0, written=0, cleared=0)
            users = _OnlineUsers(spark, deployment)
            without_vector = users.add(rows)
            written = 0
            if store is not None:
                former = OnlineView(store)
                former.create()
                check_writable(settings, store)
                written = _clear_scenarios(former, users, settings.scenarios)
            if width is not None:
                store = apply(settings, width)
            assert store is not None
            view = OnlineView(store)
            if not check_writable(settings, store):
                remove_expiry(view, _batches(iter(users)))
            record_owner(settings, view)
            written += _write(view, _online_rows(rows, feature_names(scenarios)), total, progress)
            cleared = _clear(view, without_vector)
            if without_vector:
                users.replace(rows)
            return OnlineUpdate(online=total, written=written, cleared=cleared)
    finally:
        rows.unpersist()


def _latest_rows(spark: SparkSession, deployment: Deployment) -> tuple[DataFrame, list[str]]:
    """Return the latest row of each user with a vector, times as seconds since 1970, and the scenarios in it."""
    vectors = spark_tables.read_table(spark, deployment, TABLE)
    scenarios = [scenario for scenario in deployment.scenario_names if scenario in vectors.columns]
    columns = ["user_id", "as_of", "day", *feature_names(scenarios)]
    rows = spark_tables.latest_per_key(vectors.select(*columns), ("user_id",), date.max)
    times = ["as_of", *(scenario_columns(scenario)[2] for scenario in scenarios)]
    rows = rows.where(F.coalesce(*scenarios).isNotNull()).drop("day")
    return rows.withColumns({name: F.unix_seconds(name) for name in times}), scenarios


def _count(deployment: Deployment, rows: DataFrame, scenarios: list[str]) -> tuple[int, int | None]:
    """Return the number of rows, and the one width of their vectors; None where there are none."""
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


class _OnlineUsers:
    """The table `online_users`: the users of this project who may be online."""

    def __init__(self, spark: SparkSession, deployment: Deployment) -> None:
        self._spark, self._project = spark, deployment.store.project
        self._path = deployment.table(ONLINE_USERS)

    def __iter__(self) -> Iterator[str]:
        return (row.user_id for row in self._listed().toLocalIterator(prefetchPartitions=True))

    def add(self, rows: DataFrame) -> list[str]:
        """Add the users of these rows, and return the listed users who have no row."""
        users = self._users(rows)
        if not spark_tables.delta_exists(self._spark, self._path):
            spark_tables.delta_writer(users).partitionBy("project").save(self._path)
            return []
        current = users.select("user_id", F.lit(True).alias("current"))
        listed = self._listed().withColumn("listed", F.lit(True))
        differing = (
            current.join(listed, "user_id", "full_outer")
            .where(F.col("current").isNull() | F.col("listed").isNull())
            .select("user_id", "current")
            .collect()
        )
        new = [(self._project, row.user_id) for row in differing if row.current]
        if new:
            added = self._spark.createDataFrame(new, "project string, user_id string")
            spark_tables.delta_writer(added).mode("append").save(self._path)
        return [row.user_id for row in differing if not row.current]

    def replace(self, rows: DataFrame) -> None:
        """Replace the listed users by the users of these rows."""
        (
            spark_tables.delta_writer(self._users(rows))
            .mode("overwrite")
            .option("replaceWhere", f"project = '{self._project}'")
            .save(self._path)
        )

    def _users(self, rows: DataFrame) -> DataFrame:
        return rows.select(F.lit(self._project).alias("project"), "user_id")

    def _listed(self) -> DataFrame:
        table = self._spark.read.format("delta").load(self._path)
        return table.where(F.col("project") == self._project).select("user_id")


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


def _write(view: OnlineView, rows: Iterator[OnlineRow], total: int, progress: Progress) -> int:
    """Write the rows that differ from what is online, and return their number."""
    compared = written = 0
    for batch in _batches(rows):
        stored = view.read([row.user_id for row in batch])
        differing = [row for row, online in zip(batch, stored, strict=True) if not row.same(online)]
        _write_and_read_back(view, differing)
        compared, written = compared + len(batch), written + len(differing)
        progress(compared, total)
    return written


def _clear(view: OnlineView, users: Iterable[str]) -> int:
    """Clear those of the users that are online, and return their number."""
    cleared = 0
    for batch in _batches(iter(users)):
        online = [row for row in view.read(batch) if row.values]
        _write_and_read_back(view, [replace(row, values={}) for row in online])
        cleared += len(online)
    return cleared


def _clear_scenarios(former: OnlineView, users: Iterable[str], scenarios: Iterable[str]) -> int:
    """Clear the scenarios that are in the applied view and not in the settings, and return the number of users.

    This happens before the new view is applied, because the new view cannot write these features.
    """
    removed = {*former.features} - {*feature_names(scenarios)}
    if not removed:
        return 0
    cleared = 0
    for batch in _batches(iter(users)):
        online = [row for row in former.read(batch) if removed & row.values.keys()]
        kept = [{name: value for name, value in row.values.items() if name not in removed} for row in online]
        _write_and_read_back(former, [replace(row, values=values) for row, values in zip(online, kept, strict=True)])
        cleared += len(online)
    return cleared


def _write_and_read_back(view: OnlineView, rows: list[OnlineRow]) -> None:
    if not rows:
        return
    view.write(rows)
    stored = view.read([row.user_id for row in rows])
    lost = [row.user_id for row, online in zip(rows, stored, strict=True) if not row.same(online)]
    if lost:
        raise PublishError(
            f"the online store does not hold what was written for {len(lost)} of {len(rows)} users "
            f"({', '.join(lost[:3])}, ...): see that nothing else writes to project "
            f"{view.config.project!r} and that the store has room, then publish again"
        )


def _batches(items: Iterator[Item]) -> Iterator[list[Item]]:
    while batch := list(islice(items, BATCH)):
        yield batch
