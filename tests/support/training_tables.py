"""Tables and settings that training and evaluation read, written without Spark."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import deltalake
import pyarrow as pa

from jobs.config.deployment import Deployment
from jobs.lake.delta import midnight

CUT_OFF = date(2025, 1, 1)
LABELS_AS_OF = datetime(2025, 3, 3, tzinfo=UTC)
LABELS_SCHEMA = pa.schema(
    {"user_id": pa.string(), "as_of": pa.timestamp("us", "UTC"), "scenario": pa.string(), "label": pa.int32()}
)
SMALL_MODEL: dict[str, Any] = {
    "preset": "tiny",
    "training": {"steps": 2, "profiles_per_step": 8},
    "network": {
        "shared_encoder": True,
        "encoder": {"layers": 1, "width": 32, "heads": 2, "feedforward": 32},
        "backbone": {"layers": 1},
        "head": 24,
    },
}
"""The `model` section of a deployment whose training takes a second."""


def write_day(deployment: Deployment, table: str, rows: pa.Table, day: date) -> None:
    """Append a day of a table, in the form in which the Spark jobs write it."""
    rows = rows.drop_columns([name for name in ("as_of", "interest") if name in rows.column_names])
    rows = rows.append_column("as_of", pa.array([midnight(day)] * len(rows), pa.timestamp("us", "UTC")))
    deltalake.write_deltalake(
        deployment.table(table),
        rows.append_column("day", pa.array([day] * len(rows))),
        mode="append",
        partition_by=["day"],
    )


def label_row(user: str, value: int = 1, scenario: str = "food") -> dict[str, Any]:
    """Return a row of `labels` as of LABELS_AS_OF."""
    return {"user_id": user, "as_of": LABELS_AS_OF, "scenario": scenario, "label": value}


def write_labels(deployment: Deployment, table: str, rows: list[dict[str, Any]]) -> None:
    """Append these rows to a table of labels."""
    deltalake.write_deltalake(deployment.table(table), pa.Table.from_pylist(rows, LABELS_SCHEMA))
