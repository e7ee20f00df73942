"""`spark.conf`: a setting that changes the rows of a table is refused when the file is read, with the reason."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.config.deployment import DeploymentError
from jobs.config.spark_settings import FIXED_SETTINGS
from tests.support.error_page import case, refused
from tests.support.spark_settings import other_value

DELTA = "spark.databricks.delta"


@pytest.mark.parametrize(
    ("wrong", "conf"),
    [
        case("a setting of Spark that changes types", {"spark.sql.timestampType": "TIMESTAMP_NTZ"}),
        case("a time zone of the session", {"spark.sql.session.timeZone": "Asia/Shanghai"}),
        case("a setting of an earlier Spark", {"spark.sql.legacy.timeParserPolicy": "LEGACY"}),
        case("column mapping for new tables", {f"{DELTA}.properties.defaults.columnMapping.mode": "name"}),
        case(
            "writes that Delta takes for repeats",
            {f"{DELTA}.write.txnAppId": "jobs"},
            said="spark.databricks.delta.write.txnAppId: jobs: the jobs do without this setting, because Delta would "
            "take a second write for a repeat and drop it; remove it",
        ),
        case(
            "lost files that Spark passes over",
            {"spark.sql.files.ignoreMissingFiles": "true"},
            said="the jobs set this to false, because rows of a broken or lost file would be left out without an error",
        ),
    ],
)
def test_a_setting_that_changes_rows_is_refused(wrong: str, conf: dict[str, str], deployment: Any) -> None:
    with refused(wrong):
        deployment(spark={"conf": conf})


@pytest.mark.parametrize("key", FIXED_SETTINGS)
def test_the_own_value_of_a_fixed_setting_is_accepted_and_no_other(key: str, deployment: Any) -> None:
    value = FIXED_SETTINGS[key].value
    assert deployment(spark={"conf": {key: value.upper()}}).spark.conf == {key: value.upper()}
    with pytest.raises(DeploymentError, match=f"{key}: {other_value(key)}: the jobs set this to {value}, because"):
        deployment(spark={"conf": {key: other_value(key)}})


def test_a_setting_of_speed_alone_is_accepted(deployment: Any) -> None:
    conf = {
        "spark.sql.shuffle.partitions": "7",
        "spark.sql.adaptive.enabled": "false",
        f"{DELTA}.snapshotPartitions": "2",
    }
    assert deployment(spark={"conf": conf}).spark.conf == conf
