"""Profiles on which the baselines are tested, and the AUC of vectors on them."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa

from model.training.probe import probe
from tests.support.made_up import AS_OF, made_up_profiles


def profile(user: str, as_of: datetime = AS_OF, **events: list[tuple[float, str]]) -> dict[str, object]:
    """Return a profile with events at these numbers of days before AS_OF."""
    columns = {
        name: [{"event_time": AS_OF - timedelta(days=days), "text": text, "gap": -1} for days, text in some]
        for name, some in events.items()
    }
    return {
        "user_id": user,
        "as_of": as_of,
        "bill": [],
        "search": None,
        "ages": {},
        "tabular": {},
        "profile_hash": None,
        "interest": 0,
    } | columns


def profiles(*given: dict[str, object]) -> pa.Table:
    """Return a table of profiles."""
    return pa.Table.from_pylist(list(given), made_up_profiles(1).schema)


def two_cut_offs(users: int, seed: int, **shape: float) -> pa.Table:
    """Return made-up profiles, and the same profiles as of 100 days before."""
    late = made_up_profiles(users, seed=seed, **shape)
    before = AS_OF - timedelta(days=100)
    early = [
        row
        | {"as_of": before}
        | {name: [event for event in row[name] if event["event_time"] < before] for name in ("bill", "search")}
        for row in late.to_pylist()
    ]
    return pa.concat_tables([late, pa.Table.from_pylist(early, late.schema)])


def auc(vectors_UH: np.ndarray, scored: pa.Table) -> float:
    """Return the AUC of a probe for the first two interests."""
    labels_U = (np.array(scored["interest"]) < 2).astype(int)
    return probe(vectors_UH, labels_U, scored["user_id"].to_pylist(), split_seeds=("probe-1", "probe-2")).auc
