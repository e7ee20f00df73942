"""Which locations are local, and where on the disk they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.config import location


@pytest.mark.parametrize(
    ("text", "scheme", "path"),
    [
        ("lake", "", "lake"),
        ("./lake", "", "lake"),
        ("../shared/lake", "", "../shared/lake"),
        ("/data/lake of ours", "", "/data/lake of ours"),
        ("/data/100%25", "", "/data/100%25"),
        ("file:/data/lake", "file", "/data/lake"),
        ("file:///data/lake", "file", "/data/lake"),
        ("FILE:///data/lake", "file", "/data/lake"),
        ("s3://bucket/lake", "s3", None),
        ("s3a://bucket/lake", "s3a", None),
        ("abfss://container@account.dfs.core.windows.net/lake", "abfss", None),
        ("hdfs://node:8020/lake", "hdfs", None),
        ("hdfs:/lake", "hdfs", None),
        ("dbfs:/mnt/lake", "dbfs", None),
    ],
)
def test_a_location_is_local_or_remote(text, scheme, path):
    assert location.scheme(text) == scheme
    assert location.is_remote(text) == (path is None)
    assert location.local_path(text) == (None if path is None else Path(path))


@pytest.mark.parametrize(
    ("name", "is_path"),
    [
        ("bills", False),
        ("bills.eu", False),
        ("raw/bills", True),
        ("./bills", True),
        ("../bills", True),
        ("/data/bills", True),
        ("s3a://bucket/bills", True),
        ("file:///data/bills", True),
    ],
)
def test_a_table_is_named_in_the_lake_or_by_its_path(name, is_path):
    assert location.is_path(name) == is_path


def test_what_does_not_parse_is_a_value_error():
    with pytest.raises(ValueError, match="IPv6"):
        location.scheme("s3://[bucket/lake")
