"""A small company with assembled profiles and a release of an untrained network, for the jobs that read both."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable

from jobs.config.deployment import Deployment
from jobs.lake import spark_tables
from jobs.lake.delta import midnight
from jobs.lake.handoff import AssembleHandoff
from jobs.training.registry import promote, releases_folder, scenario_instructions
from model.data.config import EventSource
from model.serving.release import Release, read
from tests.support.deployment import deploy
from tests.support.made_once import make_once
from tests.support.made_up import made_up_pairs, made_up_profiles, shallow_network_config

DAY1, DAY2, DAY3, DAY4 = (date(2025, 3, day) for day in (1, 2, 3, 4))
SCENARIOS = [
    {"name": "food", "instruction": "Predict whether this user will order food.", "labels": "labels"},
    {"name": "films", "instruction": "What films?"},
]
CHANGES: dict[str, Any] = {
    "sources": [
        {
            "name": "bill",
            "table": "bills",
            "time": "paid_at",
            "template": "paid {band} for {interest} at {place}",
            "max_events": 24,
            "max_tokens": 16,
        },
        {
            "name": "search",
            "table": "searches",
            "time": "searched_at",
            "template": "{interest} {place}",
            "max_events": 10,
            "max_tokens": 8,
        },
    ],
    "attributes": {"table": "attributes", "static": True, "numbers": ["bills", "income"], "categories": ["city"]},
    "scenarios": SCENARIOS,
}


def company(at: Path, **changes: Any) -> Deployment:
    """Write the company's deployment file, with these keys changed."""
    return deploy(at, **CHANGES | changes)


def profiles(users: int, seed: int = 0) -> pa.Table:
    """Return rows of `user_profiles` without a day; each has its own hash."""
    rows = made_up_profiles(users, seed=seed).drop_columns(["interest", "as_of"])
    hashes = pa.array([f"{seed}-{user}" for user in range(users)])
    return rows.set_column(rows.column_names.index("profile_hash"), "profile_hash", hashes)


def ended(user_ids: list[str]) -> pa.Table:
    """Return the rows that assemble writes for users that are no longer eligible."""
    names = profiles(1).schema
    row: Mapping[str, Any] = {"bill": [], "search": [], "ages": {}, "tabular": {}, "profile_hash": None}
    return pa.Table.from_pylist([{"user_id": user, **row} for user in user_ids], names)


def assembled(spark: Any, deployment: Deployment, day: date, rows: pa.Table) -> None:
    """Write a day of `user_profiles` and record its run, as assemble does."""
    as_of = pa.array([midnight(day)] * len(rows), pa.timestamp("us", "UTC"))
    with spark_tables.job_run(spark, deployment, "assemble", day) as run:
        run.replace(spark.createDataFrame(rows.append_column("as_of", as_of)).coalesce(1), "user_profiles")
        stored = DeltaTable(deployment.table("user_profiles")).to_pyarrow_table().to_pylist()
        latest = {
            row["user_id"]: row["profile_hash"]
            for row in sorted(stored, key=lambda row: row["day"])
            if row["day"] <= day
        }
        users = sum(profile is not None for profile in latest.values())
        run.handoff = AssembleHandoff(vector_spec=deployment.vector_spec(), users=users)


def make_checkpoint(at: Path, seed: int = 0, focus: str | None = None) -> Path:
    """Write an untrained network of this company, small enough to export in seconds; with focus, it has a head."""
    from model.training.training import initialise

    config = shallow_network_config(focus=focus, head=24 if focus else None)
    config = replace(config, sources=(EventSource(name="bill", max_events=24, max_tokens=16), config.sources[1]))
    users = made_up_profiles(60)
    return initialise(users, made_up_pairs(users), config, at, seed=seed)


def export_release(deployment: Deployment, checkpoint: Path, releases: Path, *, decoder: bool = False) -> Release:
    """Export a checkpoint with the scenarios of a deployment."""
    from model.serving.export import export

    return export(
        checkpoint,
        releases,
        scenarios=scenario_instructions(deployment),
        vector_spec=deployment.vector_spec(),
        deployment=deployment.path.read_text(),
        profiles=made_up_profiles(20),
        decoder=decoder,
    )


@dataclass(frozen=True)
class ReleaseCache:
    """Checkpoints and releases of this company, each made once in a run of the tests."""

    folder: Path

    def checkpoint(self, seed: int = 0, focus: str | None = None) -> Path:
        """Return a checkpoint that no test changes."""
        name = f"checkpoint-{seed}-{focus or 'plain'}"
        return make_once(self.folder / name, lambda folder: make_checkpoint(folder, seed, focus))

    def copy_checkpoint(self, at: Path, seed: int = 0) -> Path:
        """Copy a checkpoint into a folder."""
        return shutil.copytree(self.checkpoint(seed), at)

    def install(
        self, deployment: Deployment, seed: int = 0, *, decoder: bool = False, focus: str | None = None
    ) -> Release:
        """Copy a release of the deployment's scenarios into its folder and make it the current one."""
        key = sha256(f"{deployment.path.read_text()} {seed} {decoder} {focus}".encode()).hexdigest()[:12]
        checkpoint = self.checkpoint(seed, focus)
        releases = make_once(
            self.folder / key, lambda folder: export_release(deployment, checkpoint, folder, decoder=decoder)
        )
        [source] = releases.iterdir()
        copy = shutil.copytree(source, releases_folder(deployment) / source.name)
        promote(deployment, copy)
        return read(copy)
