"""One user in tables that write the id in different types, from the sources to the labels."""

from __future__ import annotations

from datetime import date

import deltalake

from jobs.lake import delta
from jobs.profiles.assemble import assemble
from jobs.training.labels import labelled_profiles, read_labels
from tests.support.deployment import DEPLOYMENT, deploy

DAY = date(2025, 3, 1)
LARGE = 2**53 + 1
BILLS = [("12", "Lu"), ("u1", "Ha"), ("12", "Moo"), (str(LARGE), "Big")]
SEARCHES = [(12, "tea"), (LARGE, "map"), (LARGE - 1, "tea")]
"""As doubles the last two would be one user."""


def test_one_user_in_columns_of_many_types(spark, tmp_path):
    attributes = {"table": "attributes", "static": True, "numbers": ["age"]}
    scenarios = [{"name": "food", "instruction": "Food?", "labels": "labels"}]
    sources = [DEPLOYMENT["sources"][0] | {"id": "bill_id"}, DEPLOYMENT["sources"][1]]
    deployment = deploy(tmp_path, sources=sources, attributes=attributes, scenarios=scenarios, max_reject_share=1)
    tables = {
        "bills": "user_id CHAR(20), paid_at TIMESTAMP, bill_id CHAR(4), merchant STRING, amount DOUBLE",
        "searches": "user_id DECIMAL(38, 2), searched_at TIMESTAMP, query STRING",
        "attributes": "user_id DOUBLE, age INT",
        "labels": "user_id VARCHAR(20), as_of DATE, scenario CHAR(6), label BOOLEAN",
    }
    rows = {
        "bills": [f"('{user}', '2025-02-2{n}', 'b{n}', '{shop}', 5)" for n, (user, shop) in enumerate(BILLS)],
        "searches": [f"({user}, '2025-02-20', '{query}')" for user, query in SEARCHES],
        "attributes": ["(12.0, 30)", "(12.5, 99)"],
        "labels": ["('12', '2025-03-01', 'food', true)", "('u1 ', '2025-03-01', 'food', false)"],
    }
    for name, columns in tables.items():
        spark.sql(f"CREATE TABLE delta.`{deployment.table(name)}` ({columns}) USING delta")
        spark.sql(f"INSERT INTO delta.`{deployment.table(name)}` VALUES {', '.join(rows[name])}")
    assemble(spark, deployment, DAY)
    profiles = {
        row["user_id"]: row
        for row in deltalake.DeltaTable(deployment.table("user_profiles")).to_pyarrow_table().to_pylist()
    }
    texts = {
        user: {source: {event["text"].split(" ")[0] for event in row[source]} for source in ("bill", "search")}
        for user, row in profiles.items()
    }
    assert texts == {
        "12": {"bill": {"Lu", "Moo"}, "search": {"tea"}},
        "u1": {"bill": {"Ha"}, "search": set()},
        str(LARGE): {"bill": {"Big"}, "search": {"map"}},
        str(LARGE - 1): {"bill": set(), "search": {"tea"}},
    }
    assert {user: row["tabular"]["age"] for user, row in profiles.items()} == {
        user: 30.0 if user == "12" else None for user in profiles
    }
    labels = read_labels(deployment, deployment.scenarios)
    _, [group], left_out = labelled_profiles(deployment, delta.open_table(deployment, "user_profiles"), labels)
    assert (group.user_ids, group.label_U.tolist(), left_out["food"].users) == (["12", "u1"], [1, 0], 0)
