"""The Spark settings that change the rows of a table, and that a deployment file therefore leaves to the jobs.

The jobs set them in each session, those that spark-submit started too. With another value, the same sources would give
other profiles, or tables that a reader cannot open. The keys were found by running assemble with every setting of Spark
and Delta changed, one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class FixedSetting(NamedTuple):
    """The value of a setting, and the reason why no other one is accepted."""

    value: str
    reason: str


SQL_RESULTS = "a condition or an expression in SQL would have another result"
TYPES = "columns would have other types"
LOST_ROWS = "rows of a broken or lost file would be left out without an error"
OPTIMIZED = "it changes how fast the jobs run, and is tuned for them"
FIXED_SETTINGS: dict[str, FixedSetting] = {
    "spark.sql.session.timeZone": FixedSetting("UTC", "days begin and end at midnight, UTC"),
    "spark.sql.timestampType": FixedSetting("TIMESTAMP_LTZ", TYPES),
    "spark.sql.parquet.outputTimestampType": FixedSetting("TIMESTAMP_MICROS", "times would lose their microseconds"),
    "spark.sql.parquet.inferTimestampNTZ.enabled": FixedSetting("true", "times without a zone would be read as UTC"),
    "spark.sql.parquet.int96TimestampConversion": FixedSetting("false", "times would shift by the zone of the machine"),
    "spark.sql.parquet.binaryAsString": FixedSetting("false", TYPES),
    "spark.sql.ansi.enabled": FixedSetting("true", SQL_RESULTS),
    "spark.sql.ansi.doubleQuotedIdentifiers": FixedSetting("false", SQL_RESULTS),
    "spark.sql.ansi.enforceReservedKeywords": FixedSetting("false", SQL_RESULTS),
    "spark.sql.caseSensitive": FixedSetting("false", SQL_RESULTS),
    "spark.sql.decimalOperations.allowPrecisionLoss": FixedSetting("true", SQL_RESULTS),
    "spark.sql.mapKeyDedupPolicy": FixedSetting("EXCEPTION", SQL_RESULTS),
    "spark.sql.parser.escapedStringLiterals": FixedSetting("false", SQL_RESULTS),
    "spark.sql.analyzer.singlePassResolver.enabled": FixedSetting("false", "tables would not be found"),
    "spark.sql.retainGroupColumns": FixedSetting("true", "the users of grouped rows would be lost"),
    "spark.sql.storeAssignmentPolicy": FixedSetting("ANSI", "a value that does not fit its column would become null"),
    "spark.sql.sources.partitionOverwriteMode": FixedSetting("STATIC", "a day without rows would keep its old ones"),
    "spark.sql.sources.partitionColumnTypeInference.enabled": FixedSetting(
        "false", "the folder user_id=007 would be the user 7"
    ),
    "spark.sql.files.ignoreCorruptFiles": FixedSetting("false", LOST_ROWS),
    "spark.sql.files.ignoreMissingFiles": FixedSetting("false", LOST_ROWS),
    "spark.databricks.delta.stats.collect": FixedSetting("true", "maintain could not count the rows that it drops"),
    "spark.sql.execution.arrow.pyspark.enabled": FixedSetting("true", OPTIMIZED),
    # HotSpot compiles no method above 8,000 bytes; from there on Spark uses operators without generated code.
    "spark.sql.codegen.hugeMethodLimit": FixedSetting("8000", OPTIMIZED),
    # A user's events are collected from rows that are sorted already: hashing them would lose their order.
    "spark.sql.execution.useObjectHashAggregateExec": FixedSetting("false", "events would lose their order"),
}
"""By key: the value in every session, and why."""
UNSET_SETTINGS = {
    "spark.databricks.delta.properties.defaults.": "a table of the lake would have features that a reader lacks",
    "spark.databricks.delta.write.txn": "Delta would take a second write for a repeat and drop it",
    "spark.sql.legacy.": "it restores the results of an earlier Spark, and profiles would differ",
}
"""By beginning of a key: why no session has such a setting."""


def require_free_settings(conf: Mapping[str, str]) -> Mapping[str, str]:
    """Return the settings of a deployment file; ValueError where they name one that the jobs set or unset."""
    for key, value in conf.items():
        fixed = FIXED_SETTINGS.get(key)
        if fixed and value.casefold() != fixed.value.casefold():
            raise ValueError(f"{key}: {value}: the jobs set this to {fixed.value}, because {fixed.reason}; remove it")
        if reason := unset_reason(key):
            raise ValueError(f"{key}: {value}: the jobs do without this setting, because {reason}; remove it")
    return conf


def unset_reason(key: str) -> str | None:
    """Return why no session has a setting; None where it may."""
    return next((reason for start, reason in UNSET_SETTINGS.items() if key.startswith(start)), None)
