"""Publish and lookup: vectors per second, and milliseconds of a lookup beside a raw read of the same bytes.

python -m benchmarks.serve --users 10000
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

from benchmarks import company, servers
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
    """The demo's scenarios over this kind of online store."""
    return company.changed(company.deployment(at), store={"online": online})


def embedded(spark: SparkSession, company: Deployment, users: int) -> None:
    """A day of `user_embeddings`: a random vector of every user in every scenario."""
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
        run.replace(spark.createDataFrame(rows), "user_embeddings", ["user_id", "scenario"])


def raw(deployment: Deployment, at: Path) -> Read:
    """A read of the packed vectors alone, from a table of our own in the same kind of store."""
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
        asked = keys(users, scenarios)
        places = ", ".join("?" * len(asked))
        return connection.execute(f"SELECT key, value FROM cells WHERE key IN ({places})", asked).fetchall()

    return read


def milliseconds(
    read: Read, users: Sequence[str], scenarios: Sequence[str], size: tuple[int, int]
) -> tuple[float, float]:
    """The median and the 99th percentile of one call for so many users and scenarios."""
    rng = random.Random(0)
    took = []
    for _ in range(CALLS):
        asked = rng.sample(users, size[0]), rng.sample(scenarios, size[1])
        took.append(1000 * seconds(partial(read, *asked)))
    return float(np.percentile(took, 50)), float(np.percentile(took, 99))


def measure(spark: SparkSession, at: Path, online: dict[str, Any], users: int) -> list[Row]:
    """The rows of one kind of store."""
    kind = online["type"]
    company = deployment(at, online)
    embedded(spark, company, users)
    took = seconds(lambda: publish(spark, company, DAY))
    vectors = users * len(company.scenario_names)
    rows = [Row(name=f"{kind}: publish", value=vectors / took, unit="vectors/s")]
    reads: dict[str, Read] = {"raw read": raw(company, at), "lookup": Lookup(company)}
    everybody, scenarios = [f"u{user:07d}" for user in range(users)], [one.name for one in company.scenarios]
    for size in SIZES:
        for name, read in reads.items():
            middle, late = milliseconds(read, everybody, scenarios, size)
            told = f"{kind}: {name}, {count(size[0], 'user')} x {count(size[1], 'scenario')}"
            rows += [Row(name=f"{told}, p50", value=middle, unit="ms"), Row(name=f"{told}, p99", value=late, unit="ms")]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=10_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, servers.redis() as address:
        spark = get_session(company.deployment(Path(folder)), named=False)
        try:
            rows = [
                row
                for online in ({"type": "sqlite"}, {"type": "redis", "connection_string": address})
                for row in measure(spark, Path(folder) / online["type"], online, arguments.users)
            ]
        finally:
            spark.stop()
    write(
        "serve",
        rows,
        f"{arguments.users:,} users in 7 scenarios of {WIDTH} values each, {CALLS} lookups of each "
        "shape in one process, users and scenarios drawn by chance. The raw read fetches the same bytes by key "
        "from a table of its own, without metadata and without decoding them.",
    )


if __name__ == "__main__":
    main()
