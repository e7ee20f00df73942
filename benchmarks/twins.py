"""Two lakes that should have ended alike, row by row: what differs, by table, online store and training curve.

Alike is meant as the project promises it: the same keys and hashes, vectors equal to a cosine of 0.99999 (0.9999 where
they are packed in half precision); created_at, seconds and table versions aside.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from deltalake import DeltaTable

from feature_repo.vectors import DTYPE
from jobs.config.deployment import Deployment
from jobs.serving.lookup import Lookup
from jobs.training.registry import current_checkpoint, has_current_checkpoint
from model.training.checkpoint import METRICS_FILE

COSINE, PACKED_COSINE = 0.99999, 0.9999
KEYS = {"user_embeddings": ("user_id", "scenario", "day"), "user_vectors": ("user_id", "day")}
"""Tables with vectors in them, and what names a row; of the others whole rows are compared."""
PLAIN = ("user_profiles", "training_profiles", "userqa", "rejected_rows", "online_users")
RUN = ("job", "day", "status", "rows_in", "rows_out", "left_out", "model_version")
LOSS = 1e-6
"""How far a step's loss may lie from the undisturbed run's."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One thing that both lakes have."""

    name: str
    rows: int
    """Of the first lake."""
    differences: int
    example: str = ""
    """One of them."""


def compare(one: Deployment, other: Deployment) -> list[Compared]:
    """Everything that a line leaves behind, compared."""
    found = [_plain(table, _rows(one, table), _rows(other, table)) for table in PLAIN]
    found += [_vectors(table, _rows(one, table), _rows(other, table)) for table in KEYS]
    found.append(_plain("job_runs", _runs(one), _runs(other)))
    found.append(_online(one, other))
    trained = [has_current_checkpoint(lake) for lake in (one, other)]
    return [*found, _curve(one, other)] if any(trained) else found


def _rows(deployment: Deployment, table: str) -> list[dict[str, Any]]:
    path = deployment.table(table)
    return DeltaTable(path).to_pyarrow_table().to_pylist() if DeltaTable.is_deltatable(path) else []


def _runs(deployment: Deployment) -> list[dict[str, Any]]:
    return [{key: row[key] for key in RUN} for row in _rows(deployment, "job_runs")]


def _plain(name: str, one: Sequence[dict[str, Any]], other: Sequence[dict[str, Any]]) -> Compared:
    """Whole rows, as often as they are there, in any order."""
    counts = [Counter(repr(sorted(row.items())) for row in rows) for rows in (one, other)]
    apart = (counts[0] - counts[1]) + (counts[1] - counts[0])
    return Compared(name=name, rows=len(one), differences=apart.total(), example=_first(apart))


def _vectors(name: str, one: Sequence[dict[str, Any]], other: Sequence[dict[str, Any]]) -> Compared:
    """Rows by their key: each once, everything but the vectors equal, and the vectors alike."""
    keys = [Counter(tuple(row[key] for key in KEYS[name]) for row in rows) for rows in (one, other)]
    named = [{tuple(row[key] for key in KEYS[name]): row for row in rows} for rows in (one, other)]
    apart = [
        f"{key}: {keys[0][key]} and {keys[1][key]} rows"
        for key in keys[0] | keys[1]
        if (keys[0][key], keys[1][key]) != (1, 1)
    ]
    apart += [
        f"{key}: {difference}"
        for key in named[0].keys() & named[1].keys()
        if (difference := _row(named[0][key], named[1][key]))
    ]
    return Compared(name=name, rows=len(one), differences=len(apart), example=_first(apart))


def _row(one: dict[str, Any], other: dict[str, Any]) -> str:
    """What tells two rows apart; empty where nothing does."""
    for key in one.keys() | other.keys():
        mine, theirs = one.get(key), other.get(key)
        if key == "created_at" or mine == theirs:
            continue
        if isinstance(mine, list) and isinstance(theirs, list) and _cosine(np.array(mine), np.array(theirs)) >= COSINE:
            continue
        if (
            isinstance(mine, bytes)
            and isinstance(theirs, bytes)
            and (_cosine(np.frombuffer(mine, DTYPE), np.frombuffer(theirs, DTYPE)) >= PACKED_COSINE)
        ):
            continue
        return f"{key} is {str(mine)[:60]} and {str(theirs)[:60]}"
    return ""


def _cosine(one: Any, other: Any) -> float:
    if one.shape != other.shape:
        return -1.0
    one, other = one.astype(np.float64), other.astype(np.float64)
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))


def _online(one: Deployment, other: Deployment) -> Compared:
    """What a lookup answers for every user that either lake has ever embedded."""
    users = sorted({row["user_id"] for lake in (one, other) for row in _rows(lake, "user_embeddings")})
    answers = [Lookup(lake, freeze=False)(users) for lake in (one, other)]
    apart = []
    for mine, theirs in zip(*answers, strict=True):
        for scenario in mine.vectors.keys() | theirs.vectors.keys():
            here, there = (side.vectors.get(scenario) for side in (mine, theirs))
            if not (here and there):
                apart.append(f"{mine.user_id} in {scenario}: in one store only")
            elif (here.as_of, here.model_version) != (there.as_of, there.model_version):
                apart.append(
                    f"{mine.user_id} in {scenario}: as of {here.as_of:%F} and {there.as_of:%F}, "
                    f"model {here.model_version:.12} and {there.model_version:.12}"
                )
            elif _cosine(here.vector, there.vector) < PACKED_COSINE:
                apart.append(f"{mine.user_id} in {scenario}: other vectors")
    return Compared(name="online store", rows=len(users), differences=len(apart), example=_first(apart))


def _curve(one: Deployment, other: Deployment) -> Compared:
    """Each step's training loss."""
    curves = [
        json.loads((current_checkpoint(lake) / METRICS_FILE).read_text(encoding="utf-8"))["curve"]["loss"]
        for lake in (one, other)
    ]
    apart = [
        f"step {step}: {mine} and {theirs}"
        for step, (mine, theirs) in enumerate(zip(*curves, strict=False))
        if abs(mine - theirs) > LOSS
    ]
    apart += ["not as many steps"] * abs(len(curves[0]) - len(curves[1]))
    return Compared(name="training curve", rows=len(curves[0]), differences=len(apart), example=_first(apart))


def _first(apart: Iterable[str]) -> str:
    return next(iter(apart), "")[:300]
