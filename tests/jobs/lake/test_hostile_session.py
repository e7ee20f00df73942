"""Sessions and folders of a platform: settings and names that break a lake change nothing in it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from jobs.config.deployment import Deployment
from jobs.config.spark_settings import FIXED_SETTINGS
from jobs.lake import catalog
from jobs.lake.delta import read_rows, table_exists
from jobs.lake.protocol import open_supported
from jobs.lake.session import get_session
from jobs.lake.spark_tables import clear_day, read_table
from jobs.lake.sql.query import run_sql
from jobs.operations.maintain import maintain
from jobs.profiles.assemble import assemble
from jobs.serving.embed import embed
from jobs.serving.lookup import Lookup
from jobs.serving.publish import publish
from jobs.training.registry import scenario_instructions
from jobs.userqa.userqa import userqa
from tests.support import embedded, literal, literal_answers, messy, shop, userqa_lake
from tests.support.deployment import ODD_NAME, deploy
from tests.support.spark_settings import other_value

DEFAULTS = "spark.databricks.delta.properties.defaults."
HOSTILE = {
    **{f"{DEFAULTS}{key}": "true" for key in ("enableDeletionVectors", "enableTypeWidening", "appendOnly")},
    **{f"{DEFAULTS}{key}": "true" for key in ("enableRowTracking", "enableInCommitTimestamps", "enableChangeDataFeed")},
    f"{DEFAULTS}columnMapping.mode": "name",
    f"{DEFAULTS}checkpointPolicy": "v2",
    f"{DEFAULTS}checkpointInterval": "1",
    f"{DEFAULTS}minReaderVersion": "3",
    f"{DEFAULTS}minWriterVersion": "7",
    f"{DEFAULTS}feature.vacuumProtocolCheck": "supported",
    f"{DEFAULTS}dataSkippingNumIndexedCols": "0",
    f"{DEFAULTS}randomizeFilePrefixes": "true",
    "spark.databricks.delta.write.txnAppId": "jobs",
    "spark.databricks.delta.write.txnVersion": "1",
    "spark.databricks.delta.optimizeWrite.enabled": "true",
    "spark.databricks.delta.autoCompact.enabled": "true",
    "spark.databricks.delta.writeChecksum.enabled": "false",
    "spark.databricks.delta.schema.autoMerge.enabled": "true",
    "spark.sql.legacy.timeParserPolicy": "LEGACY",
    "spark.sql.legacy.sizeOfNull": "true",
    "spark.sql.legacy.statisticalAggregate": "true",
    "spark.sql.legacy.charVarcharAsString": "true",
    "spark.sql.execution.arrow.useLargeVarTypes": "true",
    "spark.sql.execution.arrow.maxRecordsPerBatch": "1",
    "spark.sql.jsonGenerator.ignoreNullFields": "false",
    "spark.sql.binaryOutputStyle": "HEX",
    "spark.sql.sources.default": "csv",
    "spark.sql.parquet.int96RebaseModeInRead": "LEGACY",
    "spark.sql.parquet.datetimeRebaseModeInRead": "LEGACY",
}
"""Settings that a platform may start a session with, beside other values of `FIXED_SETTINGS`."""


def hostile_settings() -> dict[str, str]:
    return HOSTILE | {key: other_value(key) for key in FIXED_SETTINGS}


@pytest.fixture
def hostile(spark: Any, deployment: Any) -> Iterator[Any]:
    """The session of the tests as a platform may set it, joined as a job joins it."""
    settings = hostile_settings()
    before = {key: spark.conf.get(key, None) for key in settings}
    for key, value in settings.items():
        spark.conf.set(key, value)
    yield get_session(deployment(), named=False)
    for key, value in before.items():
        spark.conf.unset(key)
        if value is not None:
            spark.conf.set(key, value)


def require_plain(deployment: Deployment) -> None:
    """Assert that both readers read the same rows of each table of the project, and without any feature."""
    for table in catalog.TABLES:
        path = deployment.table(table)
        if table_exists(path):
            opened = open_supported(path)
            protocol = opened.protocol()
            assert (protocol.min_reader_version, protocol.reader_features) == (1, None), table
            assert not {"appendOnly"} & {
                key for key, value in opened.metadata().configuration.items() if value == "true"
            }


def test_a_job_has_the_same_profiles_in_a_hostile_session(hostile: Any, tmp_path: Path) -> None:
    d = deploy(tmp_path / "shop", **messy.CHANGES)
    lake = messy.make_lake()
    messy.write(d, lake)
    assemble(hostile, d, messy.DAY1)
    require_plain(d)
    rows = messy.day_rows(d, "user_profiles", messy.DAY1)
    expected, _ = literal.profiles(d, lake, messy.DAY1)
    assert {user: messy.as_literal(row, d) for user, row in rows.items()} == expected
    assert read_table(hostile, d, "user_profiles").count() == len(expected)
    assert assemble(hostile, d, messy.DAY1).replaced is False
    clear_day(hostile, d.table("user_profiles"), messy.DAY1)
    assert read_rows(open_supported(d.table("user_profiles"))).num_rows == 0


def test_a_session_keeps_no_setting_that_changes_rows(hostile: Any) -> None:
    assert {key: hostile.conf.get(key) for key in FIXED_SETTINGS} == {
        key: setting.value for key, setting in FIXED_SETTINGS.items()
    }
    left = {key for key in hostile.conf.getAll if key in HOSTILE and key.startswith((DEFAULTS, "spark.sql.legacy."))}
    assert left == set()


def require_published_and_maintained(spark: Any, deployment: Deployment) -> None:
    """Publish a day of made-up vectors, look users up, ask in SQL, and maintain; assert that each result is right."""
    day, rows = next(iter(embedded.DAYS.items()))
    embedded.embed(spark, deployment, day, rows)
    publish(spark, deployment, day)
    users = ["u01", "u02"]
    for user, result in zip(users, Lookup(deployment, freeze=False)(users), strict=True):
        for scenario in embedded.SCENARIOS:
            assert np.allclose(result.vectors[scenario].vector, rows[user, scenario], atol=1e-3)
    query = "SELECT count(*), count(DISTINCT user_id) FROM user_embeddings"
    assert [tuple(row) for row in run_sql(spark, deployment, query).collect()] == [(3 * 38, 38)]
    maintain(lambda: nullcontext(spark), deployment, day + timedelta(days=40))
    require_plain(deployment)
    assert read_rows(open_supported(deployment.table("user_vectors"))).num_rows == 38


@pytest.mark.slow
def test_a_hostile_session_publishes_the_same_vectors(hostile: Any, tmp_path: Path) -> None:
    require_published_and_maintained(hostile, deploy(tmp_path, retention={"rows": 30}, **embedded.CHANGES))


@pytest.mark.slow
def test_a_hostile_session_asks_the_same_questions(hostile: Any, tmp_path: Path) -> None:
    d = deploy(tmp_path, **userqa_lake.CHANGES)
    lake = userqa_lake.make_lake()
    userqa_lake.write(d, lake)
    userqa_lake.write_labels(d)
    userqa_lake.write_questions(tmp_path)
    userqa(hostile, d)
    require_plain(d)
    pairs, profiles = (userqa_lake.table(d, name) for name in ("userqa", "training_profiles"))
    people = literal_answers.require_true(SimpleNamespace(lake=lake), pairs)
    assert people == {(row["user_id"], row["day"]) for row in profiles}
    assert len(profiles) == len(people) > 15
    assert userqa(hostile, d).replaced == 0


@pytest.mark.slow
def test_a_hostile_session_embeds_the_same_vectors(hostile: Any, shop_releases: Any, tmp_path: Path) -> None:
    from model.network.inference import embed as torch_embed
    from model.training.checkpoint import load_checkpoint

    d = shop.company(tmp_path)
    shop_releases.install(d)
    profiles = shop.profiles(30)
    shop.assembled(hostile, d, shop.DAY1, profiles)
    assert embed(hostile, d, shop.DAY1).embedded == 30
    require_plain(d)
    network, tokenizers, _ = load_checkpoint(shop_releases.checkpoint())
    expected = torch_embed(network, tokenizers, profiles, list(scenario_instructions(d).values()))
    columns = {name: column for column, name in enumerate(d.scenario_names)}
    users = {user: row for row, user in enumerate(profiles["user_id"].to_pylist())}
    rows = read_rows(open_supported(d.table("user_embeddings"))).to_pylist()
    assert {(row["user_id"], row["scenario"]) for row in rows} == {(user, name) for user in users for name in columns}
    assert len(rows) == len(users) * len(columns)
    for row in rows:
        assert np.dot(row["embedding"], expected[users[row["user_id"]], columns[row["scenario"]]]) > 0.9999
    assert embed(hostile, d, shop.DAY1).replaced is False


def test_jobs_work_in_a_folder_with_an_odd_name_behind_a_link(spark: Any, tmp_path: Path) -> None:
    target = tmp_path / f"{ODD_NAME} target"
    target.mkdir()
    (tmp_path / ODD_NAME).symlink_to(target)
    deployment = deploy(tmp_path / ODD_NAME, lake=f"../{ODD_NAME}/lake", **embedded.CHANGES)
    require_published_and_maintained(spark, deployment)
    assert (target / "lake" / "user_vectors" / "_delta_log").is_dir()


SUBMITTED = """
import sys
from jobs.config.deployment import Deployment
from jobs.lake.session import get_session
from jobs.profiles.assemble import assemble
from tests.support import messy
d = Deployment.read(sys.argv[1])
print(assemble(get_session(d), d, messy.DAY1).changed)
"""


@pytest.mark.slow
def test_a_session_of_spark_submit_with_hostile_defaults_has_the_same_profiles(tmp_path: Path) -> None:
    d = deploy(tmp_path / "shop", **messy.CHANGES)
    lake = messy.make_lake()
    messy.write(d, lake)
    given = " ".join(f"--conf {key}={value}" for key, value in hostile_settings().items())
    done = subprocess.run(
        [sys.executable, "-c", SUBMITTED, str(d.path)],
        env={**os.environ, "PYTHONPATH": os.getcwd(), "PYSPARK_SUBMIT_ARGS": f"{given} pyspark-shell"},
        text=True,
        capture_output=True,
        timeout=200,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    require_plain(d)
    expected, _ = literal.profiles(d, lake, messy.DAY1)
    rows = messy.day_rows(d, "user_profiles", messy.DAY1)
    assert {user: messy.as_literal(row, d) for user, row in rows.items()} == expected
