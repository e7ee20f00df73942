"""The company's tables that are not Delta tables at a path: files of Parquet and CSV, and names of Spark's catalogs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from urllib.parse import unquote, urlsplit

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from jobs.config.company_table import NO_ICEBERG, CompanyTable
from jobs.config.deployment import Deployment
from jobs.config.location import is_catalog_name, is_remote, name_parts
from jobs.lake.csv_rows import read_csv
from jobs.lake.error_text import error_reason
from jobs.lake.errors import TableError
from jobs.lake.repair import LOG
from jobs.lake.table_formats import Files, find_table

OWN_CATALOG = "spark_catalog"
STREAM_LOG = "_spark_metadata"
"""Folder in which a streaming job lists the files that it has committed; Spark then reads these alone."""
FIXES = {
    "PATH_NOT_FOUND": "create it or name another",
    "CANNOT_MERGE_SCHEMAS": "write all files with one type for each column",
    "COLUMN_ALREADY_EXISTS": "two columns differ in case alone; rename one",
    "PARQUET_TYPE_ILLEGAL": "write this column in a type that Spark reads, times in microseconds",
    "FAILED_READ_FILE": "remove this file, or put it back from a copy",
    "TABLE_OR_VIEW_NOT_FOUND": "create it, correct the name or spark.conf, or write ./ before the name of a file",
    "SCHEMA_NOT_FOUND": "correct the name or spark.conf, or write ./ before the name of a file",
}
"""What to do, by the condition of Spark's error."""


def is_files(table: CompanyTable | None) -> bool:
    """Return whether a table is files without a log of versions."""
    return table is not None and table.format != "delta"


def read_files(spark: SparkSession, path: str, table: CompanyTable) -> DataFrame:
    """Read the files of a declared format at a path or URI, all of them.

    Raises
    ------
    TableError
        There are none, they are those of another kind of table, or Spark cannot read some or would leave some out.
    """
    _require_plain_files(spark, path, table.format)
    with _translated(f"{path} cannot be read as {table.format}"):
        _require_all_files(spark, path)
        return READERS[table.format](spark, path, table)


def _read_parquet(spark: SparkSession, path: str, _: CompanyTable) -> DataFrame:
    # Without merging, the columns are those of one file, and the values of other files' columns are lost.
    return spark.read.format("parquet").options(mergeSchema=True, __globPaths__=False).load(path)


READERS: dict[str, Callable[[SparkSession, str, CompanyTable], DataFrame]] = {"parquet": _read_parquet, "csv": read_csv}
"""The reader of each format whose tables are files alone."""


def _require_plain_files(spark: SparkSession, path: str, declared: str) -> None:
    """Raise TableError for a folder of a table whose log says which files count, or for a folder inside it."""
    if path_exists(spark, f"{path}/{LOG}"):
        raise TableError(f"{path} is a Delta table; remove `format: {declared}`")
    folder, *parents = _folders_to_root(spark, path)
    for parent in parents:
        if path_exists(spark, f"{parent}/{LOG}"):
            raise TableError(f"{path} is a folder of the Delta table {parent}; name that table, without `format`")
    files = Files(exists=partial(path_exists, spark), names=partial(_names, spark))
    if table := find_table(files, folder, parents):
        what, advice = table
        raise TableError(f"{path} is {what}; {advice}")


def _folders_to_root(spark: SparkSession, path: str) -> Iterator[str]:
    """Yield a path and every folder above it, without a slash at the end; of a remote path, itself alone."""
    folder = _hadoop_path(spark, path)
    while folder is not None:
        yield folder.toString().rstrip("/")
        # A reader of a remote store often has no right to see the folders above its own.
        folder = None if is_remote(path) else folder.getParent()


def _require_all_files(spark: SparkSession, path: str) -> None:
    """Raise TableError where Spark would leave files out: some are in folders of partitions, and others are not."""
    if path_exists(spark, f"{path}/{STREAM_LOG}"):
        return
    options = {"recursiveFileLookup": True, "__globPaths__": False}
    files = sorted(spark.read.format("binaryFile").options(**options).load(path).inputFiles())
    if not files:
        raise TableError(f"{path} has no data files; write some or name another folder")
    root = _hadoop_path(spark, path).toUri().getPath()
    levels = {file: _partition_columns(file, root) for file in files}
    expected = next((columns for columns in levels.values() if columns), ())
    if left_out := [file for file, columns in levels.items() if columns is None or columns != expected]:
        raise TableError(
            f"{path} mixes files and folders, and Spark would leave out {len(left_out)} of {len(files)} files, such as "
            f"{left_out[0]}; write all as <column>=<value>/<file> with the same columns, or all directly in the folder"
        )


def _partition_columns(file: str, root: str) -> tuple[str, ...] | None:
    """Return the columns in the names of the folders between a table and its file; None where one has no column."""
    folders = unquote(urlsplit(file).path).removeprefix(root).strip("/").split("/")[:-1]
    if any("=" not in folder for folder in folders):
        return None
    return tuple(folder.partition("=")[0].casefold() for folder in folders)


def _hadoop_path(spark: SparkSession, path: str) -> Any:
    jvm: Any = spark._jvm
    return jvm.org.apache.hadoop.fs.Path(path)


def path_exists(spark: SparkSession, path: str) -> bool:
    """Return whether there is a file or folder at a path or URI."""
    file = _hadoop_path(spark, path)
    return bool(_file_system(spark, file).exists(file))


def _names(spark: SparkSession, path: str) -> list[str]:
    """Return the names in a folder; none where there is no such folder."""
    folder = _hadoop_path(spark, path)
    return (
        [file.getPath().getName() for file in _file_system(spark, folder).listStatus(folder)]
        if path_exists(spark, path)
        else []
    )


def _file_system(spark: SparkSession, file: Any) -> Any:
    return file.getFileSystem(spark._jsparkSession.sessionState().newHadoopConf())


def read_catalog_table(spark: SparkSession, name: str, at: int | None = None) -> DataFrame:
    """Read a table or view by its quoted name in Spark's catalogs, at a version if `at` names one.

    Raises
    ------
    TableError
        No catalog has it, it is an Iceberg table, or Spark cannot read it.
    """
    with _translated(f"{name} cannot be read from Spark's catalogs"):
        if _is_iceberg(_description(spark, name)):
            raise TableError(f"{name} is an Iceberg table. {NO_ICEBERG}")
        return spark.sql(f"SELECT * FROM {name}" + ("" if at is None else f" VERSION AS OF {at}"))


def catalog_version(spark: SparkSession, name: str) -> int | None:
    """Return the newest version of a Delta table of Spark's catalogs; None for a view or a table of another format."""
    with _translated(f"{name} cannot be read from Spark's catalogs"):
        if _description(spark, name).get("Provider", "").lower() != "delta":
            return None
        return int(spark.sql(f"DESCRIBE HISTORY {name} LIMIT 1").first()["version"])  # type: ignore[index]


def _description(spark: SparkSession, name: str) -> dict[str, str]:
    """Return what a catalog says of a table: Provider, Type, Table Properties and more."""
    catalog, *rest = name_parts(name)
    # Without the setting, Spark takes the name for one of its own catalog, with too many parts.
    if len(rest) > 1 and catalog != OWN_CATALOG and not spark.conf.get(f"spark.sql.catalog.{catalog}", None):
        raise TableError(
            f"{name} is in the catalog {catalog}, and there is no setting spark.sql.catalog.{catalog}; add it with the "
            "class of the catalog to spark.conf, or correct the name"
        )
    rows = spark.sql(f"DESCRIBE TABLE EXTENDED {name}").collect()
    return {row["col_name"]: row["data_type"] or "" for row in rows}


def _is_iceberg(description: dict[str, str]) -> bool:
    properties = description.get("Table Properties", "").lower()
    return description.get("Provider", "").lower() == "iceberg" or "table_type=iceberg" in properties


def without_versions(spark: SparkSession, deployment: Deployment, table: str) -> str | None:
    """Return why a table has no versions that a run could read again; None where it has them."""
    company = deployment.company_table(table)
    if company is not None and is_files(company):
        return f"files of format {company.format} have none"
    if is_catalog_name(table) and catalog_version(spark, deployment.table(table)) is None:
        return "a view, or a catalog's table that is not Delta, has none"
    return None


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """Raise an error of Spark as TableError with its reason and what to do."""
    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        reason = " ".join(error_reason(error).split())
        fix = next((fix for condition, fix in FIXES.items() if f"[{condition}" in reason), "correct it or name another")
        raise TableError(f"{what}: {reason}; {fix}") from error
