"""Which lakes Delta commits to safely by itself, and what is asked of the others."""

from __future__ import annotations

import pytest

from jobs.config.log_store import LOG_STORES, SAFE, LogStoreError, log_store_errors, require_safe_log_store


@pytest.mark.parametrize(
    "lake",
    [
        "lake",
        "/data/lake",
        "file:///data/lake",
        "hdfs://name:8020/lake",
        "gs://b/lake",
        "abfss://c@a.dfs.core.windows.net/lake",
        "wasbs://c@a.blob.core.windows.net/lake",
    ],
)
def test_where_delta_picks_a_safe_logstore_nothing_is_asked(deployment, lake):
    assert log_store_errors(deployment(lake=lake)) == []


@pytest.mark.parametrize(
    ("lake", "key", "value"),
    [
        ("s3a://b/lake", "spark.delta.logStore.s3a.impl", "io.delta.storage.S3DynamoDBLogStore"),
        ("S3://b/lake", "spark.delta.logStore.s3.impl", "io.delta.storage.S3DynamoDBLogStore"),
        ("s3n://b/lake", "spark.delta.logStore.s3n.impl", "io.delta.storage.S3DynamoDBLogStore"),
        ("oci://b@n/lake", "spark.delta.logStore.oci.impl", "io.delta.storage.OracleCloudLogStore"),
        ("cos://b.s/lake", "spark.delta.logStore.cos.impl", "io.delta.storage.IBMCOSLogStore"),
        ("oss://b/lake", "spark.delta.logStore.oss.impl", "<class>"),
    ],
)
def test_elsewhere_the_key_and_its_value_are_named(deployment, lake, key, value):
    [error] = log_store_errors(deployment(lake=lake))
    assert error.startswith(f"lake = {lake}: ")
    assert f"write under spark.conf `{key}: {value}`" in error
    for conf in ({key: "some.LogStore"}, {"spark.delta.logStore.class": "some.LogStore"}):
        assert log_store_errors(deployment(lake=lake, spark={"conf": conf})) == []
    assert log_store_errors(deployment(lake=lake, spark={"conf": {key.replace("logStore", "logstore"): value}}))
    with pytest.raises(LogStoreError, match="1 error"):
        require_safe_log_store(deployment(lake=lake))


def test_delta_itself_says_which_logstore_it_picks(spark):
    picks = spark._jvm.org.apache.spark.sql.delta.storage.DelegatingLogStore.getDefaultLogStoreClassName
    picked = {scheme: picks(scheme).get() if picks(scheme).isDefined() else None for scheme in (*SAFE, *LOG_STORES)}
    # Without one it takes HDFS's, which renames.
    expected = dict.fromkeys(("", "file", "hdfs", "oci", "cos"))
    expected |= dict.fromkeys(("abfs", "abfss", "adl", "wasb", "wasbs"), "io.delta.storage.AzureLogStore")
    expected |= dict.fromkeys(("s3", "s3a", "s3n"), "io.delta.storage.S3SingleDriverLogStore")
    assert picked == expected | {"gs": "io.delta.storage.GCSLogStore"}
