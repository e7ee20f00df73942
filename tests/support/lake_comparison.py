"""Compare two lakes that should hold the same: tables, online store and training curve.

Two lakes are equal when they have the same keys and hashes, and vectors with a cosine of at least 0.99999 (0.9999 where
vectors are packed in half precision). `created_at`, seconds and table versions are not compared.
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
VECTOR_KEYS = {"user_embeddings": ("user_id", "scenario", "day"), "user_vectors": ("user_id", "day")}
"""The key columns of each table with vectors. Whole rows of the other tables are compared."""
PLAIN_TABLES = ("user_profiles", "training_profiles", "userqa", "rejected_rows", "online_users")
RUN_COLUMNS = ("job", "day", "status", "rows_in", "rows_out", "left_out", "model_version")
LOSS_TOLERANCE = 1e-6


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The differences of one table, of the online store or of the training curve.

    `rows` are the rows of the first lake; `example` describes one difference.
    """

    name: str
    rows: int
    differences: int
    example: str = ""


def compare(left: Deployment, right: Deployment) -> list[Comparison]:
    """Compare everything that the daily jobs and a training write."""
    results = [_compare_rows(table, _rows(left, table), _rows(right, table)) for table in PLAIN_TABLES]
    results += [_compare_vectors(table, _rows(left, table), _rows(right, table)) for table in VECTOR_KEYS]
    results.append(_compare_rows("job_runs", _runs(left), _runs(right)))
    results.append(_compare_online(left, right))
    trained = [has_current_checkpoint(lake) for lake in (left, right)]
    return [*results, _compare_curves(left, right)] if any(trained) else results


def _rows(deployment: Deployment, table: str) -> list[dict[str, Any]]:
    path = deployment.table(table)
    return DeltaTable(path).to_pyarrow_table().to_pylist() if DeltaTable.is_deltatable(path) else []


def _runs(deployment: Deployment) -> list[dict[str, Any]]:
    return [{key: row[key] for key in RUN_COLUMNS} for row in _rows(deployment, "job_runs")]


def _compare_rows(name: str, left: Sequence[dict[str, Any]], right: Sequence[dict[str, Any]]) -> Comparison:
    """Compare whole rows with their counts, in any order."""
    left_counts, right_counts = (Counter(repr(sorted(row.items())) for row in rows) for rows in (left, right))
    differences = (left_counts - right_counts) + (right_counts - left_counts)
    return Comparison(name=name, rows=len(left), differences=differences.total(), example=_example(differences))


def _compare_vectors(name: str, left: Sequence[dict[str, Any]], right: Sequence[dict[str, Any]]) -> Comparison:
    """Compare rows by key: each key once, equal columns, and similar vectors."""
    counts = [Counter(tuple(row[key] for key in VECTOR_KEYS[name]) for row in rows) for rows in (left, right)]
    by_key = [{tuple(row[key] for key in VECTOR_KEYS[name]): row for row in rows} for rows in (left, right)]
    differences = [
        f"{key}: {counts[0][key]} and {counts[1][key]} rows"
        for key in counts[0] | counts[1]
        if (counts[0][key], counts[1][key]) != (1, 1)
    ]
    differences += [
        f"{key}: {difference}"
        for key in by_key[0].keys() & by_key[1].keys()
        if (difference := _row_difference(by_key[0][key], by_key[1][key]))
    ]
    return Comparison(name=name, rows=len(left), differences=len(differences), example=_example(differences))


def _row_difference(left: dict[str, Any], right: dict[str, Any]) -> str:
    """Return the first difference of two rows; empty when there is none."""
    for column in left.keys() | right.keys():
        a, b = left.get(column), right.get(column)
        if column == "created_at" or a == b:
            continue
        if isinstance(a, list) and isinstance(b, list) and _cosine(np.array(a), np.array(b)) >= COSINE:
            continue
        if (
            isinstance(a, bytes)
            and isinstance(b, bytes)
            and _cosine(np.frombuffer(a, DTYPE), np.frombuffer(b, DTYPE)) >= PACKED_COSINE
        ):
            continue
        return f"{column} is {str(a)[:60]} and {str(b)[:60]}"
    return ""


def _cosine(left: Any, right: Any) -> float:
    if left.shape != right.shape:
        return -1.0
    left, right = left.astype(np.float64), right.astype(np.float64)
    return float(left @ right / (np.linalg.norm(left) * np.linalg.norm(right)))


def _compare_online(left: Deployment, right: Deployment) -> Comparison:
    """Compare the lookups of every user that either lake has embedded."""
    users = sorted({row["user_id"] for lake in (left, right) for row in _rows(lake, "user_embeddings")})
    lookups = [Lookup(lake, freeze=False)(users) for lake in (left, right)]
    differences = []
    for left_user, right_user in zip(*lookups, strict=True):
        for scenario in left_user.vectors.keys() | right_user.vectors.keys():
            a, b = (user.vectors.get(scenario) for user in (left_user, right_user))
            if not (a and b):
                differences.append(f"{left_user.user_id} in {scenario}: in one store only")
            elif (a.as_of, a.model_version) != (b.as_of, b.model_version):
                differences.append(
                    f"{left_user.user_id} in {scenario}: as of {a.as_of:%F} and {b.as_of:%F}, "
                    f"model {a.model_version:.12} and {b.model_version:.12}"
                )
            elif _cosine(a.vector, b.vector) < PACKED_COSINE:
                differences.append(f"{left_user.user_id} in {scenario}: different vectors")
    return Comparison(name="online store", rows=len(users), differences=len(differences), example=_example(differences))


def _compare_curves(left: Deployment, right: Deployment) -> Comparison:
    """Compare the training loss of each step."""
    curves = [
        json.loads((current_checkpoint(lake) / METRICS_FILE).read_text(encoding="utf-8"))["curve"]["loss"]
        for lake in (left, right)
    ]
    differences = [
        f"step {step}: {a} and {b}"
        for step, (a, b) in enumerate(zip(*curves, strict=False))
        if abs(a - b) > LOSS_TOLERANCE
    ]
    differences += ["different numbers of steps"] * abs(len(curves[0]) - len(curves[1]))
    return Comparison(
        name="training curve", rows=len(curves[0]), differences=len(differences), example=_example(differences)
    )


def _example(differences: Iterable[str]) -> str:
    return next(iter(differences), "")[:300]
