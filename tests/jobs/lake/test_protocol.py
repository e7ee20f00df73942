"""Features of Delta tables: what Spark writes and `deltalake` does not read right is refused by name, with the fix."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import deltalake
import pytest

from jobs.lake.delta import open_path, open_table, read_rows
from jobs.lake.protocol import UnsupportedTableError
from jobs.lake.spark_tables import read_table, version
from tests.support.commands import follow
from tests.support.error_page import refused, row

ROWS = "SELECT 'a' user_id, 1 label, 0 label_raw UNION ALL SELECT 'b', 0, 1"
INSERT = f"INSERT INTO {{table}} {ROWS}"
SWAPPED = [
    "ALTER TABLE {table} RENAME COLUMN label TO label_old",
    "ALTER TABLE {table} RENAME COLUMN label_raw TO label",
]
"""Column mapping with which `label` is another column than the files say."""
LEGACY_MAPPING = (
    "ALTER TABLE {table} SET TBLPROPERTIES "
    "('delta.columnMapping.mode' = 'name', 'delta.minReaderVersion' = '2', 'delta.minWriterVersion' = '5')"
)
DELETE = "DELETE FROM {table} WHERE user_id = 'a'"
WIDEN = "ALTER TABLE {table} ALTER COLUMN label TYPE bigint"
TABLES: dict[str, tuple[tuple[str, ...], str, list[str]]] = {
    # delta-rs #3348, #3358, delta-io/connectors #444, ray #64854
    "mapping by name, renamed": (("columnMapping",), "columnMapping.mode = name", SWAPPED),
    # duckdb-delta #11
    "mapping by id": (("columnMapping",), "columnMapping.mode = id", []),
    # duckdb-delta #50
    "mapping of an older protocol, renamed": (("columnMapping",), "", [LEGACY_MAPPING, *SWAPPED]),
    # delta-rs #3543, #4101
    "deleted rows": (("deletionVectors",), "enableDeletionVectors = true", [DELETE]),
    # delta-kernel-rs #623
    "a widened column": (("typeWidening",), "enableTypeWidening = true", [WIDEN]),
    # delta-rs #3222, #4598, duckdb-delta #182
    "checkpoints of version 2": (("v2Checkpoint",), "checkpointPolicy = v2", []),
    "two of them": (
        ("columnMapping", "deletionVectors"),
        "columnMapping.mode = name, enableDeletionVectors = true",
        [*SWAPPED, DELETE],
    ),
    "Iceberg's reader": (
        ("columnMapping", "icebergCompatV2"),
        "columnMapping.mode = name, enableIcebergCompatV2 = true",
        [],
    ),
    "a variant": (("variantType",), "feature.variantType = supported", ["ALTER TABLE {table} ADD COLUMN v variant"]),
}
"""By what is in it: its unsupported features, the properties that it is made with, and the statements after that."""
BY_STATEMENT = ("catalogManaged", "clustering", "adaptiveMetadata-preview")
"""Features that no property alone gives a table: those of a catalog, and one that a statement of its own gives."""
QUICK = ["mapping by name, renamed", "mapping by id", "deleted rows", "Iceberg's reader"]
FOLLOWED = [name for name in TABLES if name not in QUICK]


def unsupported_features(path: str) -> tuple[str, ...]:
    """Return the features by which a table is refused; none where it opens."""
    try:
        open_path(path)
    except UnsupportedTableError as error:
        [features] = re.findall(r"read correctly: (.*?); ", str(error))
        return tuple(features.split(", "))
    return ()


def make(spark: Any, path: Path, properties: str, statements: list[str]) -> str:
    """Write a table of two rows with Spark; return its path."""
    table = f"delta.`{path}`"
    pairs = [pair.split(" = ") for pair in properties.split(", ") if pair]
    given = ", ".join(f"'delta.{key}' = '{value}'" for key, value in pairs)
    spark.sql(f"CREATE TABLE {table} USING delta {f'TBLPROPERTIES ({given})' if given else ''} AS {ROWS}")
    for statement in statements:
        spark.sql(statement.format(table=table))
    return str(path)


def spark_rows(spark: Any, path: str) -> list[tuple[Any, ...]]:
    return sorted(tuple(row) for row in spark.read.format("delta").load(path).collect())


def arrow_rows(path: str) -> list[tuple[Any, ...]]:
    return sorted(tuple(row.values()) for row in read_rows(open_path(path)).to_pylist())


@pytest.mark.parametrize("name", QUICK)
def test_a_feature_is_refused_by_name(name: str, spark: Any, tmp_path: Path) -> None:
    features, properties, statements = TABLES[name]
    path = make(spark, tmp_path / "labels", properties, statements)
    assert unsupported_features(path) == features
    assert version(spark, path) == spark.sql(f"DESCRIBE HISTORY delta.`{path}`").count() - 1


@pytest.mark.slow
@pytest.mark.parametrize("name", FOLLOWED)
def test_the_advice_makes_a_table_readable(name: str, spark: Any, deployment: Any, tmp_path: Path) -> None:
    features, properties, statements = TABLES[name]
    path = make(spark, tmp_path / "labels", properties, statements)
    rows = [row[:3] for row in spark_rows(spark, path)]  # a fourth one is a variant
    assert unsupported_features(path) == features
    with pytest.raises(UnsupportedTableError) as refusal:
        open_path(path)
    follow(spark, deployment(), refusal.value, columns="* EXCEPT (v)")
    if "DROP FEATURE" not in str(refusal.value):
        path += "_copy"
    assert unsupported_features(path) == ()
    assert arrow_rows(path) == spark_rows(spark, path) == rows


@row("a table with a feature that deltalake does not read")
def test_a_labels_table_with_renamed_columns_is_refused(wrong: str, spark: Any, deployment: Any) -> None:
    shop = deployment()
    path = make(spark, Path(shop.table("labels")), "columnMapping.mode = name", SWAPPED)
    with refused(wrong):
        open_table(shop, "labels")
    # What the rule is for: the package reads the column that has lost its name, without an error.
    silent = deltalake.DeltaTable(path).to_pyarrow_table()
    assert silent["label"].to_pylist() != [row.label for row in spark.read.format("delta").load(path).collect()]


@row("profiles with a feature that another job cannot read")
def test_a_table_of_the_lake_with_a_feature_is_refused_by_name(wrong: str, spark: Any, deployment: Any) -> None:
    shop = deployment()
    make(spark, Path(shop.table("user_profiles")), "enableDeletionVectors = true", [DELETE])
    for read in (lambda: open_table(shop, "user_profiles"), lambda: read_table(spark, shop, "user_profiles")):
        with refused(wrong):
            read()


# delta-rs #2456
def test_a_shallow_clone_is_read_by_spark_alone(spark: Any, deployment: Any, tmp_path: Path) -> None:
    path = make(spark, tmp_path / "cloned", "", [])
    spark.sql(f"CREATE TABLE delta.`{tmp_path}/clone` SHALLOW CLONE delta.`{path}`")
    assert unsupported_features(path) == ()
    assert unsupported_features(f"{tmp_path}/clone") == ("shallow clone",)
    with pytest.raises(UnsupportedTableError, match="shallow clone; write its rows to a new table") as refusal:
        open_path(f"{tmp_path}/clone")
    follow(spark, deployment(), refusal.value)
    shutil.rmtree(path)
    assert arrow_rows(f"{tmp_path}/clone_copy") == [("a", 1, 0), ("b", 0, 1)]


# delta-sharing #384, delta-rs #4082
@row("a file whose columns are written in other case")
def test_files_of_other_case_are_refused(wrong: str, spark: Any, deployment: Any, tmp_path: Path) -> None:
    path = f"{tmp_path}/converted"
    spark.sql(ROWS).write.parquet(path)
    spark.sql("SELECT 'c' USER_ID, 1 Label, 1 label_raw").write.mode("append").parquet(path)
    spark.sql(f"CONVERT TO DELTA parquet.`{path}`")
    assert {row[0] for row in spark_rows(spark, path)} == {"a", "b", "c"}
    assert None in deltalake.DeltaTable(path).to_pyarrow_table()[0].to_pylist()
    with refused(wrong) as refusal:
        read_rows(open_path(path))
    follow(spark, deployment(), refusal.value)
    assert arrow_rows(f"{path}_copy") == [("a", 1, 0), ("b", 0, 1), ("c", 1, 1)]


def test_timestamps_beyond_nanoseconds_are_read(spark: Any, tmp_path: Path) -> None:
    path = f"{tmp_path}/far"
    spark.conf.set("spark.sql.parquet.outputTimestampType", "INT96")
    try:
        spark.sql("SELECT 'a' user_id, timestamp'9999-12-31 10:00:00.123456' until").write.parquet(path)
    finally:
        spark.conf.unset("spark.sql.parquet.outputTimestampType")
    spark.sql(f"CONVERT TO DELTA parquet.`{path}`")
    [(_, until)] = arrow_rows(path)
    assert until.isoformat() == "9999-12-31T10:00:00.123456+00:00"


@pytest.mark.slow
def test_each_feature_that_delta_knows_is_read_right_or_unsupported(spark: Any, tmp_path: Path) -> None:
    known = spark._jvm.org.apache.spark.sql.delta.TableFeature.allSupportedFeaturesMap().values().iterator()
    unsupported = {}
    while known.hasNext():
        name = known.next().name()
        if name in BY_STATEMENT:
            continue
        path = make(spark, tmp_path / name, f"feature.{name} = supported", [])
        if not (features := unsupported_features(path)):
            assert arrow_rows(path) == spark_rows(spark, path) == [("a", 1, 0), ("b", 0, 1)], name
        unsupported[name] = features
    assert unsupported["columnMapping"] == ()  # without a mode
    assert unsupported["vacuumProtocolCheck"] == ("vacuumProtocolCheck",)
    assert unsupported["geospatial"] == ("geospatial",)
    assert unsupported["rowTracking"] == ()
    clustered = f"delta.`{tmp_path}/clustered`"
    spark.sql(f"CREATE TABLE {clustered} (user_id string, label int, label_raw int) USING delta CLUSTER BY (user_id)")
    spark.sql(INSERT.format(table=clustered))
    assert arrow_rows(f"{tmp_path}/clustered") == [("a", 1, 0), ("b", 0, 1)]
