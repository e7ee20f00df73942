"""Moments at which a job can be killed, each detected from the files that the job writes."""

from __future__ import annotations

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
MIN_LOG_BYTES = 50_000
"""More than the write-ahead log of the online store has before users are written."""


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
        log = Path(deployment.resolve(deployment.store.folder)) / "online.db-wal"
        before = _log_writes(log)
        points.append(
            KillPoint(name="a part of the online store written", reached=lambda: _log_writes(log) not in (0, before))
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


def _log_writes(log: Path) -> int:
    """Return a number that changes with every write to a log of at least `MIN_LOG_BYTES`; 0 before.

    SQLite itself must not read the store here: a read-only connection maps a file that the job truncates.
    """
    try:
        status = log.stat()
    except FileNotFoundError:
        return 0
    return status.st_mtime_ns if status.st_size >= MIN_LOG_BYTES else 0
