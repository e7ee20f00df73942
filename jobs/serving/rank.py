"""Rank: one sentence -> the users whose stored universal vectors are nearest to it, without labels and profiles.

A user's score is the cosine of the centred universal vector and the sentence's own text embedding. Spark computes it
over the latest vectors and keeps the first `top` users of each task, so memory does not grow with the users.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pyspark.sql import DataFrame, Observation, SparkSession
from pyspark.sql import functions as F

from jobs.config.deployment import UNIVERSAL, Deployment
from jobs.lake.delta import last_day, open_table
from jobs.lake.spark_tables import latest_per_key, read_table
from jobs.training.registry import open_release
from model.errors import InstructUEError
from model.serving.instruction_encoder import InstructionEncoder

TABLE = "user_embeddings"


class RankError(InstructUEError):
    """No user has a vector of the current release."""


@dataclass(frozen=True, kw_only=True)
class RankedUser:
    """A user of the ranking."""

    place: int
    """1 for the highest score."""
    user_id: str
    score: float
    """Cosine of the universal vector and the instruction's text embedding."""
    as_of: datetime
    """The as_of of the vector."""


@dataclass(frozen=True, kw_only=True)
class RankResult:
    """The users that an instruction fits best."""

    instruction: str
    understood: bool
    nearest_question: str
    """The nearest question of the training."""
    cosine: float
    """Of the instruction's and the question's text embeddings."""
    warning: str | None
    """None: the instruction is understood."""
    release: str
    model_version: str
    users: int
    """Users that were ranked."""
    other_versions: int
    """Users whose latest universal vector is of another model_version; they were left out."""
    ranking: list[RankedUser]
    """The first users, the highest score first; of equal ones, by user id."""


def rank(spark: SparkSession, deployment: Deployment, instruction: str, *, top: int = 100) -> RankResult:
    """Return the users whose latest universal vectors have the highest scores for an instruction.

    Parameters
    ----------
    top : int
        The most users to return.

    Raises
    ------
    ReleaseError
        There is no current release, it would not make this deployment's vectors, or it has no focus.
    InstructionError
        The instruction is blank.
    TableError
        There are no vectors yet.
    RankError
        No user has a vector of the current release.
    """
    release = open_release(deployment)
    encoder = InstructionEncoder(release, providers=deployment.model.providers)
    direction_H = encoder.encode(instruction)
    known = encoder.nearest(direction_H)
    rows, counts = _scored(_latest(spark, deployment), direction_H.tolist(), release.model_version)
    first = rows.orderBy(F.desc("score"), "user_id").limit(top).toArrow().to_pylist()
    users, latest = (int(counts.get.get(name, 0)) for name in ("users", "latest"))
    if not users:
        raise RankError(
            f"none of {latest} users has a universal vector of the current release {release.name}: run `instructue "
            "embed` for the newest day"
        )
    return RankResult(
        instruction=instruction.strip(),
        understood=known.is_understood,
        nearest_question=known.question,
        cosine=known.cosine,
        warning=known.warning,
        release=release.name,
        model_version=release.model_version,
        users=users,
        other_versions=latest - users,
        ranking=[RankedUser(place=place, **row) for place, row in enumerate(first, 1)],
    )


def _latest(spark: SparkSession, deployment: Deployment) -> DataFrame:
    """Return the latest universal vector of each user who is not deactivated."""
    day = last_day(open_table(deployment, TABLE))
    rows = read_table(spark, deployment, TABLE).where(F.col("scenario") == UNIVERSAL)
    columns = rows.select("user_id", "as_of", "day", "embedding", "model_version")
    return latest_per_key(columns, ["user_id"], day).where(F.col("embedding").isNotNull())


def _scored(latest: DataFrame, direction: list[float], model_version: str) -> tuple[DataFrame, Observation]:
    """Return the users of the release with their scores, and the counts that running it observes."""
    counts = Observation()
    is_current = F.col("model_version") == model_version
    observed = latest.observe(counts, F.count_if(is_current).alias("users"), F.count(F.lit(1)).alias("latest"))
    vector: Any = F.lit(direction).cast("array<float>")
    score = F.call_function("vector_cosine_similarity", F.col("embedding"), vector).cast("double")
    return observed.where(is_current).select("user_id", score.alias("score"), "as_of"), counts
