"""A small deployment, written to a folder of a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from jobs.config.deployment import Deployment

DEPLOYMENT: dict[str, Any] = {
    "name": "shop",
    "lake": "lake",
    "releases": "releases",
    "sources": [
        {
            "name": "bill",
            "table": "bills",
            "time": "paid_at",
            "id": "bill_id",
            "template": "{merchant} {amount:amount_band}",
            "max_events": 3,
            "window_days": 30,
        },
        {
            "name": "search",
            "table": "searches",
            "time": "searched_at",
            "template": "{query}",
            "max_events": 4,
            "window_days": 60,
        },
    ],
    "userqa": {"questions": "questions.yaml", "as_of": ["2025-01-01"]},
    "spark": {
        "master": "local[2]",
        "conf": {
            "spark.driver.memory": "1g",
            "spark.sql.shuffle.partitions": "2",
            "spark.default.parallelism": "2",
            "spark.databricks.delta.snapshotPartitions": "1",
            "spark.sql.adaptive.enabled": "false",
            # Many small queries, none hot: compiling them, by Spark or by Java, would cost more than it gives.
            "spark.sql.codegen.wholeStage": "false",
            "spark.sql.codegen.factoryMode": "NO_CODEGEN",
            "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m",
        },
    },
    "store": {"folder": "store"},
}
"""Two small event sources; a test changes the keys that it tests."""


ODD_NAME = " a b'c\"d{e}*#+&;=:é日本😀e\u0301,%@!(~)<>` "
"""A folder's name with every kind of character that a path may have."""


def deploy(folder: Path, **changes: Any) -> Deployment:
    """Write DEPLOYMENT with these keys changed into a folder, and read the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "deployment.yaml"
    path.write_text(yaml.safe_dump({**DEPLOYMENT, **changes}, sort_keys=False), encoding="utf-8")
    return Deployment.read(path)
