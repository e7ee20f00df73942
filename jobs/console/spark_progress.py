"""Progress of Spark: finished tasks of its jobs, out of those known so far."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

from py4j.protocol import Py4JError
from pyspark.sql import SparkSession

from model.progress import Progress

INTERVAL = 0.5
"""Seconds between two reports."""


@contextmanager
def watch_spark(spark: SparkSession, progress: Progress) -> Iterator[None]:
    """Report, while the block runs, how many tasks of the Spark jobs that it started are finished, out of how many.

    Spark plans a job when it starts it, so the total grows until the last job has started.
    """
    tasks, over = _Tasks(spark.sparkContext.statusTracker()), Event()

    def watch() -> None:
        try:
            last = False
            while not last:
                last = over.wait(INTERVAL)
                progress(*tasks.count())
        except (Py4JError, OSError):
            return  # The JVM has ended, so the block fails too, with a clearer error.

    thread = Thread(target=watch, name="spark-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class _Tasks:
    """Count the tasks of the jobs that start after this object is made."""

    def __init__(self, tracker: Any) -> None:
        self._tracker = tracker
        self._earlier = {*tracker.getJobIdsForGroup()}
        self._finished: dict[int, int] = {}
        """Finished jobs, and the number of tasks that each ran."""

    def count(self) -> tuple[int, int]:
        """Return the number of finished tasks, and of known tasks."""
        done = total = 0
        for job in {*self._tracker.getJobIdsForGroup()} - self._earlier - self._finished.keys():
            info = self._tracker.getJobInfo(job)
            stages = [self._tracker.getStageInfo(stage) for stage in info.stageIds] if info else []
            completed = sum(stage.numCompletedTasks for stage in stages if stage)
            if info is None or info.status != "RUNNING":
                self._finished[job] = completed  # Tasks of a skipped stage never run.
            else:
                done += completed
                total += sum(stage.numTasks for stage in stages if stage)
        finished = sum(self._finished.values())
        return done + finished, total + finished
