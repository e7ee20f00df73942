"""Columns that aggregates read have any name and any type, and change no event of the profile."""

from __future__ import annotations

from datetime import UTC, date, datetime
from functools import partial

import deltalake
import pyarrow as pa

from jobs.lake.spark_tables import read_table
from jobs.profiles.build import build_profiles
from jobs.profiles.source_tables import open_sources
from tests.support.deployment import deploy

AT = pa.array([datetime(2025, 2, 20, tzinfo=UTC)] * 2, pa.timestamp("us", "UTC"))
SOURCE = {"user": "user_id", "time": "at", "template": "{word}", "max_events": 5}


def distinct(column: str) -> dict[str, str]:
    return {"name": f"different_{column[0]}", "source": "bill", "function": "distinct", "column": column}


def test_counting_a_column_leaves_the_events_and_ids_of_all_sources_as_they_are(spark, tmp_path):
    d = deploy(
        tmp_path,
        sources=[
            {**SOURCE, "name": "bill", "table": "bills"},
            {**SOURCE, "name": "bill_x", "table": "visits", "id": "number"},
        ],
        # `x` beside the id of `bill_x`, which has another type, and a path whose parts have a dot between them.
        aggregates=[distinct("x"), distinct("place.`post code`")],
    )
    places = [{"post code": "89073"}, {"post code": "89073"}]
    # At one time, and the word decides: `x` has the other order.
    bills = {"user_id": ["u", "u"], "at": AT, "word": ["a", "b"], "place": places}
    bills["x"] = pa.array([datetime(2025, 1, day) for day in (2, 1)], pa.timestamp("us", "UTC"))
    deltalake.write_deltalake(d.table("bills"), pa.table(bills))
    visits = {"user_id": ["u", "u"], "at": AT, "word": ["c", "d"], "number": [2, 1]}
    deltalake.write_deltalake(d.table("visits"), pa.table(visits))
    profiles = build_profiles(d, open_sources(d, partial(read_table, spark, d)), [date(2025, 3, 1)])
    [row] = profiles.rows.collect()
    profiles.release()
    assert row.tabular.asDict() == {"different_x": 2, "different_p": 1}
    assert [event.text for event in row.bill] == ["a", "b"]
    assert [event.text for event in row.bill_x] == ["d", "c"]
