"""Measure rate and peak memory of generate, assemble, embed and publish at several numbers of users.

Run `python -m benchmarks.scale --users 10000 100000 1000000`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

from pyspark.sql import SparkSession

from benchmarks import assemble_job, company
from benchmarks.commands import GIB, memory_bytes
from benchmarks.report import Row, seconds, write
from jobs.config.deployment import Deployment
from jobs.lake.session import get_session
from jobs.profiles.assemble import assemble
from jobs.serving.embed import embed
from jobs.serving.publish import publish

DAY = assemble_job.DAY
EVENTS_PER_USER = 5
JOBS = ("generate", "assemble", "embed", "publish")
EVERY_SECONDS = 0.5
USERS_PER_PARTITION = 25_000


@dataclass(kw_only=True)
class Measurement:
    """A job at one size; `gib` is the peak memory of this process, its JVM and its Python workers together."""

    seconds: float
    gib: float


def deployment(at: Path) -> Deployment:
    """Write a small deployment: one source of bills, one scenario beside universal, the preset tiny."""
    food = {"name": "food", "instruction": "Predict whether this user will order food."}
    return company.changed(
        assemble_job.deployment(at, ids=False), scenarios=[food], spark={"conf": {"spark.driver.memory": "4g"}}
    )


@contextmanager
def memory() -> Iterator[list[int]]:
    """Measure the peak memory in bytes while the block runs; it is the only item of the list."""
    most_bytes, stopped = [0], Event()

    def poll() -> None:
        while not stopped.wait(EVERY_SECONDS):
            most_bytes[0] = max(most_bytes[0], memory_bytes(os.getpid()))

    thread = Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield most_bytes
    finally:
        stopped.set()
        thread.join()


def measure(spark: SparkSession, at: Path, users: int) -> dict[str, Measurement]:
    """Run the jobs one after the other on a new lake."""
    lake = deployment(at)
    spark.conf.set("spark.sql.shuffle.partitions", str(max(4, users // USERS_PER_PARTITION)))
    company.release(lake)
    jobs: dict[str, Callable[[], object]] = {
        "generate": lambda: assemble_job.bills(spark, lake.table("bills"), users * EVENTS_PER_USER, users),
        "assemble": lambda: assemble(spark, lake, DAY),
        "embed": lambda: embed(spark, lake, DAY),
        "publish": lambda: publish(spark, lake, DAY),
    }
    results = {}
    for name, job in jobs.items():
        with memory() as peak:
            duration = seconds(job)
        results[name] = Measurement(seconds=duration, gib=peak[0] / GIB)
        print(f"{users:,} users, {name}: {results[name].seconds:.1f} s, {results[name].gib:.2f} GiB", flush=True)
    return results


def main() -> None:
    """Measure every size and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    arguments = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        spark = get_session(deployment(Path(folder)), named=False)
        try:
            measure(spark, Path(folder) / "warm", 1_000)
            for users in arguments.users:
                results[users] = measure(spark, Path(folder) / str(users), users)
                shutil.rmtree(Path(folder) / str(users))
        finally:
            spark.stop()
    rows = []
    for name in JOBS:
        for users, measurement in results.items():
            rows += [
                Row(name=f"{name}, {users:,} users", value=users / measurement[name].seconds, unit="users/s"),
                Row(name=f"{name}, {users:,} users, most memory", value=measurement[name].gib, unit="GiB"),
            ]
        rates = [users / measurement[name].seconds for users, measurement in results.items()]
        rows += [
            Row(name=f"{name}: slowest size over the fastest", value=min(rates) / max(rates), goal=">= 0.85"),
            Row(name=f"{name}: the largest size over the fastest", value=rates[-1] / max(rates), goal=">= 0.85"),
        ]
    write(
        "scale",
        rows,
        f"{EVENTS_PER_USER} events a user in one source, two scenarios, the preset tiny; local Spark "
        "on two cores with 4 GiB for the driver. Each job's rate includes starting tasks, reading, "
        "writing and recording the run. Memory is the driver's, the JVM's and the Python workers' together.",
    )


if __name__ == "__main__":
    main()
