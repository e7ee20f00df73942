"""A random company with the shape of conf/demo.yaml: the same numbers of events and of repeated texts.

Texts are random and the network is untrained, which does not change the time of an embedding.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from jobs.config.deployment import Deployment
from jobs.training.registry import promote, releases_folder, scenario_instructions
from jobs.training.training_inputs import network_config
from model.serving.release import Release

ROOT = Path(__file__).resolve().parents[1]
# Events per user and distinct texts of each source of the demo, for 4,000 users of `instructue generate`.
EVENTS = {"bill": 36, "mini_program": 20, "page_path": 18, "search": 9}
TEXTS = {"bill": 1150, "mini_program": 610, "page_path": 680, "search": 680}
# The demo's first scenarios, so that figures compare with earlier ones.
SCENARIOS = 6
WORDS = [
    *("coffee", "station", "mall", "lunch", "tram", "ticket", "film", "forest", "game", "delivery", "market"),
    *("phone", "book", "doctor", "rent", "paid", "opened", "viewed", "wallet", "order", "search", "hotel"),
]


def deployment(at: Path) -> Deployment:
    """Write conf/demo.yaml with its first six scenarios and with its lake and releases in this folder."""
    content = yaml.safe_load((ROOT / "conf" / "demo.yaml").read_text(encoding="utf-8"))
    content |= {"lake": "lake", "releases": "releases", "store": {"project": "benchmark", "folder": "store"}}
    content["scenarios"] = content["scenarios"][:SCENARIOS]
    at.mkdir(parents=True, exist_ok=True)
    path = at / "deployment.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return Deployment.read(path)


def changed(base: Deployment, **sections: Any) -> Deployment:
    """Change these sections of the deployment file: mappings are merged, other values replaced."""
    content = _merged(yaml.safe_load(base.path.read_text(encoding="utf-8")), sections)
    base.path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return Deployment.read(base.path)


def _merged(old: Any, new: Any) -> Any:
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    return old | {key: _merged(old.get(key), value) for key, value in new.items()}


def profiles(company: Deployment, users: int, seed: int = 0, times: float = 1) -> pa.Table:
    """Return rows of `user_profiles` without as_of and day; `times` multiplies the demo's number of events.

    Profile hashes depend on the seed.
    """
    rng = np.random.default_rng(seed)
    columns: dict[str, pa.Array] = {"user_id": pa.array([f"u{user:07d}" for user in range(users)])}
    for source in company.sources:
        count_U = np.minimum(rng.poisson(times * EVENTS[source.name] * rng.gamma(4, 1 / 4, users)), source.max_events)
        columns[source.name] = _events(rng, source.name, count_U)
    columns["ages"] = _struct(
        {source.name: pa.array(rng.integers(0, 6, users), pa.int32()) for source in company.sources}
    )
    tabular: dict[str, pa.Array] = {name: pa.array(rng.lognormal(3, 1, users)) for name in company.numbers}
    tabular |= {
        name: pa.array([f"value {value}" for value in rng.integers(0, 6, users)]) for name in company.categories
    }
    columns["tabular"] = _struct(tabular)
    columns["profile_hash"] = pa.array([f"{seed}-{user}" for user in range(users)])
    return pa.table(columns)


def release(company: Deployment, seed: int = 0) -> Release:
    """Export an untrained network of the demo's sizes and make it the current release."""
    from model.serving.export import export
    from model.training.training import initialise

    some = profiles(company, 200, seed=99)
    at = pa.array([datetime(2025, 1, 1, tzinfo=UTC)] * len(some), pa.timestamp("us", "UTC"))
    texts = [text for text in scenario_instructions(company).values() if text is not None]
    pairs = [
        {
            "user_id": user,
            "as_of": at[0].as_py(),
            "question": "q",
            "instruction": texts[row % len(texts)],
            "answer": "Yes.",
            "axis": "future",
            "split": "train",
        }
        for row, user in enumerate(some["user_id"].to_pylist())
    ]
    schema = pa.schema({name: at.type if name == "as_of" else pa.string() for name in pairs[0]})
    checkpoint = initialise(
        some.append_column("as_of", at),
        pa.Table.from_pylist(pairs, schema),
        network_config(company),
        releases_folder(company) / "checkpoints" / "untrained",
        seed=seed,
    )
    exported = export(
        checkpoint,
        releases_folder(company),
        scenarios=scenario_instructions(company),
        vector_spec=company.vector_spec(),
        deployment=company.path.read_text(encoding="utf-8"),
        profiles=some.slice(0, 40),
    )
    promote(company, exported.path)
    return exported


def _events(rng: np.random.Generator, source: str, count_U: np.ndarray) -> pa.Array:
    texts = [
        " ".join(rng.choice(WORDS, 8 if source == "bill" else 4)) + f" {number}" for number in range(TEXTS[source])
    ]
    total = int(count_U.sum())
    chosen = (len(texts) * rng.random(total) ** 2).astype(np.int64)  # some texts are much more common than others
    gaps = rng.integers(0, 5, total).astype(np.int32)
    events = _struct(
        {
            "event_time": pa.array(np.full(total, datetime(2025, 1, 1)), pa.timestamp("us", "UTC")),
            "text": pa.array(texts).take(chosen),
            "gap": pa.array(gaps),
        }
    )
    return pa.ListArray.from_arrays(np.concatenate([[0], np.cumsum(count_U)]).astype(np.int32), events)


def _struct(fields: dict[str, pa.Array]) -> pa.StructArray:
    return pa.StructArray.from_arrays(list(fields.values()), names=list(fields))
