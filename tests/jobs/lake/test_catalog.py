"""The catalog of tables, against the tables that jobs write."""

from __future__ import annotations

import pytest

from jobs.lake import catalog
from jobs.lake.table import Names
from tests.support.catalog import assert_columns


@pytest.mark.parametrize(
    ("job", "inputs"),
    [("assemble", set()), ("userqa", set()), ("embed", {"assemble"}), ("publish", {"embed", "assemble"})],
)
def test_the_rows_of_a_job_are_made_of_the_rows_of_these_jobs(job, inputs):
    assert set(catalog.input_jobs(job)) == inputs


@pytest.mark.parametrize("table", ["user_embeddings", "user_vectors", "job_runs", "online_users"])
def test_a_published_lake_has_the_columns_of_the_catalog(table, published, spark):
    assert_columns(spark, published, table)


def test_keys_and_identities_are_columns_of_their_table(deployment):
    names = Names.of(deployment())
    for table in (*catalog.TABLES.values(), catalog.ANSWERS):
        columns = [column.name for column in table.columns_with(names)]
        assert len(set(columns)) == len(columns)
        assert {*table.key, *table.same_by, *table.partition} <= {*columns}, table.name
