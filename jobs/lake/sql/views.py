"""The names that a query can use: the lake's tables, and the views and functions of `sql/`.

Without a metastore they are temporary and last as long as the session. With one (`spark.metastore`) they are in a
database named after the deployment, where every session of that metastore finds them.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from weakref import WeakKeyDictionary

from pyspark.errors import PySparkException
from pyspark.logger import PySparkLogger
from pyspark.sql import SparkSession

from jobs.config.deployment import Deployment
from jobs.config.location import is_catalog_name, is_path, local_path, scheme
from jobs.console.text import sql_table
from jobs.lake import catalog
from jobs.lake.company_tables import path_exists
from jobs.lake.error_text import error_reason
from jobs.lake.errors import TableError
from jobs.lake.repair import LOG
from jobs.lake.spark_tables import read_table
from jobs.lake.sql.definitions import DEFINITIONS
from jobs.lake.sql.instruction_functions import register_functions

logger = logging.getLogger(__name__)

# PySpark logs the JVM's stack as JSON beside the exception that it raises; the exception's message is enough.
for _name in ("SQLQueryContextLogger", "DataFrameQueryContextLogger"):
    PySparkLogger.getLogger(_name).setLevel(logging.CRITICAL)

FOLDER = Path(__file__).parent
Statement = tuple[str, str]
"""The name of a table, view or function, and the statement that creates it."""

NAMES = "instructue.names"
"""The property of a database that lists the names that this project wrote into it."""
_registered: WeakKeyDictionary[SparkSession, set[str]] = WeakKeyDictionary()
"""The names that each session has without a metastore."""


def register_views(spark: SparkSession, deployment: Deployment) -> tuple[str, ...]:
    """Register the lake's tables, and the views and functions whose tables exist; return the names.

    Each session registers them when it starts, and each query again, because tables may have been written since. A
    table that cannot be read is logged as a warning and left out, since the job that starts may be the one that repairs
    it.
    """
    paths = _tables(spark, deployment)
    functions = register_functions(spark, deployment)
    if deployment.spark.metastore:
        return tuple(sorted((*_update_metastore(spark, deployment, paths), *functions)))
    tables = _run(
        spark,
        [
            (name, f"CREATE OR REPLACE TEMPORARY VIEW `{name}` AS SELECT * FROM {sql_table(path)}")
            for name, path in paths.items()
        ],
    )
    names = (*tables, *_create(spark, _statements(deployment, tables)))
    # The session may have names of another lake; those that this lake lacks must not give that lake's rows.
    for name in _registered.get(spark, set()) - {*names}:
        spark.catalog.dropTempView(name)
        spark.sql(f"DROP TEMPORARY FUNCTION IF EXISTS `{name}`")
    _registered[spark] = {*names}
    return tuple(sorted((*names, *functions)))


def register_company_views(spark: SparkSession, deployment: Deployment) -> tuple[str, ...]:
    """Register the company's tables that are no Delta tables at a path as temporary views; return their names.

    Their columns are those that the jobs read. One that cannot be read is logged as a warning and left out.
    """
    names = []
    for name, table in _company_names(deployment).items():
        if not deployment.is_delta_path(table):
            try:
                read_table(spark, deployment, table).createOrReplaceTempView(f"`{name}`")
            except TableError as error:
                logger.warning("%s cannot be named in SQL: %s", name, error)
            else:
                names.append(name)
    return tuple(names)


def _company_names(deployment: Deployment) -> dict[str, str]:
    """Return name to table of the sources and the attributes; one outside the lake has its section's name."""
    tables = {source.name: source.table for source in deployment.sources}
    tables |= {"attributes": deployment.attributes.table} if deployment.attributes else {}
    return {section if is_path(table) or is_catalog_name(table) else table: table for section, table in tables.items()}


def _tables(spark: SparkSession, deployment: Deployment) -> dict[str, str]:
    """Return name to path of the Delta tables that exist; a source outside the lake has the source's name."""
    company = {name: table for name, table in _company_names(deployment).items() if deployment.is_delta_path(table)}
    named = {name: name for name in catalog.TABLES} | company
    paths = {name: deployment.table(table) for name, table in named.items()}
    with ThreadPoolExecutor(8) as pool:
        exist = list(pool.map(lambda path: _exists(spark, path), paths.values()))
    return {name: path for (name, path), exists in zip(paths.items(), exist, strict=True) if exists}


def _exists(spark: SparkSession, path: str) -> bool:
    folder = local_path(path)
    if folder is not None:
        return (folder / LOG).is_dir()
    return path_exists(spark, f"{path}/{LOG}")


def _statements(deployment: Deployment, tables: tuple[str, ...]) -> list[Statement]:
    """Return the statement of each view and function whose table is among `tables`, in the order of creation."""
    in_metastore = deployment.spark.metastore is not None
    # A function in a metastore looks names up in the database of its caller, so the names in it are qualified.
    placeholders = {
        "{temporary}": "" if in_metastore else "TEMPORARY",
        "{database}": f"`{_database(deployment)}`." if in_metastore else "",
    }
    known, statements = set(tables), []
    for definition in DEFINITIONS:
        if definition.reads not in known:
            continue
        text = (FOLDER / f"{definition.file}.sql").read_text(encoding="utf-8")
        for placeholder, value in placeholders.items():
            text = text.replace(placeholder, value)
        scenarios = deployment.scenario_names if definition.per_scenario else ("",)
        for scenario in scenarios:
            statements.append((definition.name.replace("<scenario>", scenario), text.replace("{scenario}", scenario)))
        known.add(definition.name)
    return statements


def _database(deployment: Deployment) -> str:
    return re.sub(r"\W", "_", deployment.name).lower()


def _create(spark: SparkSession, statements: list[Statement]) -> tuple[str, ...]:
    """Run the statements, `latest_embeddings` before the others, which read it; return the names created."""
    first = [pair for pair in statements if pair[0] == "latest_embeddings"]
    return (*_run(spark, first), *_run(spark, [pair for pair in statements if pair not in first]))


def _run(spark: SparkSession, statements: Iterable[Statement]) -> tuple[str, ...]:
    """Run statements in parallel, since each reads a Delta log; return the names of those that succeeded."""

    def run(pair: Statement) -> str | None:
        name, statement = pair
        try:
            spark.sql(statement)
        except PySparkException as error:
            logger.warning("%s cannot be named in SQL: %s", name, error_reason(error).splitlines()[0])
            return None
        return name

    with ThreadPoolExecutor(8) as pool:
        return tuple(name for name in pool.map(run, statements) if name)


def _update_metastore(spark: SparkSession, deployment: Deployment, paths: dict[str, str]) -> tuple[str, ...]:
    """Write the names into the deployment's database in the metastore, use the database, and return the names."""
    statements = _statements(deployment, tuple(paths))
    names = tuple(sorted([*paths, *(name for name, _ in statements)]))
    mark = sha256(repr((paths, statements)).encode()).hexdigest()
    database = _database(deployment)
    spark.sql(f"CREATE DATABASE IF NOT EXISTS `{database}`")
    spark.sql(f"USE `{database}`")
    described = {row[0]: row[1] for row in spark.sql(f"DESCRIBE DATABASE EXTENDED `{database}`").collect()}
    properties = described.get("Properties", "")
    present = {row.tableName for row in spark.sql(f"SHOW TABLES IN `{database}`").collect() if not row.isTemporary}
    if mark in properties and {*paths} <= present:
        return names
    recorded = re.search(rf"\({NAMES},([^)]*)\)", properties)
    _drop(spark, present, ({*recorded[1].split()} if recorded else {*catalog.TABLES}) - {*names})
    tables = [(name, _external_table(spark, database, name, path)) for name, path in paths.items()]
    created = _run(spark, [(name, statement) for name, statement in tables if statement])
    usable = tuple(name for name, statement in tables if statement is None or name in created)
    created = _create(spark, _statements(deployment, usable))
    complete = mark if {*names} == {*usable, *created} else ""
    written = " ".join(sorted({*usable, *created}))
    spark.sql(f"ALTER DATABASE `{database}` SET DBPROPERTIES ('instructue' = '{complete}', '{NAMES}' = '{written}')")
    return tuple(written.split())


def _drop(spark: SparkSession, present: set[str], names: set[str]) -> None:
    """Drop names that this project wrote for a former lake or scenario: they would give that lake's rows."""
    for name in sorted(names):
        kind = ("VIEW" if _is_view(spark, name) else "TABLE") if name in present else "FUNCTION"
        spark.sql(f"DROP {kind} IF EXISTS `{name}`")  # the tables are external: their files stay where they are


def _is_view(spark: SparkSession, name: str) -> bool:
    return spark.catalog.getTable(name).tableType == "VIEW"


def _external_table(spark: SparkSession, database: str, name: str, path: str) -> str | None:
    """Return the statement that creates an external table in the metastore; None where the metastore has it."""
    location = path if scheme(path) else f"file:{path}"
    if spark.catalog.tableExists(f"{database}.{name}"):
        rows = spark.sql(f"DESCRIBE FORMATTED `{name}`").where("col_name = 'Location'").collect()
        if rows and rows[0]["data_type"].rstrip("/") == location.rstrip("/"):
            return None
        spark.sql(f"DROP TABLE `{name}`")  # external: its files stay where they are
    return "CREATE TABLE `{}` USING delta LOCATION '{}'".format(name, location.replace("'", r"\'"))
