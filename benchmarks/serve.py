"""Measure publish in vectors per second, and a lookup against a raw read of the same bytes in milliseconds.

Run `python -m benchmarks.serve --users 10000`. The online store is SQLite; `--redis HOST:PORT` adds an empty Redis.
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from benchmarks import company
from benchmarks.report import Row, seconds, write
from jobs.config.deployment import Deployment
from jobs.console.text import count
from jobs.lake import spark_tables
from jobs.lake.delta import midnight
from jobs.lake.session import get_session
from jobs.serving.lookup import Lookup
from jobs.serving.publish import publish

DAY = date(2026, 1, 1)
WIDTH = 128
CALLS = 300
SIZES = [(users, scenarios) for users in (1, 10, 100) for scenarios in (1, 6)]
Read = Callable[[Sequence[str], Sequence[str]], object]


def deployment(at: Path, online: dict[str, Any]) -> Deployment:
    """Write the demo's deployment with this online store."""
    return company.changed(company.deployment(at), store={"online": online})


def write_embeddings(spark: SparkSession, company: Deployment, users: int) -> None:
    """Write a day of `user_embeddings`: a random vector for each user and scenario."""
    names = company.scenario_names
    vectors = np.random.default_rng(0).normal(size=(users * len(names), WIDTH)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    same = {name: [name] * len(vectors) for name in ("model_version", "instruction_hash", "profile_hash")}
    rows = pa.table(
        {
            "user_id": np.repeat([f"u{user:07d}" for user in range(users)], len(names)),
            "scenario": [*names] * users,
            "as_of": pa.array([midnight(DAY)] * len(vectors), pa.timestamp("us", "UTC")),
            "embedding": pa.FixedSizeListArray.from_arrays(vectors.reshape(-1), WIDTH).cast(pa.list_(pa.float32())),
            **same,
            "created_at": pa.array([datetime.now(UTC)] * len(vectors), pa.timestamp("us", "UTC")),
        }
    )
    with spark_tables.job_run(spark, company, "embed", DAY) as run:
        run.replace(spark.createDataFrame(rows), "user_embeddings")


def raw_reader(deployment: Deployment, at: Path) -> Read:
    """Return a read of the packed vectors alone, by key, from a separate table in the same kind of store."""
    rows = DeltaTable(deployment.table("user_vectors")).to_pyarrow_table().to_pylist()
    cells = {f"{row['user_id']}|{name}": row[name] for row in rows for name in deployment.scenario_names}

    def keys(users: Sequence[str], scenarios: Sequence[str]) -> list[str]:
        return [f"{user}|{name}" for user in users for name in scenarios]

    if deployment.store.online["type"] == "redis":
        from redis import Redis

        host, port = deployment.store.online["connection_string"].split(":")
        client = Redis(host, int(port))
        for key, value in cells.items():
            client.set(key, value)
        return lambda users, scenarios: client.mget(keys(users, scenarios))
    connection = sqlite3.connect(at / "raw.db")
    connection.execute("CREATE TABLE cells (key TEXT PRIMARY KEY, value BLOB)")
    connection.executemany("INSERT INTO cells VALUES (?, ?)", cells.items())
    connection.commit()

    def read(users: Sequence[str], scenarios: Sequence[str]) -> object:
        selected = keys(users, scenarios)
        marks = ", ".join("?" * len(selected))
        return connection.execute(f"SELECT key, value FROM cells WHERE key IN ({marks})", selected).fetchall()

    return read


def milliseconds(
    read: Read, users: Sequence[str], scenarios: Sequence[str], size: tuple[int, int]
) -> tuple[float, float]:
    """Return the median and the 99th percentile of a call; `size` is the number of users and of scenarios."""
    rng = random.Random(0)
    durations = []
    for _ in range(CALLS):
        sample = rng.sample(users, size[0]), rng.sample(scenarios, size[1])
        durations.append(1000 * seconds(partial(read, *sample)))
    return float(np.percentile(durations, 50)), float(np.percentile(durations, 99))


def measure(spark: SparkSession, at: Path, online: dict[str, Any], users: int) -> list[Row]:
    """Measure one kind of store."""
    kind = online["type"]
    company = deployment(at, online)
    write_embeddings(spark, company, users)
    duration = seconds(lambda: publish(spark, company, DAY))
    vectors = users * len(company.scenario_names)
    rows = [Row(name=f"{kind}: publish", value=vectors / duration, unit="vectors/s")]
    reads: dict[str, Read] = {"raw read": raw_reader(company, at), "lookup": Lookup(company)}
    user_ids, scenarios = [f"u{user:07d}" for user in range(users)], [one.name for one in company.scenarios]
    for size in SIZES:
        for name, read in reads.items():
            p50, p99 = milliseconds(read, user_ids, scenarios, size)
            label = f"{kind}: {name}, {count(size[0], 'user')} x {count(size[1], 'scenario')}"
            rows += [Row(name=f"{label}, p50", value=p50, unit="ms"), Row(name=f"{label}, p99", value=p99, unit="ms")]
    return rows


def main() -> None:
    """Measure every store and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--redis", metavar="HOST:PORT", help="an empty Redis to measure too; it keeps what is written")
    arguments = parser.parse_args()
    stores = [{"type": "sqlite"}]
    if arguments.redis:
        stores.append({"type": "redis", "connection_string": arguments.redis})
    with tempfile.TemporaryDirectory() as folder:
        spark = get_session(company.deployment(Path(folder)), named=False)
        try:
            rows = [
                row
                for online in stores
                for row in measure(spark, Path(folder) / online["type"], online, arguments.users)
            ]
        finally:
            spark.stop()
    write(
        "serve",
        rows,
        f"{arguments.users:,} users in 7 scenarios of {WIDTH} values each, {CALLS} lookups of each "
        "shape in one process, for random users and scenarios. The raw read fetches the same bytes by key "
        "from a separate table, without metadata and without decoding.",
    )


if __name__ == "__main__":
    main()
