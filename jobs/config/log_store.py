"""The LogStore of a lake, which makes Delta's commits to a store safe while several jobs write to it.

A commit is safe where only one of two writers can create the same file of a table's log. Delta 4 selects a LogStore by
the scheme of a path. The one for S3 is safe only among the writes of a single Spark driver, and here each job is a
driver of its own.
"""

from __future__ import annotations

from jobs.config import location
from jobs.config.deployment import Deployment
from jobs.console.text import list_errors
from model.errors import InstructUEError

SAFE = frozenset({"", "file", "hdfs", "abfs", "abfss", "adl", "wasb", "wasbs", "gs"})
"""Schemes for which Delta itself selects a safe LogStore. On a local disk the lock of each job keeps writers apart."""
S3 = "io.delta.storage.S3DynamoDBLogStore"
LOG_STORES = {
    "s3": S3,
    "s3a": S3,
    "s3n": S3,
    "oci": "io.delta.storage.OracleCloudLogStore",
    "cos": "io.delta.storage.IBMCOSLogStore",
}
"""Delta's LogStore for each scheme for which the file must name one."""
EVERY_SCHEME = "spark.delta.logStore.class"


class LogStoreError(InstructUEError):
    """A lake on a store where two jobs could commit the same version of a table."""


def log_store_errors(deployment: Deployment) -> list[str]:
    """Return why commits to the lake are not safe, with the key and value of `spark.conf` to write."""
    scheme, conf = location.scheme(deployment.lake), deployment.spark.conf
    key = f"spark.delta.logStore.{scheme}.impl"
    if scheme in SAFE or conf.get(key) or conf.get(EVERY_SCHEME):
        return []
    where = f"lake = {deployment.lake}: "
    if scheme not in LOG_STORES:
        return [
            f"{where}Delta knows no LogStore of {scheme}:// and would rename files as on HDFS, which loses commits "
            f"where the store does not refuse to rename over a file; write under spark.conf `{key}: <class>`, the "
            "class that the store's maker names (io.delta.storage.HDFSLogStore where such a rename is refused)"
        ]
    unsafe = (
        "of two jobs that commit at once, one would overwrite the other's rows"
        if LOG_STORES[scheme] == S3
        else f"Delta picks no LogStore of {scheme}:// by itself"
    )
    return [
        f"{where}{unsafe}; write under spark.conf `{key}: {LOG_STORES[scheme]}`, and put its jar on Spark's class path"
    ]


def require_safe_log_store(deployment: Deployment) -> None:
    """Raise LogStoreError for a lake whose store could lose a commit.

    Raises
    ------
    LogStoreError
        `spark.conf` names no LogStore for the lake's scheme, and Delta selects none that is safe.
    """
    errors = log_store_errors(deployment)
    if errors:
        lines = [f"  {line}" for line in errors]
        raise LogStoreError(
            f"{list_errors(deployment.path, lines)}\ndocs/deployment.md says more under `Object stores`"
        )
