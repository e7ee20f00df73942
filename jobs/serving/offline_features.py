"""Vectors as of past times, for training and analysis: the offline side of the store.

Feast joins `user_vectors` to the given rows on Spark, point in time: a row at time t gets each scenario's vector with
the latest as_of at or before t, and that vector is made of events before its as_of.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from feature_repo.columns import feature_names
from feature_repo.settings import StoreError
from feature_repo.store import open_store
from feature_repo.vectors import unpack_all
from feature_repo.views import VIEW
from jobs.config.deployment import Deployment
from jobs.lake.user_ids import user_ids
from jobs.serving.store_settings import store_settings

REGEX_NAMES = "spark.sql.parser.quotedRegexColumnNames"


def features(
    spark: SparkSession,
    deployment: Deployment,
    entity_df: pd.DataFrame | DataFrame,
    scenarios: Sequence[str] | None = None,
) -> DataFrame:
    """Return the rows of `entity_df`, each joined to the user's vectors as of the row's time.

    Parameters
    ----------
    entity_df : pandas.DataFrame or DataFrame
        Columns user_id (texts or whole numbers) and as_of (a time; UTC where it has no zone), and any others. A Spark
        DataFrame is collected.
    scenarios : sequence of str, optional
        Names; None: all.

    Returns
    -------
    DataFrame
        The columns of `entity_df`, user_id as a text, then `<scenario>` array<float>, `<scenario>_model_version` and
        `<scenario>_as_of` for each; null where the user had no vector at the time.

    Raises
    ------
    StoreError
        Nothing was published yet, a scenario is unknown, or a column is missing.
    UserIdError
        A row has no user id, or one of a type that holds none.
    """
    # As Arrow, whose whole numbers stay exact beside a missing one; pandas makes doubles of them.
    collected = entity_df.toArrow() if isinstance(entity_df, DataFrame) else None
    rows = entity_df if collected is None else collected.to_pandas()
    missing = [name for name in ("user_id", "as_of") if name not in rows.columns]
    if missing or rows.empty:
        raise StoreError(
            f"entity_df has {f'no column {missing[0]}' if missing else 'no row'}; give it user_id and "
            "as_of, one row for each user and time"
        )
    store = open_store(store_settings(deployment))
    known = {field.name for field in store.get_feature_view(VIEW).features}
    required = tuple(scenarios) if scenarios is not None else deployment.scenario_names
    unknown = [name for name in required if name not in known]
    if unknown:
        raise StoreError(f"scenario {unknown[0]!r} was never published; run `instructue publish`, or correct the name")
    names = feature_names(required)
    # Feast takes the time from a column of this name. It reads the times of a Spark DataFrame in the machine's zone.
    # Spark would compare a number with every text that reads as it: 7 with '7' and '007'.
    rows = rows.assign(user_id=user_ids((rows if collected is None else collected)["user_id"]))
    rows = rows.assign(as_of=pd.to_datetime(rows["as_of"], utc=True)).rename(columns={"as_of": "event_timestamp"})
    regex_names = spark.conf.get(REGEX_NAMES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # Feast calls its Spark store experimental
        try:
            job: Any = store.get_historical_features(rows, [f"{VIEW}:{name}" for name in names])
            joined: DataFrame = job.to_spark_df()
        finally:
            spark.conf.set(REGEX_NAMES, regex_names or "false")  # Feast turns it on for the session
    joined = joined.withColumnRenamed("event_timestamp", "as_of").select(*entity_df.columns, *names)
    return _unpacked(joined, required)


def _unpacked(joined: DataFrame, scenarios: Sequence[str]) -> DataFrame:
    """Return the rows with the packed columns as arrays of floats."""
    schema = ", ".join(
        f"`{field.name}` {'array<float>' if field.name in scenarios else field.dataType.simpleString()}"
        for field in joined.schema.fields
    )

    def unpacked(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield pa.RecordBatch.from_arrays(
                [
                    unpack_all(column.cast(pa.binary())) if name in scenarios else column
                    for name, column in zip(batch.schema.names, batch.columns, strict=True)
                ],
                names=batch.schema.names,
            )

    return joined.mapInArrow(unpacked, schema)
