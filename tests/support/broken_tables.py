"""A table of bills, and ways to break it: its files, its log and its checkpoint."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import deltalake
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.config.deployment import Deployment

TIME = pa.timestamp("us", "UTC")
Damage = Callable[[Deployment], object]


def bills(users: int = 3, **columns: Any) -> pa.Table:
    """A bill of each user, in one band of days on all days; `columns` take the place of some, None takes one away."""
    table = {
        "client": [f"u{n}" for n in range(users)],
        "bill_id": [f"b{n}" for n in range(users)],
        "paid_at": pa.array([datetime(2025, 2, 20, 9, n, tzinfo=UTC) for n in range(users)], TIME),
        "merchant": [f"Lu {n}" for n in range(users)],
        "amount": [5.0] * users,
    } | columns
    return pa.table({name: column for name, column in table.items() if column is not None})


def commit(deployment: Deployment, number: int = 1) -> Path:
    return Path(deployment.table("bills"), "_delta_log", f"{number:020}.json")


def parquet(deployment: Deployment) -> Path:
    """The one file of the newest version."""
    [file] = deltalake.DeltaTable(deployment.table("bills")).file_uris()
    return Path(deployment.table("bills"), Path(file).name)


def halved(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def checkpointed(deployment: Deployment) -> Path:
    """The checkpoint of the log, once the commits before it have been cleaned up."""
    deltalake.DeltaTable(deployment.table("bills")).create_checkpoint()
    for number in (0, 1):
        commit(deployment, number).unlink()
    [file] = commit(deployment).parent.glob("*.checkpoint.parquet")
    return file


def protocol(**needs: Any) -> Damage:
    return lambda deployment: commit(deployment, 2).write_text(json.dumps({"protocol": needs}) + "\n")


def log_lost(deployment: Deployment) -> None:
    shutil.rmtree(commit(deployment).parent)


def a_file(deployment: Deployment) -> None:
    shutil.rmtree(deployment.table("bills"))
    Path(deployment.table("bills")).write_text("bills,2025")


def of_other_types(deployment: Deployment) -> None:
    file = parquet(deployment)
    file.unlink()
    pq.write_table(bills(amount=["five"] * 3), file)
