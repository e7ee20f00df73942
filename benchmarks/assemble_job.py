"""Measure assemble against a Spark group-by that only collects the same events, at several sizes.

Run `python -m benchmarks.assemble_job --millions 1 10 50`.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import yaml
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from benchmarks.report import Row, seconds, write
from jobs.config.deployment import Deployment
from jobs.lake.delta import midnight
from jobs.lake.session import get_session
from jobs.profiles.assemble import assemble

DAY = date(2026, 1, 1)
EVENTS_PER_USER = 80
WINDOW_DAYS = 180
MERCHANTS = 1_000
ROWS_PER_PARTITION = 250_000
MILLION = 1_000_000
SPARK_DEFAULTS = {
    "spark.sql.execution.useObjectHashAggregateExec": "true",
    "spark.sql.codegen.hugeMethodLimit": "65535",
}
"""Spark's defaults of the settings that the project changes and that affect a group-by."""
NAMES = {"bare": "a bare group-by", "plain": "assemble", "ids": "assemble with event ids"}
MOST_WITH_IDS = 10 * MILLION
SKEWED_USERS, SKEWED_EVENTS = 100, 200_000


def deployment(at: Path, *, ids: bool) -> Deployment:
    """Write a deployment with one source of bills, with or without event ids, and one aggregate."""
    source: dict[str, Any] = {
        "name": "bill",
        "table": "bills",
        "time": "paid_at",
        "max_events": 64,
        "max_tokens": 16,
        "template": "{merchant}, {amount:amount_band}",
        "window_days": WINDOW_DAYS,
    }
    content = {
        "name": "bench",
        "lake": "lake",
        "releases": "releases",
        "store": {"folder": "store"},
        "sources": [source | ({"id": "bill_id"} if ids else {})],
        "aggregates": [{"name": "bills_30d", "source": "bill", "function": "count", "window_days": 30}],
        "userqa": {"questions": "none.yaml", "as_of": ["2025-06-01"]},
        "spark": {"master": "local[2]", "conf": {"spark.driver.memory": "8g"}},
    }
    at.mkdir(parents=True, exist_ok=True)
    path = at / f"deployment-{ids}.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return Deployment.read(path)


def bills(spark: SparkSession, path: str, rows: int, users: int) -> None:
    """Write the source table; a hash of the row number decides each row's user, time, merchant and amount."""

    def draw(seed: int, below: int) -> Any:
        return F.pmod(F.xxhash64("id", F.lit(seed)), F.lit(below))

    last = int(midnight(DAY).timestamp()) - 1
    table = spark.range(0, rows, 1, max(2, rows // MILLION)).select(
        F.format_string("u%08d", draw(1, users)).alias("user_id"),
        F.timestamp_seconds(F.lit(last) - draw(2, WINDOW_DAYS * 86_400)).alias("paid_at"),
        F.format_string("merchant %d", draw(3, MERCHANTS)).alias("merchant"),
        (draw(4, 100_000) / 100).alias("amount"),
        F.format_string("b%012d", "id").alias("bill_id"),
    )
    table.write.format("delta").mode("overwrite").save(path)


def collect_events(spark: SparkSession, source: str, into: str) -> None:
    """Group the events by user and write them as a table, with Spark's defaults: the minimum of such a job."""
    settings = {key: str(spark.conf.get(key)) for key in SPARK_DEFAULTS}
    for key, value in SPARK_DEFAULTS.items():
        spark.conf.set(key, value)
    event = F.struct("paid_at", "merchant", "amount")
    rows = spark.read.format("delta").load(source).groupBy("user_id").agg(F.collect_list(event).alias("bill"))
    rows.write.format("delta").mode("overwrite").save(into)
    for key, value in settings.items():
        spark.conf.set(key, value)


def measure(spark: SparkSession, at: Path, rows: int) -> dict[str, float]:
    """Measure rows per second: `bare`, `plain` (no event ids) and, up to `MOST_WITH_IDS` rows, `ids`."""
    spark.conf.set("spark.sql.shuffle.partitions", str(max(4, rows // ROWS_PER_PARTITION)))
    plain, named = deployment(at, ids=False), deployment(at, ids=True)
    bills(spark, plain.table("bills"), rows, rows // EVENTS_PER_USER)
    durations = {"bare": seconds(lambda: collect_events(spark, plain.table("bills"), str(at / "collected")))}
    for name, one in (("plain", plain), ("ids", named))[: 2 if rows <= MOST_WITH_IDS else 1]:
        durations[name] = seconds(lambda one=one: assemble(spark, one, DAY))  # type: ignore[misc]
        shutil.rmtree(plain.table("user_profiles"))
    print(f"{rows:,} rows: " + ", ".join(f"{name} {one:.1f} s" for name, one in durations.items()), flush=True)
    return {name: rows / one for name, one in durations.items()}


def measure_skewed(spark: SparkSession, at: Path) -> float:
    """Measure rows per second for a few users with many more events than a profile takes."""
    rows = SKEWED_USERS * SKEWED_EVENTS
    spark.conf.set("spark.sql.shuffle.partitions", str(rows // ROWS_PER_PARTITION))
    lake = deployment(at, ids=False)
    bills(spark, lake.table("bills"), rows, SKEWED_USERS)
    return rows / seconds(lambda: assemble(spark, lake, DAY))


def main() -> None:
    """Measure every size and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--millions", type=int, nargs="+", default=[1, 10, 50])
    arguments = parser.parse_args()
    by_size = {}
    with tempfile.TemporaryDirectory() as folder:
        spark = get_session(deployment(Path(folder), ids=False), named=False)
        try:
            measure(spark, Path(folder) / "warm", MILLION // 10)
            for millions in arguments.millions:
                by_size[millions] = measure(spark, Path(folder) / str(millions), millions * MILLION)
                shutil.rmtree(Path(folder) / str(millions))
            few = measure_skewed(spark, Path(folder) / "skewed")
        finally:
            spark.stop()
    rows = []
    for millions, rate in by_size.items():
        size = f"{millions} million rows"
        rows += [Row(name=f"{NAMES[name]}, {size}", value=value, unit="rows/s") for name, value in rate.items()]
        rows += [Row(name=f"assemble over bare, {size}", value=rate["plain"] / rate["bare"], goal=">= 0.5")]
    rates = [rate["plain"] for rate in by_size.values()]
    rows += [
        Row(name="assemble: slowest size over the fastest", value=min(rates) / max(rates), goal=">= 0.85"),
        Row(name=f"{SKEWED_USERS} users with {SKEWED_EVENTS:,} events each", value=few, unit="rows/s"),
        Row(name="these over the slowest size", value=few / min(rates), goal=">= 0.85"),
    ]
    write(
        "assemble_job",
        rows,
        f"One source of {EVENTS_PER_USER} events a user, {MERCHANTS:,} merchants, "
        f"{WINDOW_DAYS} days; local Spark on two cores, a Delta table in and one out either way. With event ids the "
        "job also finds repeats, which needs every row beside those of its id: a shuffle and a sort more.",
    )


if __name__ == "__main__":
    main()
