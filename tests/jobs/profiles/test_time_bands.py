"""Spark's time bands and whole days against those of the model."""

from __future__ import annotations

import numpy as np
from pyspark.sql import functions as F

from jobs.config.fields import FIRST_DAY, LAST_DAY
from jobs.profiles.time_bands import time_band, whole_days
from model.data.time_bands import time_bands


def test_spark_and_the_model_agree_on_every_band(spark):
    last = (LAST_DAY - FIRST_DAY).days
    days = np.unique([*range(70), *(2**k + shift for k in range(6, 16) for shift in (-2, -1, 0, 1)), last])
    df = spark.createDataFrame([(int(day),) for day in days], "days long")
    bands = df.select("days", time_band(F.col("days")).alias("band")).orderBy("days").collect()
    assert [row.band for row in bands] == time_bands(days).tolist()
    assert spark.range(1).select(time_band(F.lit(None).cast("long")).alias("band")).first().band is None


def test_whole_days_are_full_days_of_24_hours(spark):
    rows = [("2025-01-01 00:00:00", later) for later in ("2025-01-01 23:59:59.999999", "2025-01-02", "2026-01-01")]
    df = spark.createDataFrame(rows, "a string, b string").select(
        whole_days(F.col("a").cast("timestamp"), F.col("b").cast("timestamp")).alias("days")
    )
    assert [row.days for row in df.collect()] == [0, 1, 365]
