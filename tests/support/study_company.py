"""A small made-up company with labels of two scenarios, for evaluations over seeds."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import deltalake
import pyarrow as pa

from jobs.config.deployment import Deployment
from jobs.evaluation.figures import Figure
from jobs.evaluation.studies.registry import StudyOptions
from tests.support import shop
from tests.support.made_up import made_up_pairs, made_up_profiles
from tests.support.training_tables import LABELS_AS_OF, LABELS_SCHEMA, SMALL_MODEL, write_day

USERS = 100
FOOD, FILMS = "Predict whether this user likes food and films.", "What films does this user like?"
SCENARIOS = [
    {"name": "food", "instruction": FOOD, "labels": "labels"},
    {"name": "films", "instruction": FILMS, "labels": "labels"},
]
FOOD_TABLE = {"seeds": 2, "options": StudyOptions(shots=[16]), "scenarios": ["food"]}
NETWORK = SMALL_MODEL["network"] | {
    "backbone": {"layers": 1, "width": 32, "heads": 2, "kv_heads": 2, "feedforward": 32}
}
MODEL = SMALL_MODEL | {"network": NETWORK, "training": {"steps": 1, "profiles_per_step": 16, "encoder_rate": 0}}


def company(at: Path, **changes) -> Deployment:
    return shop.company(at, **{"model": MODEL, "scenarios": SCENARIOS} | changes)


def profiles() -> pa.Table:
    return made_up_profiles(USERS, seed=3, events=8)


def make(at: Path, users: pa.Table) -> Deployment:
    """Make the company with training tables, these profiles and their labels, and no release."""
    deployment = company(at)
    training_users = made_up_profiles(36, seed=7, events=8)
    write_day(deployment, "training_profiles", training_users, date(2025, 1, 1))
    write_day(deployment, "userqa", made_up_pairs(training_users), date(2025, 1, 1))
    write_day(deployment, "user_profiles", users.drop_columns(["as_of"]), date(2025, 3, 2))
    labels = [
        {"user_id": user["user_id"], "as_of": LABELS_AS_OF, "scenario": scenario, "label": int(value(user))}
        for user in users.to_pylist()
        for scenario, value in (
            ("food", lambda user: user["interest"] < 3),
            ("films", lambda user: user["interest"] % 2),
        )
    ]
    deltalake.write_deltalake(deployment.table("labels"), pa.Table.from_pylist(labels, LABELS_SCHEMA))
    return deployment


def trainings(messages: list[str]) -> list[str]:
    """Return the log messages with which a training begins."""
    return [message for message in messages if message.startswith("training on")]


def means(result, part: str, measure: str = "auc") -> dict[str, dict[str, Figure]]:
    """Return the figures of a measure by line, for one part of a study's result."""
    return {line.name: getattr(line, measure) for line in result.data["lines"] if line.part == part}
