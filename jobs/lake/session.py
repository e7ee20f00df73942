"""The Spark session: local by default; on a cluster, spark-submit sets it up.

`get_session(deployment)` joins the session that is already active (spark-submit, a test, Airflow's embedded driver) or
starts one. The JVM's output goes to a log file, not to the terminal.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.config.location import local_path
from jobs.config.spark_settings import FIXED_SETTINGS, unset_reason
from jobs.console.log_files import new_log
from jobs.lake.sql.views import register_views
from model.errors import InstructUEError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.config.deployment import Deployment

DELTA_EXTENSION = "io.delta.sql.DeltaSparkSessionExtension"
DEFAULTS = {
    "spark.sql.extensions": DELTA_EXTENSION,
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    # Delta's own default, 50 tasks to read a log, suits no table of this project.
    "spark.databricks.delta.snapshotPartitions": "8",
}
"""What a session starts with, beside `FIXED_SETTINGS`."""


class SparkError(InstructUEError):
    """Spark cannot start: Java or Delta's jars are missing, or the JVM ended."""


def get_session(deployment: Deployment, *, named: bool = True) -> SparkSession:
    """Return the Spark session of a deployment, with Delta, and with the names of the lake's tables and of `sql/`.

    Naming 15 tables and 11 views and functions takes 1.0 to 1.4 s in a warm JVM. In a fresh one it takes 5 to 9 s, most
    of it to load classes that the job needs too: naming and publish took 2.5 s more processor time than publish alone.

    Parameters
    ----------
    named
        False: do not register the names, except in a metastore. For jobs without SQL, and before
        `jobs.lake.sql.query.run_sql`, which registers them itself.

    Raises
    ------
    SparkError
        No Java 17, Delta's jars are not on Spark's class path, or Java does not know a declared time zone.
    """
    from pyspark.sql import SparkSession

    spark = SparkSession.getActiveSession()
    if spark is None or spark._sc._jsc is None:
        spark = _start(deployment)
    _require_delta(spark)
    _fix_settings(spark)
    _require_zones(spark, deployment)
    if named or deployment.spark.metastore:
        register_views(spark, deployment)
    return spark


@contextmanager
def open_session(deployment: Deployment, start: AbstractContextManager[Any]) -> Iterator[SparkSession]:
    """Open a session without names for the block, and stop it afterwards; `jobs.lake.sql.query.run_sql` adds the names.

    The session starts within `start`, which shows the progress.
    """
    with start:
        spark = get_session(deployment, named=False)
    try:
        yield spark
    finally:
        spark.stop()


def _start(deployment: Deployment) -> SparkSession:
    from pyspark import SparkConf, SparkContext
    from pyspark.errors import PySparkRuntimeError
    from pyspark.java_gateway import launch_gateway
    from pyspark.sql import SparkSession

    settings = _settings(deployment)
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ
    if submitted:
        # spark-submit always sets a master.
        settings.pop("spark.master", None)
    else:
        # On a cluster the operator chooses the workers' interpreter; a local session uses this one.
        os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
        _require_java()
    # A JVM outlives a stopped session, and the next session starts in it.
    launching = SparkContext._gateway is None and not submitted
    log = new_log("spark") if launching else None
    try:
        if log is not None:
            conf = SparkConf(loadDefaults=False).setAll(list(settings.items()))
            with log.open("ab") as output:
                gateway: Any = launch_gateway(conf, popen_kwargs={"stdout": output, "stderr": output})
            SparkContext(conf=SparkConf(_jvm=gateway.jvm).setAll(list(settings.items())), gateway=gateway)
        builder = SparkSession.builder
        for key, value in settings.items():
            builder = builder.config(key, value)
        return builder.getOrCreate()
    except PySparkRuntimeError as error:
        raise SparkError(
            f"Spark did not start ({error.getCondition()}): Java 17 or later is needed, "
            f"see what `java -version` says and the end of {log}"
        ) from None


def _fix_settings(spark: SparkSession) -> None:
    """Give a session the settings with which every session gives the same rows."""
    for key, fixed in FIXED_SETTINGS.items():
        spark.conf.set(key, fixed.value)
    for key in spark.conf.getAll:
        if unset_reason(key):
            spark.conf.unset(key)


def _require_zones(spark: SparkSession, deployment: Deployment) -> None:
    """Raise SparkError where Java does not know a declared time zone, which Python knows."""
    jvm: Any = spark._jvm
    for key, table in deployment.company_tables:
        if table.timezone and not jvm.java.time.ZoneId.getAvailableZoneIds().contains(table.timezone):
            raise SparkError(
                f"{deployment.path}: {key}.timezone = {table.timezone!r}: the tz database of this Java does not have "
                "it; install a later Java, or name a region that has the same clocks"
            )


def _settings(deployment: Deployment) -> dict[str, str]:
    settings = {**DEFAULTS, "spark.app.name": f"instructue-{deployment.name}"}
    if deployment.spark.master:
        settings["spark.master"] = deployment.spark.master
    if deployment.spark.metastore:
        warehouse = deployment.resolve(deployment.spark.metastore)
        settings["spark.sql.warehouse.dir"] = warehouse
        if folder := local_path(warehouse):
            settings["spark.sql.catalogImplementation"] = "hive"
            settings["spark.hadoop.javax.jdo.option.ConnectionURL"] = (
                f"jdbc:derby:;databaseName={folder}/metastore_db;create=true"
            )
    return {**settings, **deployment.spark.conf}


def _require_java() -> None:
    home = os.environ.get("JAVA_HOME")
    if not ((home and Path(home, "bin", "java").exists()) or shutil.which("java")):
        raise SparkError(
            "Spark needs Java and none was found: install Java 17 (for example the Debian "
            "package openjdk-17-jre-headless), or point JAVA_HOME at it"
        )


def _require_delta(spark: SparkSession) -> None:
    from py4j.protocol import Py4JJavaError

    jvm: Any = spark._jvm
    try:
        jvm.org.apache.spark.util.Utils.classForName(DELTA_EXTENSION, False, False)
    except Py4JJavaError:
        raise SparkError(
            "Delta's jars are not on Spark's class path: run `python -m jobs.lake.delta_jars` "
            "(it puts them into pyspark's jars folder), or name them in spark-submit's --packages"
        ) from None
