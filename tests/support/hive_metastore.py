"""Write a company's tables into a Hive metastore, as another platform does: `python -m tests.support.hive_metastore`.

Hive's classes can be loaded once in a JVM, so a session with a metastore has a process of its own.
"""

from __future__ import annotations

import sys
from typing import Any

from jobs.config.deployment import Deployment
from jobs.lake.session import get_session

STATEMENTS = (
    "CREATE DATABASE sales",
    "CREATE TABLE sales.bills (userId STRING, paidAt TIMESTAMP, merchant STRING, amount DECIMAL(10,2)) "
    "USING delta LOCATION '{folder}/bills'",
    "INSERT INTO sales.bills VALUES ('007', TIMESTAMP'2025-01-10 12:00:00', 'tea', 9.50)",
    "INSERT INTO sales.bills VALUES ('7', TIMESTAMP'2025-01-11 12:00:00', 'bus', 2.00)",
    # By Hive's own reader: names in lower case, CHAR padded, a partition that is a text.
    "CREATE TABLE sales.searches (user_id CHAR(8), searched_at TIMESTAMP, query VARCHAR(20)) "
    "PARTITIONED BY (dt STRING) STORED AS TEXTFILE",
    "INSERT INTO sales.searches PARTITION (dt = '007') VALUES ('007', TIMESTAMP'2025-01-12 12:00:00', 'green tea')",
    "CREATE TABLE sales.visits STORED AS ORC AS SELECT '7' AS user_id, TIMESTAMP'2025-01-13 12:00:00' AS at, 1 AS n",
    "CREATE VIEW sales.people AS SELECT userId AS user_id, count(*) AS bills, 'Köln' AS city "
    "FROM sales.bills GROUP BY userId",
    "CREATE VIEW sales.broken AS SELECT userId FROM sales.bills",
    "CREATE TABLE sales.iceberg (user_id STRING) STORED AS PARQUET",
)
AS_ICEBERG = (
    "INSERT INTO table_params (tbl_id, param_key, param_value) "
    "SELECT tbl_id, 'table_type', 'ICEBERG' FROM tbls WHERE tbl_name = 'iceberg'"
)
"""As Iceberg's own catalog marks a table; Spark reserves the property, so Derby runs the statement."""


def main(path: str) -> None:
    """Run the statements in the metastore of a deployment."""
    deployment = Deployment.read(path)
    spark = get_session(deployment, named=False)
    for statement in STATEMENTS:
        spark.sql(statement.format(folder=deployment.path.parent / "company"))
    jvm: Any = spark._jvm
    database = jvm.org.apache.derby.jdbc.EmbeddedDriver().connect(
        f"jdbc:derby:{deployment.resolve('warehouse')}/metastore_db", jvm.java.util.Properties()
    )
    database.createStatement().execute(AS_ICEBERG)
    database.close()
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
