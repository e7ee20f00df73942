"""SQL over a lake: its tables by name, and the views and functions of `sql/`.

Without a metastore they are temporary and live as long as the session. With one (`spark.metastore`) they are
kept in a database named after the deployment, where any session of that metastore finds them.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlparse
from weakref import WeakKeyDictionary

from pyspark.errors import AnalysisException, ParseException, PySparkException
from pyspark.logger import PySparkLogger
from pyspark.sql import DataFrame, SparkSession

from jobs.deployment import Deployment
from model.errors import InstructUEError

FOLDER = Path(__file__).parents[1] / "sql"
TABLES = ("user_profiles", "training_profiles", "userqa", "labels", "user_embeddings", "user_vectors",
          "rejected_rows", "job_runs", "online_users")
"""The tables of every lake; the deployment's own sources are added."""
NEEDS = {"latest_embeddings": "user_embeddings", "embeddings_scenario": "latest_embeddings",
         "embeddings_at": "user_embeddings", "similarity": "latest_embeddings", "most_similar": "latest_embeddings",
         "left_out": "job_runs"}
"""The files of `sql/`, and the table or view that each one reads."""

# PySpark prints the JVM's whole stack as JSON beside the exception that it raises; the exception says enough.
for name in ("SQLQueryContextLogger", "DataFrameQueryContextLogger"):
    PySparkLogger.getLogger(name).setLevel(logging.CRITICAL)

_named: WeakKeyDictionary[SparkSession, set[str]] = WeakKeyDictionary()
"""What `views` has named in each session."""


class SqlError(InstructUEError):
    """A query that Spark cannot run; says what is wrong with it and what can be named in one."""


def register(spark: SparkSession, deployment: Deployment) -> None:
    """What every session does when it starts: see to it that the metastore, if there is one, is up to date.

    Without a metastore this does nothing, so that no job pays for names that it does not use; `sql` and `views`
    make them when they are asked for.
    """
    if deployment.spark.metastore:
        views(spark, deployment)


def views(spark: SparkSession, deployment: Deployment) -> tuple[str, ...]:
    """Make the lake's tables and everything in `sql/` known by name; what needs a missing table waits for it.

    A table that cannot be read is warned of and left out: the job that starts may be the one to mend it.

    Returns
    -------
    tuple of str
        The tables, views and functions that can be named.
    """
    paths = _tables(spark, deployment)
    if deployment.spark.metastore:
        return _keep(spark, deployment, paths)
    tables = _together(spark, [(name, f"CREATE OR REPLACE TEMPORARY VIEW `{name}` AS SELECT * FROM delta.`{path}`")
                               for name, path in paths.items()])
    names = (*tables, *_create(spark, _statements(deployment, tables)))
    # What this session named for another lake, and this one does not have, must not answer for it.
    for name in _named.get(spark, set()) - {*names}:
        spark.catalog.dropTempView(name)
        spark.sql(f"DROP TEMPORARY FUNCTION IF EXISTS `{name}`")
    _named[spark] = {*names}
    return tuple(sorted(names))


def sql(spark: SparkSession, deployment: Deployment, query: str) -> DataFrame:
    """The result of one SQL statement over the deployment's tables, views and functions.

    Raises
    ------
    SqlError
        The statement does not parse, or names what is not there.
    """
    names = views(spark, deployment)
    try:
        return spark.sql(query)
    except ParseException as error:
        raise SqlError(f"the query does not parse: {_first_lines(error)}") from None
    except AnalysisException as error:
        raise SqlError(f"{_first_lines(error)}\nTables, views and functions here: {', '.join(names)}") from None


def _tables(spark: SparkSession, deployment: Deployment) -> dict[str, str]:
    """Name to path of the Delta tables that exist; a source outside of the lake goes by its source's name."""
    named = {name: name for name in TABLES}
    named |= {source.name if _is_path(source.table) else source.table: source.table for source in deployment.sources}
    if deployment.attributes:
        table = deployment.attributes.table
        named["attributes" if _is_path(table) else table] = table
    paths = {name: deployment.table(table) for name, table in named.items()}
    with ThreadPoolExecutor(8) as pool:
        there = list(pool.map(lambda path: _exists(spark, path), paths.values()))
    return {name: path for (name, path), exists in zip(paths.items(), there, strict=True) if exists}


def _is_path(table: str) -> bool:
    return bool(urlparse(table).scheme) or table.startswith(("/", "./", "../"))


def _exists(spark: SparkSession, path: str) -> bool:
    if not urlparse(path).scheme:
        return Path(path, "_delta_log").is_dir()
    jvm, hadoop = spark._jvm, spark._jsparkSession.sessionState().newHadoopConf()
    log = jvm.org.apache.hadoop.fs.Path(f"{path}/_delta_log")  # type: ignore[union-attr]
    return bool(log.getFileSystem(hadoop).exists(log))


def _statements(deployment: Deployment, tables: tuple[str, ...]) -> list[tuple[str, str]]:
    """(name, statement) of each view and function whose table is there, in the order of need."""
    kept = deployment.spark.metastore is not None
    # A function that is kept looks names up in the database of whoever calls it, so its own are qualified.
    placeholders = {"{temporary}": "" if kept else "TEMPORARY",
                    "{database}": f"`{_database(deployment)}`." if kept else ""}
    known, statements = set(tables), []
    for file, needed in NEEDS.items():
        if needed not in known:
            continue
        text = (FOLDER / f"{file}.sql").read_text(encoding="utf-8")
        for placeholder, value in placeholders.items():
            text = text.replace(placeholder, value)
        if "{scenario}" in text:
            statements += [(f"embeddings_{name}", text.replace("{scenario}", name))
                           for name in deployment.scenario_names]
        else:
            statements.append((file, text))
            known.add(file)
    return statements


def _database(deployment: Deployment) -> str:
    return re.sub(r"\W", "_", deployment.name).lower()


def _create(spark: SparkSession, statements: list[tuple[str, str]]) -> tuple[str, ...]:
    """Run (name, statement) pairs: `latest_embeddings` first, then side by side those that need it."""
    base = [pair for pair in statements if pair[0] == "latest_embeddings"]
    return (*_together(spark, base), *_together(spark, [pair for pair in statements if pair not in base]))


def _together(spark: SparkSession, statements: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Run (name, statement) pairs side by side, for each reads a log of Delta's; the names of those that ran."""
    def run(pair: tuple[str, str]) -> str | None:
        name, statement = pair
        try:
            spark.sql(statement)
        except PySparkException as error:
            warnings.warn(f"{name} cannot be named in SQL: {_first_lines(error).splitlines()[0]}", stacklevel=2)
            return None
        return name

    with ThreadPoolExecutor(8) as pool:
        return tuple(name for name in pool.map(run, statements) if name)


def _keep(spark: SparkSession, deployment: Deployment, paths: dict[str, str]) -> tuple[str, ...]:
    """Bring the deployment's database in the metastore up to date, and use it."""
    statements = _statements(deployment, tuple(paths))
    names = tuple(sorted([*paths, *(name for name, _ in statements)]))
    mark = sha256(repr((paths, statements)).encode()).hexdigest()
    database = _database(deployment)
    spark.sql(f"CREATE DATABASE IF NOT EXISTS `{database}`")
    spark.sql(f"USE `{database}`")
    described = {row[0]: row[1] for row in spark.sql(f"DESCRIBE DATABASE EXTENDED `{database}`").collect()}
    if mark in described.get("Properties", ""):
        return names
    tables = [(name, _table(spark, database, name, path)) for name, path in paths.items()]
    made = _together(spark, [(name, statement) for name, statement in tables if statement])
    kept = tuple(name for name, statement in tables if statement is None or name in made)
    made = _create(spark, _statements(deployment, kept))
    if {*names} == {*kept, *made}:
        spark.sql(f"ALTER DATABASE `{database}` SET DBPROPERTIES ('instructue' = '{mark}')")
    return tuple(sorted((*kept, *made)))


def _table(spark: SparkSession, database: str, name: str, path: str) -> str | None:
    """The statement that names an external table in the metastore; None where it is named already."""
    location = path if urlparse(path).scheme else f"file:{path}"
    if spark.catalog.tableExists(f"{database}.{name}"):
        rows = spark.sql(f"DESCRIBE FORMATTED `{name}`").where("col_name = 'Location'").collect()
        if rows and rows[0]["data_type"].rstrip("/") == location.rstrip("/"):
            return None
        spark.sql(f"DROP TABLE `{name}`")  # external: its files stay where they are
    return f"CREATE TABLE `{name}` USING delta LOCATION '{location}'"


def _first_lines(error: PySparkException) -> str:
    """Spark's message without the plan that follows it."""
    text = str(error).split("\n\nJVM stacktrace")[0]
    return text.split(";\n'")[0].split(";\n+-")[0].strip()
