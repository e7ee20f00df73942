"""Files of the company beside the lake: Parquet written with pyarrow, CSV as text, and deployments that read them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.config.deployment import Deployment
from tests.support.deployment import DEPLOYMENT, deploy

BILL: dict[str, Any] = {**DEPLOYMENT["sources"][0], "id": None}


def write_parquet(path: Path, **columns: Any) -> None:
    """Write one Parquet file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def write_text(path: Path, text: str | bytes) -> None:
    """Write a file, and the folders above it; a text becomes UTF-8."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


def bills(folder: Path, **keys: Any) -> Deployment:
    """Return a deployment with one source, whose block has these keys changed."""
    source = {key: value for key, value in {**BILL, **keys}.items() if value is not None}
    return deploy(folder, sources=[source])


Bills = Callable[..., Deployment]
