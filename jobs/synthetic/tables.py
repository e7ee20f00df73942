"""The source tables and labels of the made-up company: their schemas, and the rows of a chunk of users."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.lake.catalog import TABLES
from jobs.lake.delta import arrow_schema
from jobs.synthetic.attributes import ATTRIBUTES
from jobs.synthetic.company import DAY, LABELS, TIME, Chunk, Events, user_ids
from jobs.synthetic.event_texts import COLUMNS, texts

SCHEMAS = {
    "bills": pa.schema(
        [
            ("bill_id", pa.string()),
            ("user_id", pa.string()),
            ("paid_at", TIME),
            ("merchant", pa.string()),
            ("category", pa.string()),
            ("item", pa.string()),
            ("amount", pa.float64()),
            ("channel", pa.string()),
            ("arrived_at", TIME),
        ]
    ),
    "mini_program_logs": pa.schema(
        [
            ("log_id", pa.string()),
            ("user_id", pa.string()),
            ("opened_at", TIME),
            ("program", pa.string()),
            ("action", pa.string()),
            ("arrived_at", TIME),
        ]
    ),
    "page_paths": pa.schema(
        [("user_id", pa.string()), ("viewed_at", TIME), ("path", pa.string()), ("arrived_at", TIME)]
    ),
    "searches": pa.schema(
        [
            ("search_id", pa.string()),
            ("user_id", pa.string()),
            ("searched_at", pa.string()),
            ("query", pa.string()),
            ("arrived_at", TIME),
        ]
    ),
    "attributes": ATTRIBUTES,
    "labels": arrow_schema(TABLES["labels"]),
}
TIMES = {"bills": "paid_at", "mini_program_logs": "opened_at", "page_paths": "viewed_at", "searches": "searched_at"}
"""The time column of each source; searches have a string with various UTC offsets and unreadable values."""
IDS = {"bills": "bill_id", "mini_program_logs": "log_id", "searches": "search_id"}

OTHER_OFFSET = 0.1
"""Share of searches whose time is written with China's offset."""


def event_rows(source: str, chunk: Chunk, events: Events) -> pa.Table:
    """Return a chunk's unbroken rows of a source, one per event, in the table's schema."""
    catalogue = texts(source)
    columns: dict[str, pa.Array] = {
        "user_id": user_ids(events.user_E),
        "arrived_at": pa.array(events.arrived_E, TIME),
        TIMES[source]: _times(source, chunk, events.time_E),
    }
    if source in IDS:
        columns[IDS[source]] = event_ids(source, chunk, np.arange(len(events)))
    if source == "bills":
        columns["amount"] = pa.array(events.amount_E)
    for name in COLUMNS[source]:
        columns[name] = pa.array(catalogue.columns[name], pa.string()).take(pa.array(events.text_E))
    return pa.table({name: columns[name] for name in SCHEMAS[source].names}, schema=SCHEMAS[source])


def label_rows(chunk: Chunk) -> pa.Table:
    """Return a chunk's rows of `labels`: one per user and scenario, as of the first day."""
    labels = chunk.labels()
    users = user_ids(chunk.start + np.arange(chunk.users))
    return pa.concat_tables(
        pa.table(
            {
                "user_id": users,
                "as_of": pa.array(np.full(chunk.users, chunk.company.midnight), TIME),
                "scenario": pa.array([name] * chunk.users),
                "label": pa.array(labels[name].astype(np.int32)),
            },
            schema=SCHEMAS["labels"],
        )
        for name in LABELS
    )


def event_ids(source: str, chunk: Chunk, position_N: np.ndarray) -> pa.Array:
    """Return the ids of events by position in the chunk; unique where a user has on average under 10,000 events."""
    number = pa.array(chunk.start * 10_000 + position_N).cast(pa.string())
    return pc.binary_join_element_wise(source[0], pc.utf8_lpad(number, 11, "0"), "")


def _times(source: str, chunk: Chunk, time_E: np.ndarray) -> pa.Array:
    if source != "searches":
        return pa.array(time_E, TIME)
    other = chunk.random("offsets").random(len(time_E)) < OTHER_OFFSET
    written = np.datetime_as_string((time_E + other * (8 * DAY // 24)).astype("datetime64[us]"), unit="s")
    return pc.binary_join_element_wise(pa.array(written), pa.array(np.where(other, "+08:00", "Z")), "")
