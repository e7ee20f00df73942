"""Moments at which a job can be killed, each detected from the files that the job writes."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from jobs.config.deployment import Deployment
from jobs.training.registry import checkpoints_folder, releases_folder

TABLES_WRITTEN = {
    "assemble": ("user_profiles",),
    "userqa": ("training_profiles", "userqa"),
    "embed": ("user_embeddings",),
    "publish": ("user_vectors", "online_users"),
    "train": (),
    "export": (),
}


@dataclass(frozen=True, kw_only=True)
class KillPoint:
    """A moment of a run; `reached` says whether the run has come to it."""

    name: str
    reached: Callable[[], bool]


def kill_points(deployment: Deployment, job: str) -> list[KillPoint]:
    """Return the named moments of a job; call it before the job starts, for it notes the files that exist."""
    points = [point for table in TABLES_WRITTEN[job] for point in _table_points(Path(deployment.table(table)), table)]
    if job in ("assemble", "embed", "publish"):
        points.insert(0, _committed(Path(deployment.table("job_runs")), "job_runs says that it replaces rows"))
    if job == "publish":
        store = Path(deployment.resolve(deployment.store.folder)) / "online.db"
        before = _online_cells(store)
        points.append(
            KillPoint(name="a part of the online store written", reached=lambda: _online_cells(store) > before)
        )
    if job == "train":
        points += list(_training_points(checkpoints_folder(deployment)))
    if job == "export":
        points += list(_export_points(releases_folder(deployment)))
    return points


def _table_points(path: Path, table: str) -> Iterator[KillPoint]:
    log, files = path / "_delta_log", set(path.rglob("*.parquet"))
    version = len([*log.glob("*.json")])

    def written() -> bool:
        return len([*log.glob("*.json")]) == version and bool(set(path.rglob("*.parquet")) - files)

    yield KillPoint(name=f"files of {table} written, not committed", reached=written)
    yield _committed(path, f"{table} committed, job_runs not")


def _committed(path: Path, name: str) -> KillPoint:
    log = path / "_delta_log"
    version = len([*log.glob("*.json")])
    return KillPoint(name=name, reached=lambda: len([*log.glob("*.json")]) > version)


def _training_points(folder: Path) -> Iterator[KillPoint]:
    yield KillPoint(name="a state half written", reached=lambda: any(folder.glob("*/state.part/*")))
    yield KillPoint(name="a state saved", reached=lambda: any(folder.glob("*/state-*")))
    yield KillPoint(
        name="weights written, no config",
        reached=lambda: any(
            not (weights.parent / "config.json").exists() for weights in folder.glob("*/model.safetensors")
        ),
    )


def _export_points(releases: Path) -> Iterator[KillPoint]:
    yield KillPoint(name="a graph of the draft written", reached=lambda: any(releases.glob(".draft-*/*.onnx")))
    yield KillPoint(
        name="the release accepted, not yet current", reached=lambda: any(releases.glob("[!.]*/manifest.json"))
    )


def _online_cells(store: Path) -> int:
    """Return the number of cells in the SQLite store."""
    if not store.exists():
        return 0
    with sqlite3.connect(f"file:{store}?mode=ro", uri=True, timeout=5) as connection:
        try:
            [(name,)] = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' LIMIT 1")
            [(count,)] = connection.execute(f'SELECT count(*) FROM "{name}"')
        except (ValueError, sqlite3.OperationalError):
            return 0  # the table is being created
        return int(count)
