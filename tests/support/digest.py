"""A digest of everything that a small deployment wrote: tables, losses, vectors and accounts.

Two versions of the code that compute the same give the same digest. Texts, hashes and counts are compared exactly.
Losses and vectors are floats of one machine's kernels, so they are kept as numbers and compared with a tolerance.
"""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import deltalake
import numpy as np
import pyarrow as pa

FIRST_USERS, FIRST_VALUES = 4, 8
"""How many users and how many values of each vector a digest keeps."""
EXACT = ("user_profiles", "training_profiles", "userqa")
NEW_COLUMNS = {"is_none"}
"""Columns that the tables got after the digest was written."""
RUN = ("job", "day", "status", "rows_in", "rows_out", "left_out")


def digest(lake: Path, checkpoint: Path) -> dict[str, Any]:
    """Return the digest of a lake and of the checkpoint that was trained from it, as JSON values."""
    return {
        **{name: _hash(_rows(lake, name)) for name in EXACT},
        "job_runs": [
            {name: sorted(map(list, row[name])) if name == "left_out" else _text(row[name]) for name in RUN}
            for row in sorted(_rows(lake, "job_runs"), key=lambda row: (row["day"], row["job"]))
        ],
        "losses": _losses(checkpoint),
        "vectors": _vectors(lake),
    }


def _rows(lake: Path, name: str) -> list[dict[str, Any]]:
    table: pa.Table = deltalake.DeltaTable(str(lake / name)).to_pyarrow_table()
    return table.to_pylist()


def _hash(rows: list[dict[str, Any]]) -> str:
    """SHA-256 of the rows in the order of their texts, since files have no order."""
    rows = [{name: value for name, value in row.items() if name not in NEW_COLUMNS} for row in rows]
    lines = sorted(json.dumps(row, sort_keys=True, default=str, ensure_ascii=False) for row in rows)
    return sha256("\n".join(lines).encode()).hexdigest()


def _losses(checkpoint: Path) -> list[dict[str, float]]:
    """Each line of metrics.jsonl without its timings."""
    lines = (checkpoint / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [
        {name: value for name, value in json.loads(line).items() if "second" not in name and isinstance(value, float)}
        for line in lines
    ]


def _vectors(lake: Path) -> dict[str, list[float]]:
    """The first values of the vectors of the first users, by user, scenario and day."""
    rows = _rows(lake, "user_embeddings")
    users = sorted({row["user_id"] for row in rows})[:FIRST_USERS]
    return {
        f"{row['user_id']} {row['scenario']} {row['day']}": np.round(row["embedding"][:FIRST_VALUES], 5).tolist()
        for row in sorted(rows, key=lambda row: (row["user_id"], row["scenario"], row["day"]))
        if row["user_id"] in users
    }


def _text(value: Any) -> Any:
    return value if isinstance(value, int | str | None) else str(value)
