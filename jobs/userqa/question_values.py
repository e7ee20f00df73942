"""The value of each question for each user and cut-off, before it becomes a sentence.

The events of all sources are brought to their users once. Python then computes the questions of the users of a chunk
with whole arrays: one plan serves any number of questions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.config.deployment import Deployment
from jobs.lake.spark_tables import union
from jobs.userqa.chunk import PROFILE, Chunk, whole_users
from jobs.userqa.question_events import Span, question_events
from jobs.userqa.questions import Questions

SCHEMA = "user_id string, as_of bigint, numbers array<double>, words array<string>"


def question_values(
    deployment: Deployment, questions: Questions, opened: Mapping[str, DataFrame], users: DataFrame, span: Span
) -> DataFrame:
    """Return one row per user and cut-off: user_id, as_of, and the values of the questions.

    `numbers` has the values of the questions in `Questions.numeric`, and `words` those in `Questions.worded`; a value
    is null where it is missing. `users` are rows of `training_profiles`.
    """
    rows = [_profile_rows(users, questions)]
    sources = [source for source in deployment.sources if questions.about(source.name)]
    for number, source in enumerate(sources):
        own = questions.about(source.name)
        events = question_events(opened[source.name], source, own, questions.interests, span)
        rows.append(events.withColumn("source", F.lit(number).cast("byte")))
    # The union fills what a row does not have with nulls.
    of_users = union(rows).repartition("user_id").sortWithinPartitions("user_id")
    computed = _Computation(questions=questions, sources=[source.name for source in sources])
    return of_users.mapInArrow(computed, SCHEMA).withColumn("as_of", F.timestamp_micros("as_of"))


def _profile_rows(users: DataFrame, questions: Questions) -> DataFrame:
    """Return the profiles with the values of the tabular questions."""
    numbers, words = (
        [F.col("tabular")[q.value].cast(dtype) for q in of_kind if q.tabular]
        for of_kind, dtype in ((questions.numeric, "double"), (questions.worded, "string"))
    )
    return users.select(
        "user_id",
        F.unix_micros("as_of").alias("time"),
        F.lit(PROFILE).cast("byte").alias("source"),
        F.array(*numbers).cast("array<double>").alias("tabular"),
        F.array(*words).cast("array<string>").alias("words"),
    )


@dataclass(frozen=True, kw_only=True)
class _Computation:
    """Compute the values of whole users from rows that are sorted by user."""

    questions: Questions
    sources: Sequence[str]

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for rows in whole_users(batches):
            yield from Chunk.of(rows, self.questions, self.sources).values().to_batches()
