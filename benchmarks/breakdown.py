"""Measure how each job of a two-day run spends its time: Spark jobs, Delta's log reading, and the rest.

Run `python -m benchmarks.breakdown --users 2000`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from pyspark.sql import SparkSession

from benchmarks import company
from benchmarks.report import Row, write
from jobs.config.deployment import Deployment
from jobs.lake.session import get_session
from jobs.profiles.assemble import assemble
from jobs.serving.embed import embed
from jobs.serving.publish import publish
from jobs.synthetic.generate import generate
from jobs.training.export import export
from jobs.training.train import train
from jobs.userqa.userqa import userqa

ROOT = Path(__file__).resolve().parents[1]
DAYS = (date(2026, 1, 1), date(2026, 1, 2))

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class SparkJob:
    """A Spark job; times in seconds since 1970.

    `of_delta` says whether Delta started it, to read a table's log or to select files.
    """

    begin: float
    end: float
    of_delta: bool
    task_seconds: float


def deployment_with_event_log(folder: Path, logs: Path) -> Deployment:
    """Write the demo's deployment with a short training, one question of each axis and Spark's event log."""
    path = ROOT / "conf" / "questions" / "demo.yaml"
    questions = yaml.safe_load(path.read_text(encoding="utf-8"))
    by_axis = {question["axis"]: question for question in reversed(questions["questions"]) if "each" not in question}
    questions |= {"questions": [*by_axis.values()], "general": [[by_axis["attribute"]["name"]]]}
    (folder / "questions.yaml").write_text(yaml.safe_dump(questions, sort_keys=False), encoding="utf-8")
    training = {"steps": 12, "profiles_per_step": 32, "save_every": 3, "validate_every": 6}
    return company.changed(
        company.deployment(folder),
        model={"training": training},
        userqa={"questions": "questions.yaml"},
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
    """Read the Spark jobs of an event log."""
    start_events: dict[int, dict[str, Any]] = {}
    end_times: dict[int, float] = {}
    of_stage: dict[int, int] = {}
    task_seconds: dict[int, float] = {}
    [log] = [file for file in logs.iterdir() if file.is_file() and not file.name.startswith(".")]
    with log.open(encoding="utf-8") as lines:
        for line in lines:
            event = json.loads(line)
            if event["Event"] == "SparkListenerJobStart":
                start_events[event["Job ID"]] = event
                of_stage |= dict.fromkeys(event["Stage IDs"], event["Job ID"])
            elif event["Event"] == "SparkListenerJobEnd":
                end_times[event["Job ID"]] = event["Completion Time"] / 1000
            elif event["Event"] == "SparkListenerTaskEnd" and event["Stage ID"] in of_stage:
                duration = event["Task Info"]["Finish Time"] - event["Task Info"]["Launch Time"]
                job = of_stage[event["Stage ID"]]
                task_seconds[job] = task_seconds.get(job, 0.0) + duration / 1000
    return [
        SparkJob(
            begin=event["Submission Time"] / 1000,
            end=end_times[job],
            task_seconds=task_seconds.get(job, 0.0),
            of_delta="Delta" in event.get("Properties", {}).get("spark.job.description", ""),
        )
        for job, event in start_events.items()
        if job in end_times
    ]


def covered_seconds(intervals: Sequence[Interval]) -> float:
    """Return the seconds that at least one of the intervals covers."""
    total, until = 0.0, float("-inf")
    for begin, end in sorted(intervals):
        total += max(0.0, end - max(begin, until))
        until = max(until, end)
    return total


def two_days(spark: SparkSession, deployment: Deployment, users: int) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield each job of two days with its name; a day's source rows are written before its first job."""
    for day in DAYS:
        generate(deployment, day, users=users)
        yield f"assemble {day}", partial(assemble, spark, deployment, day)
        if day == DAYS[0]:
            yield "userqa", partial(userqa, spark, deployment)
            yield "train", partial(train, deployment)
            yield "export", partial(export, deployment, promote=True)
        yield f"embed {day}", partial(embed, spark, deployment, day)
        yield f"publish {day}", partial(publish, spark, deployment, day)


def main() -> None:
    """Run two days and write the times of each job."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=2_000)
    arguments = parser.parse_args()
    steps: list[tuple[str, Interval]] = []
    with tempfile.TemporaryDirectory() as folder:
        logs = Path(folder) / "logs"
        logs.mkdir()
        deployment = deployment_with_event_log(Path(folder), logs)
        spark = get_session(deployment, named=False)
        try:
            for name, job in two_days(spark, deployment, arguments.users):
                begin = time.time()
                job()
                steps.append((name, (begin, time.time())))
        finally:
            spark.stop()
        spark_jobs_run = spark_jobs(logs)
    rows = []
    for name, (begin, end) in steps:
        inside = [job for job in spark_jobs_run if begin <= job.begin < end]
        running = covered_seconds([(job.begin, job.end) for job in inside])
        delta = covered_seconds([(job.begin, job.end) for job in inside if job.of_delta])
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
        f"Two days of {arguments.users:,} users of the demo, one question of each axis and 12 training steps, in one "
        "session, from Spark's event log. The first job also warms the JVM.",
    )


if __name__ == "__main__":
    main()
