"""Kill every job of a line again and again, run it to its end, and compare with a twin that nobody disturbed.

    python -m benchmarks.chaos --kills 60 --seed 0

Each kill is a SIGKILL from outside: to the whole run, to its JVM alone or to its Python alone, when the files show that
a point has been reached (rows written and not committed, a store half full, ...) or at a moment drawn by chance.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import psutil
import yaml
from pyspark.sql import SparkSession
from rich.console import Console
from rich.table import Table

from benchmarks import company
from benchmarks.report import Row, write
from benchmarks.twins import Compared, compare
from jobs.config.deployment import Deployment
from jobs.synthetic.generate import generate
from jobs.training.registry import checkpoints_folder, releases_folder

ROOT = Path(__file__).resolve().parents[1]
DAY1, DAY2 = date(2026, 1, 1), date(2026, 1, 2)
LINE = (
    ("assemble", DAY1),
    ("userqa", None),
    ("train", None),
    ("export", None),
    ("embed", DAY1),
    ("publish", DAY1),
    ("assemble", DAY2),
    ("embed", DAY2),
    ("publish", DAY2),
)
WRITES = {
    "assemble": ("user_profiles",),
    "userqa": ("training_profiles", "userqa"),
    "embed": ("user_embeddings",),
    "publish": ("user_vectors", "online_users"),
    "train": (),
    "export": (),
}
VICTIMS = ("all of it", "its JVM", "its Python")
START_SECONDS = 12.0
"""What a fresh process takes before its job begins, about: moments of chance are drawn over this and the job."""
DEAD_SECONDS = 120.0
"""A run whose JVM or Python was killed has so long to end by itself."""

out = Console(width=120)


@dataclass(frozen=True, kw_only=True)
class Point:
    """A moment to kill at: when the files show it, or some seconds after the start."""

    name: str
    reached: Callable[[], bool]


@dataclass(kw_only=True)
class Step:
    """A job of the line, and what was done to it."""

    job: str
    day: date | None
    seconds: float = 0.0
    """Of the undisturbed run, in a session that has started."""
    kills: Counter[str] = field(default_factory=Counter)
    """Kills by `point, victim`."""
    missed: int = 0
    """Runs that ended before their point came."""

    @property
    def words(self) -> list[str]:
        return [self.job] + (["--as-of", str(self.day)] if self.day else [])


class ChaosError(Exception):
    """A run that did not end after its kill, or that failed when nobody disturbed it."""


def chaos(
    spark: SparkSession, at: Path, *, kills: int, seed: int, users: int, jobs: Sequence[tuple[str, date | None]] = LINE
) -> tuple[list[Step], list[Compared]]:
    """Run the line twice, in `at/calm` and in `at/struck`, killing `jobs` in the second; what differs at the end."""
    rng = random.Random(seed)
    calm, struck = (deployment(at / name) for name in ("calm", "struck"))
    steps = [Step(job=job, day=day) for job, day in LINE]
    for step in steps:
        _arrive((calm, struck), step, users)
        begin = time.perf_counter()
        finish(spark, calm, step)
        step.seconds = time.perf_counter() - begin
        if (step.job, step.day) in jobs:
            place = jobs.index((step.job, step.day))
            strike(struck, step, kills // len(jobs) + (place < kills % len(jobs)), rng)
        finish(spark, struck, step)
        out.print(f"{' '.join(step.words)}: {step.kills.total()} kills, then run to its end")
    return steps, compare(calm, struck)


def deployment(at: Path) -> Deployment:
    """The demo's, with a short training and one question of each axis."""
    made = company.deployment(at)
    asked = yaml.safe_load((ROOT / "conf" / "questions" / "demo.yaml").read_text(encoding="utf-8"))
    axes = {question["axis"]: question for question in reversed(asked["questions"]) if "each" not in question}
    asked |= {"questions": [*axes.values()], "general": [[axes["attribute"]["name"]]]}
    (at / "questions.yaml").write_text(yaml.safe_dump(asked, sort_keys=False, allow_unicode=True), encoding="utf-8")
    training = {"steps": 12, "profiles_per_step": 32, "save_every": 3, "validate_every": 6}
    return company.changed(made, model={"training": training}, userqa={"questions": "questions.yaml"})


def _arrive(lakes: Sequence[Deployment], step: Step, users: int) -> None:
    """Before the first job of a day its rows arrive."""
    if step.job == "assemble" and step.day:
        for lake in lakes:
            generate(lake, step.day, users=users)


def finish(spark: SparkSession, deployment: Deployment, step: Step) -> None:
    """Run a job undisturbed, in this session."""
    from jobs.profiles.assemble import assemble
    from jobs.serving.embed import embed
    from jobs.serving.publish import publish
    from jobs.training.export import export
    from jobs.training.train import train
    from jobs.userqa.userqa import userqa

    daily: dict[str, Callable[..., Any]] = {"assemble": assemble, "embed": embed, "publish": publish}
    if step.job in daily:
        daily[step.job](spark, deployment, step.day)
    elif step.job == "userqa":
        userqa(spark, deployment)
    elif step.job == "train":
        train(deployment)
    else:
        export(deployment, promote=True)


def strike(deployment: Deployment, step: Step, kills: int, rng: random.Random) -> None:
    """Start the job in a process of its own and kill it, `kills` times: at its named points, then by chance."""
    turn, order = 0, [*range(len(points(deployment, step)))]
    if kills < len(order):
        order = sorted(rng.sample(order, kills))
    while step.kills.total() < kills:
        point = points(deployment, step)[order[turn]] if turn < len(order) else _by_chance(step, rng)
        victim = rng.choice(VICTIMS if WRITES[step.job] else VICTIMS[:1])
        if _killed_at(deployment, step, point, victim):
            step.kills[f"{point.name}; {victim}"] += 1
        else:
            step.missed += 1
        turn += 1


def points(deployment: Deployment, step: Step) -> list[Point]:
    """The named points of a job, as the lake is before it starts."""
    found = [point for table in WRITES[step.job] for point in _table_points(Path(deployment.table(table)), table)]
    if step.job in ("assemble", "embed", "publish"):
        found.insert(0, _advanced(Path(deployment.table("job_runs")), "job_runs says that it replaces rows"))
    if step.job == "publish":
        store = Path(deployment.resolve(deployment.store.folder)) / "online.db"
        before = _online(store)
        found.append(Point(name="a part of the online store written", reached=lambda: _online(store) > before))
    if step.job == "train":
        found += list(_training_points(checkpoints_folder(deployment)))
    if step.job == "export":
        releases = releases_folder(deployment)
        found.append(Point(name="a graph of the draft written", reached=lambda: any(releases.glob(".draft-*/*.onnx"))))
        found.append(
            Point(
                name="the release accepted, not yet current", reached=lambda: any(releases.glob("[!.]*/manifest.json"))
            )
        )
    return found


def _table_points(path: Path, table: str) -> Iterator[Point]:
    log, files = path / "_delta_log", set(path.rglob("*.parquet"))
    version = len([*log.glob("*.json")])

    def written() -> bool:
        return len([*log.glob("*.json")]) == version and bool(set(path.rglob("*.parquet")) - files)

    yield Point(name=f"files of {table} written, not committed", reached=written)
    yield _advanced(path, f"{table} committed, job_runs not")


def _advanced(path: Path, name: str) -> Point:
    log = path / "_delta_log"
    version = len([*log.glob("*.json")])
    return Point(name=name, reached=lambda: len([*log.glob("*.json")]) > version)


def _training_points(folder: Path) -> Iterator[Point]:
    yield Point(name="a state half written", reached=lambda: any(folder.glob("*/state.part/*")))
    yield Point(name="a state saved", reached=lambda: any(folder.glob("*/state-*")))
    yield Point(
        name="weights written, no config",
        reached=lambda: any(
            not (weights.parent / "config.json").exists() for weights in folder.glob("*/model.safetensors")
        ),
    )


def _online(store: Path) -> int:
    """Cells in the SQLite store."""
    if not store.exists():
        return 0
    with sqlite3.connect(f"file:{store}?mode=ro", uri=True, timeout=5) as connection:
        try:
            [(name,)] = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' LIMIT 1")
            [(count,)] = connection.execute(f'SELECT count(*) FROM "{name}"')
        except (ValueError, sqlite3.OperationalError):
            return 0  # the table is being made
        return int(count)


def _by_chance(step: Step, rng: random.Random) -> Point:
    until = time.monotonic() + rng.uniform(0.5, START_SECONDS + step.seconds)
    return Point(name="a moment of chance", reached=lambda: time.monotonic() >= until)


def _killed_at(deployment: Deployment, step: Step, point: Point, victim: str) -> bool:
    """Whether the run came to the point and was killed there; False where it ended before."""
    process = psutil.Popen(
        [sys.executable, "-m", "jobs", *step.words, "--config", str(deployment.path)],
        cwd=ROOT,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        while not point.reached():
            if process.poll() is not None:
                if process.returncode:
                    raise ChaosError(f"{' '.join(step.words)} failed by itself: {process.stderr.read().decode()}")
                return False
            time.sleep(0.001)
        family = [process, *process.children(recursive=True)]
        _kill(family, victim)
        _, alive = psutil.wait_procs(family, timeout=DEAD_SECONDS)
        if alive:
            raise ChaosError(
                f"{' '.join(step.words)}: {alive} still ran {DEAD_SECONDS:.0f} s after {victim} was "
                f"killed at: {point.name}"
            )
    finally:
        _kill_group(process.pid)
        process.stderr.close()
    return True


def _kill(family: Sequence[psutil.Process], victim: str) -> None:
    for process in family:
        try:
            java = "java" in process.name()
            if victim == "all of it" or java == (victim == "its JVM"):
                process.kill()
        except psutil.NoSuchProcess:
            continue


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def told(steps: Sequence[Step], compared: Sequence[Compared]) -> tuple[Table, Table]:
    """What was done, and what came of it."""
    done = Table("job", "killed", "at; who", title="kills")
    for step in steps:
        for what, count in sorted(step.kills.items()):
            done.add_row(" ".join(step.words), str(count), what)
        if step.missed:
            done.add_row(" ".join(step.words), "0", f"{step.missed} ended before their point came")
    came = Table("compared with the twin", "rows", "differences", "such as", title="what came of it")
    for one in compared:
        came.add_row(one.name, f"{one.rows:,}", str(one.differences), one.example)
    return done, came


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--users", type=int, default=1200)
    arguments = parser.parse_args()
    from jobs.lake.session import get_session

    with tempfile.TemporaryDirectory() as at:
        spark = get_session(deployment(Path(at) / "session"), named=False)
        try:
            steps, compared = chaos(spark, Path(at), kills=arguments.kills, seed=arguments.seed, users=arguments.users)
        finally:
            spark.stop()
    for table in told(steps, compared):
        out.print(table)
    differences = sum(one.differences for one in compared)
    write(
        "chaos",
        [
            Row(name="kills", value=sum(step.kills.total() for step in steps), goal=">= 60"),
            *(Row(name=f"differences in {one.name}, {one.rows:,} rows", value=one.differences) for one in compared),
            Row(name="differences", value=differences, goal="<= 0"),
        ],
        f"Every job of a line of two days over {arguments.users:,} users, killed with SIGKILL and run again, against a "
        f"twin that nobody disturbed; seed {arguments.seed}.",
    )
    sys.exit(bool(differences))


if __name__ == "__main__":
    main()
