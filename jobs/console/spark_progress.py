"""How far Spark is: the tasks of its jobs that are done, of those known so far."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

from py4j.protocol import Py4JError
from pyspark.sql import SparkSession

from model.progress import Progress

EVERY = 0.5
"""Seconds between two looks."""


@contextmanager
def watch_spark(spark: SparkSession, progress: Progress) -> Iterator[None]:
    """Tell, while the block runs, how many tasks of the Spark jobs that it has started are done, and of how many.

    Spark plans a job when it comes to it, so the number of tasks grows until the last job has begun.
    """
    tasks, over = _Tasks(spark.sparkContext.statusTracker()), Event()

    def look() -> None:
        try:
            ended = False
            while not ended:
                ended = over.wait(EVERY)
                progress(*tasks.count())
        except (Py4JError, OSError):
            return  # The JVM has gone: what runs in the block fails with it and says more.

    thread = Thread(target=look, name="stages", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class _Tasks:
    """Counts of tasks over the jobs that began after this was made."""

    def __init__(self, tracker: Any) -> None:
        self._tracker = tracker
        self._before = {*tracker.getJobIdsForGroup()}
        self._ended: dict[int, int] = {}

    def count(self) -> tuple[int, int]:
        """Tasks done, and tasks known."""
        done = total = 0
        for job in {*self._tracker.getJobIdsForGroup()} - self._before - self._ended.keys():
            found = self._tracker.getJobInfo(job)
            stages = [self._tracker.getStageInfo(stage) for stage in found.stageIds] if found else []
            completed = sum(stage.numCompletedTasks for stage in stages if stage)
            if found is None or found.status != "RUNNING":
                self._ended[job] = completed  # Tasks of a stage that it skipped will never run.
            else:
                done += completed
                total += sum(stage.numTasks for stage in stages if stage)
        ended = sum(self._ended.values())
        return done + ended, total + ended
