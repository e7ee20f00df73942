"""Vectors as of past times, for training and analysis: the offline side of the store.

Feast joins `user_vectors` to the given rows on Spark, point in time: a row at time t gets each scenario's vector with
the latest as_of at or before t, and that vector is made of events before its as_of. Feast's SQL sees the users and
times alone, so the other columns may have any name and any type.
"""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pandas as pd
import pyarrow as pa
from feast.infra.offline_stores.contrib.spark_offline_store.spark import SparkOfflineStore
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, FloatType, StructField, StructType

from feature_repo.columns import feature_names
from feature_repo.registered_view import vector_widths
from feature_repo.settings import StoreError
from feature_repo.store import open_store
from feature_repo.vectors import unpack_all
from feature_repo.views import VIEW, definitions
from jobs.config.deployment import Deployment
from jobs.lake import spark_tables
from jobs.serving.entity_rows import TIME, USER, read_rows
from jobs.serving.store_settings import store_settings

SETTINGS = {"spark.sql.parser.quotedRegexColumnNames": None, "spark.sql.session.timeZone": "UTC"}
"""Settings of the session that Feast changes, or that its SQL reads, and the value that it needs."""
POSITION = "_position"
"""The column with the number of a row; no scenario's name begins with `_`."""
VIEWS = (f"{VIEW}__cleaned", "entity_dataframe")
"""The temporary views of Feast's query, beside the one that holds the users and times in memory."""
_one_query = threading.Lock()
"""Each query of a session replaces the views of the one before."""


def features(
    spark: SparkSession,
    deployment: Deployment,
    entity_df: pd.DataFrame | DataFrame,
    scenarios: Sequence[str] | None = None,
) -> DataFrame:
    """Return the rows of `entity_df` in their order, each joined to the user's vectors as of the row's time.

    Parameters
    ----------
    entity_df : pandas.DataFrame or DataFrame
        Columns user_id (texts, whole numbers or decimals) and as_of (times, dates or ISO texts; UTC where they have no
        zone), and any others that Arrow and Spark can hold. A Spark DataFrame is collected.
    scenarios : sequence of str, optional
        Names; None: all.

    Returns
    -------
    DataFrame
        The columns of `entity_df`, user_id as a text and as_of as a timestamp, then `<scenario>` array<float>,
        `<scenario>_model_version` and `<scenario>_as_of` for each; null where the user had no vector at the time.

    Raises
    ------
    StoreError
        Nothing was published yet, the store belongs to another lake, or a scenario is unknown or named twice.
    FrameError
        The frame is empty, lacks a column, has a column that the result cannot have, or a row has no time.
    UserIdError
        A row has no user id, or one of a type that holds none.
    """
    required = deployment.scenario_names if scenarios is None else tuple(scenarios)
    if isinstance(scenarios, str) or not required or len({*required}) < len(required):
        raise StoreError(f"scenarios = {scenarios!r}: name each once in a list, or None for all")
    names = feature_names(required)
    rows = read_rows(entity_df, names)
    settings = store_settings(deployment)
    store = open_store(settings)
    widths = vector_widths(store.get_feature_view(VIEW))
    known = {*widths} & {*spark_tables.read_table(spark, deployment, VIEW).columns}
    unknown = [name for name in required if name not in known]
    if unknown:
        raise StoreError(f"scenario {unknown[0]!r} was never published; run `instructue publish`, or correct the name")
    # The registry may name a table that was moved or copied since.
    view = definitions(scenarios=[*widths], table=settings.table, width=next(iter(widths.values()))).view
    vectors = _point_in_time(spark, store, view, rows.select([USER, TIME]), names)
    joined = _numbered(spark, rows).join(vectors, [USER, TIME], "left").drop(USER, TIME).orderBy(POSITION)
    return _unpacked(joined, rows.column_names, required)


def _numbered(spark: SparkSession, rows: pa.Table) -> DataFrame:
    """Return the rows with their positions, their user and time, and their columns under numbers for names."""
    numbers = [f"_{number}" for number in range(rows.num_columns)]
    columns = [*rows.columns, rows[USER], rows[TIME], pa.array(range(len(rows)), pa.int64())]
    return spark.createDataFrame(pa.table(columns, [*numbers, USER, TIME, POSITION]))


def _point_in_time(spark: SparkSession, store: Any, view: Any, rows: pa.Table, names: Sequence[str]) -> DataFrame:
    """Return user_id, as_of and the features of each distinct user and time of the rows."""
    distinct = rows.group_by([USER, TIME]).aggregate([]).rename_columns([USER, "event_timestamp"])
    with _one_query, _settings(spark), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # Feast calls its Spark store experimental
        # As pandas: Feast reads the times of a Spark DataFrame in the machine's zone.
        job: Any = SparkOfflineStore.get_historical_features(
            store.config,
            [view],
            [f"{VIEW}:{name}" for name in names],
            distinct.to_pandas(),
            store.registry,
            store.project,
            full_feature_names=True,  # a scenario may have the name of a column of Feast's query
        )
        result: DataFrame = job.to_spark_df()
        for name in (*VIEWS, *re.findall(r"feast_entity_df_\w+", str(job.query))):
            spark.catalog.dropTempView(name)
    features = [F.col(f"{VIEW}__{name}").alias(name) for name in names]
    return result.select(USER, F.col("event_timestamp").alias(TIME), *features)


@contextmanager
def _settings(spark: SparkSession) -> Iterator[None]:
    """Set what Feast's SQL needs for the block, and put the session's settings back."""
    former = {key: spark.conf.get(key, None) for key in SETTINGS}
    try:
        for key, value in SETTINGS.items():
            if value is not None:
                spark.conf.set(key, value)
        yield
    finally:
        for key, before in former.items():
            if before is None:
                spark.conf.unset(key)
            else:
                spark.conf.set(key, before)


def _unpacked(joined: DataFrame, columns: Sequence[str], scenarios: Sequence[str]) -> DataFrame:
    """Return the rows under the frame's names, with the packed columns as arrays of floats, without positions."""
    kept = [field for field in joined.schema.fields if field.name != POSITION]
    names = [*columns, *(field.name for field in kept[len(columns) :])]
    schema = StructType(
        [
            StructField(name, ArrayType(FloatType()) if field.name in scenarios else field.dataType)
            for name, field in zip(names, kept, strict=True)
        ]
    )
    packed = {position for position, field in enumerate(kept) if field.name in scenarios}

    def unpacked(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            arrays = [
                unpack_all(column.cast(pa.binary())) if position in packed else column
                for position, column in enumerate(batch.columns)
            ]
            yield pa.RecordBatch.from_arrays(arrays, names=names)

    return joined.select(*(f"`{field.name}`" for field in kept)).mapInArrow(unpacked, schema)
