"""SQL over a lake: its tables by name, and the views and functions of `sql/`.

Without a metastore they are temporary and live as long as the session. With one (`spark.metastore`) they are
kept in a database named after the deployment, where any session of that metastore finds them.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from weakref import WeakKeyDictionary

import pyarrow as pa
from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException, ParseException, PySparkException
from pyspark.logger import PySparkLogger
from pyspark.sql import DataFrame, SparkSession

from jobs.config.deployment import Deployment
from jobs.lake.errors import as_user_error, error_reason
from model.errors import InstructUEError

logger = logging.getLogger(__name__)

FOLDER = Path(__file__).parent
TABLES = (
    "user_profiles",
    "training_profiles",
    "userqa",
    "labels",
    "user_embeddings",
    "user_vectors",
    "rejected_rows",
    "job_runs",
    "online_users",
)
"""The tables of every lake; the deployment's own sources are added."""
NEEDS = {
    "latest_embeddings": "user_embeddings",
    "embeddings_scenario": "latest_embeddings",
    "embeddings_at": "user_embeddings",
    "similarity": "latest_embeddings",
    "most_similar": "latest_embeddings",
    "left_out": "job_runs",
}
"""The files of `sql/`, and the table or view that each one reads."""

# PySpark prints the JVM's whole stack as JSON beside the exception that it raises; the exception says enough.
for name in ("SQLQueryContextLogger", "DataFrameQueryContextLogger"):
    PySparkLogger.getLogger(name).setLevel(logging.CRITICAL)

FIXES = {
    "UNSUPPORTED_DATA_TYPE_FOR_ARROW_CONVERSION": "ask for such a column as CAST(... AS STRING)",
    "DUPLICATED_FIELD_NAME_IN_ARROW_STRUCT": "give the fields of the struct names of their own",
    "CAST_INVALID_INPUT": "correct the value, or write try_cast, which gives NULL for it",
}
"""What to write instead, where Spark's own message names no way out."""

_named: WeakKeyDictionary[SparkSession, set[str]] = WeakKeyDictionary()
"""What `views` has named in each session."""


class SqlError(InstructUEError):
    """A query that Spark cannot run; says what is wrong with it and what can be named in one."""


def register_views(spark: SparkSession, deployment: Deployment) -> tuple[str, ...]:
    """Make the lake's tables and everything in `sql/` known by name; what needs a missing table waits for it.

    Every session does so when it starts, and `sql` again at each query, for tables may have appeared since.

    A table that cannot be read is warned of and left out: the job that starts may be the one to mend it.

    Returns
    -------
    tuple of str
        The tables, views and functions that can be named.
    """
    paths = _tables(spark, deployment)
    if deployment.spark.metastore:
        return _keep(spark, deployment, paths)
    tables = _together(
        spark,
        [
            (name, f"CREATE OR REPLACE TEMPORARY VIEW `{name}` AS SELECT * FROM delta.`{path}`")
            for name, path in paths.items()
        ],
    )
    names = (*tables, *_create(spark, _statements(deployment, tables)))
    # What this session named for another lake, and this one does not have, must not answer for it.
    for name in _named.get(spark, set()) - {*names}:
        spark.catalog.dropTempView(name)
        spark.sql(f"DROP TEMPORARY FUNCTION IF EXISTS `{name}`")
    _named[spark] = {*names}
    return tuple(sorted(names))


def run_sql(spark: SparkSession, deployment: Deployment, query: str) -> DataFrame:
    """The result of one SQL statement over the deployment's tables, views and functions.

    Raises
    ------
    SqlError
        The statement does not parse, names what is not there, or cannot be run.
    """
    names = register_views(spark, deployment)
    try:
        return spark.sql(query)
    except ParseException as error:
        raise SqlError(f"the query does not parse: {error_reason(error)}") from None
    except AnalysisException as error:
        raise SqlError(f"{error_reason(error)}\nTables, views and functions here: {', '.join(names)}") from None
    except (PySparkException, Py4JJavaError) as error:
        raise _failed(error) from None


def fetch_arrow(answer: DataFrame) -> pa.Table:
    """The rows of a query's result; its timestamps are UTC wherever this machine is, and two columns may share a name.

    Raises
    ------
    SqlError
        Spark failed on the way: a value that divides by zero or cannot be cast, a file that is gone.
    """
    try:
        return answer.toArrow()
    except (PySparkException, Py4JJavaError) as error:
        raise _failed(error) from None


def iterate_rows(table: pa.Table) -> Iterator[tuple[Any, ...]]:
    """Python's values of each row, maps as dictionaries.

    Raises
    ------
    SqlError
        A value that Python has none for: a year after 9999, bytes in a string that are no UTF-8.
    """
    for batch in table.to_batches():
        columns = []
        for name, column in zip(table.column_names, batch.columns, strict=True):
            try:
                columns.append(column.to_pylist(maps_as_pydicts="strict"))
            except (ValueError, OverflowError) as error:
                raise SqlError(
                    f"column {name!r} of the answer: {error}; ask for it as CAST({name} AS STRING), or as "
                    f"hex({name}) where it holds bytes"
                ) from None
        yield from zip(*columns, strict=True)


def iterate_objects(answer: DataFrame) -> Iterator[dict[str, Any]]:
    """The rows of a query's result, each by its columns' names.

    Raises
    ------
    SqlError
        Two columns share a name, and an object has room for one; or as `fetch` and `rows` do.
    """
    repeated = [name for name, count in Counter(answer.columns).items() if count > 1]
    if repeated:
        raise SqlError(
            f"two columns of the answer are named {repeated[0]!r}, and a JSON object has room for one: give "
            f"it an alias, as in `b.{repeated[0]} AS other_{repeated[0]}`"
        )
    table = fetch_arrow(answer)
    return (dict(zip(table.column_names, row, strict=True)) for row in iterate_rows(table))


def _failed(error: PySparkException | Py4JJavaError) -> InstructUEError:
    """What stopped a query that had begun, and what to write instead where Spark's message does not say it."""
    ours = as_user_error(error)
    if ours is not None:
        return ours
    condition = error.getCondition() if isinstance(error, PySparkException) else None
    fix = FIXES.get(condition or "")
    return SqlError(f"the query fails: {error_reason(error)}{f'; {fix}' if fix else ''}")


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
    placeholders = {
        "{temporary}": "" if kept else "TEMPORARY",
        "{database}": f"`{_database(deployment)}`." if kept else "",
    }
    known, statements = set(tables), []
    for file, needed in NEEDS.items():
        if needed not in known:
            continue
        text = (FOLDER / f"{file}.sql").read_text(encoding="utf-8")
        for placeholder, value in placeholders.items():
            text = text.replace(placeholder, value)
        if "{scenario}" in text:
            statements += [
                (f"embeddings_{name}", text.replace("{scenario}", name)) for name in deployment.scenario_names
            ]
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
            logger.warning("%s cannot be named in SQL: %s", name, error_reason(error).splitlines()[0])
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
