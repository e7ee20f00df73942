"""A lake of made-up embeddings over three days, and the expected tables and online store, computed without Spark."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from datetime import UTC, date, datetime
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa

from jobs.config.deployment import Deployment
from jobs.lake import spark_tables
from jobs.lake.delta import midnight
from tests.support.deployment import deploy

WIDTH = 16
DAY1, DAY2, DAY3 = date(2025, 3, 1), date(2025, 3, 2), date(2025, 3, 4)
SCENARIOS = ("universal", "food", "film")
USERS = (*(f"u{number:02d}" for number in range(38)), "007", "7")
CHANGES = {
    "scenarios": [
        {"name": "food", "instruction": "Predict whether this user will order food."},
        {"name": "film", "instruction": "Tell whether this user prefers films."},
    ]
}

Embeddings = Mapping[tuple[str, str], np.ndarray | None]


def some(seed: int, users: tuple[str, ...], scenarios: tuple[str, ...] = SCENARIOS) -> dict:
    """Return a random normalised vector for each user and scenario."""
    vectors = np.random.default_rng(seed).normal(size=(len(users) * len(scenarios), WIDTH)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return dict(zip([(user, scenario) for user in users for scenario in scenarios], vectors, strict=True))


def ended(*users: str, scenarios: tuple[str, ...] = SCENARIOS) -> dict:
    """Return a null vector for each user and scenario, which ends the user's vectors."""
    return {(user, scenario): None for user in users for scenario in scenarios}


DAYS: dict[date, Embeddings] = {
    DAY1: some(1, USERS[:38]),
    # Ten change in one scenario only, three end, two are embedded for the first time.
    DAY2: {**some(2, USERS[:10], ("food",)), **ended("u10", "u11", "u12"), **some(3, USERS[38:])},
    # One comes back, one ends in one scenario only.
    DAY3: {**some(4, ("u05", "u11")), **ended("u13", scenarios=("film",))},
}


def latest(day: date, days: Mapping[date, Embeddings] = DAYS) -> dict[tuple[str, str], tuple[np.ndarray, date]]:
    """Return the latest vector on a day and the day of its row, by user and scenario, without null vectors."""
    vectors: dict = {}
    for at in sorted(days):
        if at <= day:
            vectors |= {key: (vector, at) for key, vector in days[at].items()}
    return {key: pair for key, pair in vectors.items() if pair[0] is not None}


def embed(spark, deployment: Deployment, day: date, rows: Embeddings, model_version: str = "m1") -> None:
    """Write a day of `user_embeddings` and record its run, as the embed job does."""
    at = [midnight(day)] * len(rows)
    table = pa.table(
        {
            "user_id": [user for user, _ in rows],
            "scenario": [scenario for _, scenario in rows],
            "as_of": pa.array(at, pa.timestamp("us", "UTC")),
            "embedding": pa.array([None if v is None else v.tolist() for v in rows.values()], pa.list_(pa.float32())),
            "model_version": [model_version] * len(rows),
            "instruction_hash": ["i"] * len(rows),
            # A vector of the day that changes comes of another profile.
            "profile_hash": [None if v is None else sha256(v.tobytes()).hexdigest() for v in rows.values()],
            "created_at": pa.array([datetime.now(UTC)] * len(rows), pa.timestamp("us", "UTC")),
        }
    )
    with spark_tables.job_run(spark, deployment, "embed", day) as run:
        run.replace(spark.createDataFrame(table).coalesce(1), "user_embeddings")


def make(spark, folder: Path) -> Deployment:
    """Make a deployment whose three days are embedded and published."""
    from jobs.serving.publish import publish

    deployment = deploy(folder, **CHANGES)
    for day, rows in DAYS.items():
        embed(spark, deployment, day, rows)
        publish(spark, deployment, day)
    return deployment


def copy(deployment: Deployment, folder: Path) -> Deployment:
    """Copy the lake and the store, for a test that changes them."""
    shutil.copytree(deployment.path.parent, folder, dirs_exist_ok=True)
    return Deployment.read(folder / deployment.path.name)


def online(deployment: Deployment) -> dict:
    """Return the vector that a lookup of all users gives, by user and scenario."""
    from jobs.serving.lookup import Lookup

    answers = Lookup(deployment, freeze=False)([*USERS, "nobody"])
    assert [answer.has_vectors for answer in answers] == [bool(answer.vectors) for answer in answers]
    return {(a.user_id, scenario): v for a in answers for scenario, v in a.vectors.items()}


def assert_online(deployment: Deployment, days: Mapping[date, Embeddings] = DAYS) -> None:
    """Assert that the online store holds the latest rows of these days and nothing else."""
    expected, result = latest(max(days), days), online(deployment)
    assert result.keys() == expected.keys()
    for key, (vector, day) in expected.items():
        assert np.array_equal(result[key].vector, vector.astype(np.float16).astype(np.float32)), key
        assert (result[key].as_of.date(), result[key].model_version) == (day, "m1"), key
