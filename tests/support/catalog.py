"""The columns of a written table, against the catalog."""

from __future__ import annotations

from typing import Any

from jobs.config.deployment import Deployment
from jobs.lake import spark_tables


def assert_columns(spark: Any, deployment: Deployment, table: str) -> None:
    """Assert that a table has the columns that the catalog says, in any order."""
    written = spark.read.format("delta").load(deployment.table(table)).schema
    declared = spark_tables.table_schema(deployment, table)
    assert {field.name: field.dataType.simpleString() for field in written} == {
        field.name: field.dataType.simpleString() for field in declared
    }
