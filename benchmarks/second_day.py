"""Measure embedding all users on a first day, against a second day on which one user in twenty has changed.

Run `python -m benchmarks.second_day --users 20000`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from datetime import date
from pathlib import Path

import pyarrow as pa
from pyspark.sql import SparkSession

from benchmarks import company
from benchmarks.report import Row, write
from jobs.config.deployment import Deployment
from jobs.lake import spark_tables
from jobs.lake.delta import midnight
from jobs.lake.handoff import AssembleHandoff
from jobs.lake.session import get_session
from jobs.serving.embed import EmbedResult, embed

CHANGED = 0.05
WARM, FIRST, SECOND = date(2025, 12, 31), date(2026, 1, 1), date(2026, 1, 2)


def assemble(spark: SparkSession, deployment: Deployment, day: date, rows: pa.Table, users: int) -> None:
    """Write a day of `user_profiles` and record its run, as the job does; `users` is the number with a profile."""
    at = pa.array([midnight(day)] * len(rows), pa.timestamp("us", "UTC"))
    with spark_tables.job_run(spark, deployment, "assemble", day) as run:
        frame = spark.createDataFrame(rows.append_column("as_of", at))
        run.replace(frame, "user_profiles")
        run.handoff = AssembleHandoff(vector_spec=deployment.vector_spec(), users=users)


def timed_embed(spark: SparkSession, deployment: Deployment, day: date) -> tuple[EmbedResult, float]:
    """Embed a day and measure its seconds."""
    begin = time.perf_counter()
    return embed(spark, deployment, day), time.perf_counter() - begin


def measure(spark: SparkSession, folder: Path, users: int) -> list[tuple[EmbedResult, float]]:
    """Embed two days, and the second again, in a new lake, after a warm-up of the session."""
    warm = company.deployment(folder / "warm")
    company.release(warm)
    assemble(spark, warm, WARM, company.profiles(warm, 50, seed=7), 50)
    embed(spark, warm, WARM)
    deployment = company.deployment(folder / "measured")
    company.release(deployment)
    assemble(spark, deployment, FIRST, company.profiles(deployment, users), users)
    first = timed_embed(spark, deployment, FIRST)
    assemble(spark, deployment, SECOND, company.profiles(deployment, int(users * CHANGED), seed=1), users)
    return [first, timed_embed(spark, deployment, SECOND), timed_embed(spark, deployment, SECOND)]


def main() -> None:
    """Measure both days and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=20000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        spark = get_session(company.deployment(Path(folder)))
        try:
            days = measure(spark, Path(folder), arguments.users)
        finally:
            spark.stop()
    (first, first_seconds), (second, second_seconds), (_, again_seconds) = days
    vectors = sum(first.vectors.values())
    write(
        "second_day",
        [
            Row(name=f"first day, {first.embedded:,} users", value=first_seconds, unit="s"),
            Row(name="vectors on the first day", value=vectors / first_seconds, unit="vectors/s"),
            Row(name=f"second day, {second.embedded:,} users changed", value=second_seconds, unit="s"),
            Row(name="ratio", value=second_seconds / first_seconds, goal="<= 0.1"),
            Row(name="the second day again, nothing to write", value=again_seconds, unit="s"),
        ],
        f"The embed job on {arguments.users:,} users of the demo's shape in {len(first.vectors)} scenarios, the preset "
        "tiny on onnxruntime's CPU provider, local Spark. The session has started and embedded before; reading what is "
        "new, comparing, embedding, writing and recording the run are all in the seconds.",
    )


if __name__ == "__main__":
    main()
