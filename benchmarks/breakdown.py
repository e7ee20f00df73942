"""Where the time of each job of the line goes: Spark's jobs, Delta's reading of its own logs, and all the rest.

python -m benchmarks.breakdown --users 2000
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import chaos, company
from benchmarks.report import Row, write
from jobs.config.deployment import Deployment
from jobs.lake.session import get_session
from jobs.synthetic.generate import generate

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class SparkJob:
    """One job of Spark's, in seconds since 1970."""

    begin: float
    end: float
    of_delta: bool
    """Delta's own: reading a table's log, choosing files."""
    task_seconds: float


def logged(at: Path, logs: Path) -> Deployment:
    """The line that chaos runs, with Spark's event log switched on."""
    return company.changed(
        chaos.deployment(at),
        spark={
            "conf": {
                "spark.eventLog.enabled": "true",
                "spark.eventLog.dir": str(logs),
                "spark.eventLog.compress": "false",
                "spark.eventLog.rolling.enabled": "false",
            }
        },
    )


def spark_jobs(logs: Path) -> list[SparkJob]:
    """Every job in the event log."""
    begun: dict[int, dict[str, Any]] = {}
    ended: dict[int, float] = {}
    of_stage: dict[int, int] = {}
    spent: dict[int, float] = {}
    [log] = [file for file in logs.iterdir() if file.is_file() and not file.name.startswith(".")]
    with log.open(encoding="utf-8") as lines:
        for line in lines:
            event = json.loads(line)
            if event["Event"] == "SparkListenerJobStart":
                begun[event["Job ID"]] = event
                of_stage |= dict.fromkeys(event["Stage IDs"], event["Job ID"])
            elif event["Event"] == "SparkListenerJobEnd":
                ended[event["Job ID"]] = event["Completion Time"] / 1000
            elif event["Event"] == "SparkListenerTaskEnd" and event["Stage ID"] in of_stage:
                took = event["Task Info"]["Finish Time"] - event["Task Info"]["Launch Time"]
                job = of_stage[event["Stage ID"]]
                spent[job] = spent.get(job, 0.0) + took / 1000
    return [
        SparkJob(
            begin=event["Submission Time"] / 1000,
            end=ended[job],
            task_seconds=spent.get(job, 0.0),
            of_delta="Delta" in event.get("Properties", {}).get("spark.job.description", ""),
        )
        for job, event in begun.items()
        if job in ended
    ]


def covered(intervals: Sequence[Interval]) -> float:
    """Seconds in at least one of the intervals."""
    total, until = 0.0, float("-inf")
    for begin, end in sorted(intervals):
        total += max(0.0, end - max(begin, until))
        until = max(until, end)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=2_000)
    arguments = parser.parse_args()
    steps: list[tuple[str, Interval]] = []
    with tempfile.TemporaryDirectory() as folder:
        logs = Path(folder) / "logs"
        logs.mkdir()
        deployment = logged(Path(folder), logs)
        spark = get_session(deployment, named=False)
        try:
            for job, day in chaos.LINE:
                if job == "assemble" and day:
                    generate(deployment, day, users=arguments.users)
                begin = time.time()
                chaos.finish(spark, deployment, chaos.Step(job=job, day=day))
                steps.append((f"{job} {day or ''}".strip(), (begin, time.time())))
        finally:
            spark.stop()
        found = spark_jobs(logs)
    rows = []
    for name, (begin, end) in steps:
        inside = [job for job in found if begin <= job.begin < end]
        running = covered([(job.begin, job.end) for job in inside])
        delta = covered([(job.begin, job.end) for job in inside if job.of_delta])
        rows += [
            Row(name=f"{name}: whole", value=end - begin, unit="s"),
            Row(name=f"{name}: Spark jobs", value=len(inside)),
            Row(name=f"{name}: while a Spark job runs", value=running, unit="s"),
            Row(name=f"{name}: of that, Delta's own", value=delta, unit="s"),
            Row(name=f"{name}: planning, Python, commits", value=end - begin - running, unit="s"),
            Row(name=f"{name}: tasks", value=sum(job.task_seconds for job in inside), unit="core s"),
        ]
    write(
        "breakdown",
        rows,
        f"A line of two days over {arguments.users:,} users of the demo, one question an axis "
        "and 12 training steps, one session for all of it, from Spark's event log. The first job also warms the JVM.",
    )


if __name__ == "__main__":
    main()
