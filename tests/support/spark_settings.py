"""Other values of the Spark settings that the jobs fix."""

from __future__ import annotations

from jobs.config.spark_settings import FIXED_SETTINGS

OTHER_VALUES = {
    "spark.sql.session.timeZone": "Asia/Shanghai",
    "spark.sql.timestampType": "TIMESTAMP_NTZ",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MILLIS",
    "spark.sql.mapKeyDedupPolicy": "LAST_WIN",
    "spark.sql.storeAssignmentPolicy": "LEGACY",
    "spark.sql.sources.partitionOverwriteMode": "DYNAMIC",
    "spark.sql.codegen.hugeMethodLimit": "65535",
}
"""A value other than the jobs' own of each key that is neither true nor false."""


def other_value(key: str) -> str:
    """A value of a fixed setting with which rows would differ."""
    return OTHER_VALUES.get(key) or {"true": "false", "false": "true"}[FIXED_SETTINGS[key].value]
