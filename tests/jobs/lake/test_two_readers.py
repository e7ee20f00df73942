"""Tables as Spark's users write and maintain them: where no feature is refused, both readers read the same rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest

from jobs.lake.delta import open_path, read_rows

INSERT = "INSERT INTO {table} VALUES ('a', 1), ('b', 2), (NULL, 3)"
PARTITIONED = "CREATE TABLE {table} (user_id string, label int) USING delta PARTITIONED BY (user_id)"
OFF, ON = "SET spark.databricks.delta.stats.collect = false", "SET spark.databricks.delta.stats.collect = true"
TABLES = {
    # delta-rs #2169, #3173
    "files with and without statistics": ("", [OFF, INSERT, ON, INSERT]),
    "a column that came later": (
        "",
        [INSERT, "ALTER TABLE {table} ADD COLUMN n int", "INSERT INTO {table} VALUES ('c', 4, 5)"],
    ),
    "a column with a default": (
        "'delta.feature.allowColumnDefaults' = 'supported'",
        [INSERT, "ALTER TABLE {table} ALTER COLUMN label SET DEFAULT 7", "INSERT INTO {table} (user_id) VALUES ('c')"],
    ),
    # delta-rs #433, #1228, #1896, #3577
    "null and empty partitions": (
        "",
        [
            PARTITIONED,
            INSERT,
            "INSERT INTO {table} VALUES ('', 4), ('__HIVE_DEFAULT_PARTITION__', 5), ('a b/c=d%20é', 6)",
        ],
    ),
    "a table that was replaced with other types": (
        "",
        [INSERT, "CREATE OR REPLACE TABLE {table} USING delta AS SELECT 1L user_id, 'x' label"],
    ),
    "deleted and updated rows": ("", [INSERT, "DELETE FROM {table} WHERE label = 1", "UPDATE {table} SET label = 8"]),
    "merged rows with a feed of changes": (
        "'delta.enableChangeDataFeed' = 'true'",
        [
            INSERT,
            "MERGE INTO {table} t USING (SELECT 'a' user_id, 10 label) s ON t.user_id = s.user_id "
            "WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *",
        ],
    ),
    "compacted files": ("", [INSERT, INSERT, "OPTIMIZE {table}"]),
    "a restored version": ("", [INSERT, "DELETE FROM {table}", "RESTORE TABLE {table} TO VERSION AS OF 1"]),
    "an emptied table": ("", [INSERT, "TRUNCATE TABLE {table}"]),
    # delta-rs #3375, delta-kernel-rs #2541
    "checkpoints with statistics as columns alone": (
        "'delta.checkpointInterval' = '2', 'delta.checkpoint.writeStatsAsJson' = 'false', "
        "'delta.checkpoint.writeStatsAsStruct' = 'true'",
        [INSERT, INSERT, INSERT],
    ),
    "checkpoints in parts": (
        "'delta.checkpointInterval' = '2'",
        ["SET spark.databricks.delta.checkpoint.partSize = 1", INSERT, INSERT, INSERT],
    ),
    "files under random prefixes": ("'delta.randomizeFilePrefixes' = 'true'", [INSERT]),
    # delta-rs #1947, delta #1499
    "a column without a type": ("", [INSERT, "ALTER TABLE {table} ADD COLUMN nothing void"]),
    "a check and a generated number": ("", [INSERT, "ALTER TABLE {table} ADD CONSTRAINT c CHECK (label > 0)", INSERT]),
}
"""By what is in it: the properties of a table and the statements after its creation."""


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_both_readers_read_the_same_rows(name: str, spark: Any, tmp_path: Path) -> None:
    properties, statements = TABLES[name]
    table = f"delta.`{tmp_path}/t`"
    given = f"TBLPROPERTIES ({properties})" if properties else ""
    if PARTITIONED not in statements:
        spark.sql(f"CREATE TABLE {table} (user_id string, label int) USING delta {given}")
    for statement in statements:
        spark.sql(statement.format(table=table))
    spark.conf.unset("spark.databricks.delta.checkpoint.partSize")
    frame = spark.read.format("delta").load(f"{tmp_path}/t")
    opened = open_path(f"{tmp_path}/t")  # refuses none of the features
    assert _sorted(read_rows(opened).to_pylist()) == _sorted(row.asDict() for row in frame.collect())
    if dict(frame.dtypes)["user_id"] == "string":
        filtered = read_rows(opened, filters=pc.field("user_id").isin(["a", "c"])).to_pylist()
        assert _sorted(filtered) == _sorted(row.asDict() for row in frame.where("user_id IN ('a', 'c')").collect())


def _sorted(rows: Any) -> list[str]:
    return sorted(str(list(row.items())) for row in rows)
