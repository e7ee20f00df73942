"""Kill every job of a two-day run repeatedly, finish it, and compare the lake with that of an undisturbed run.

`python -m tests.support.chaos --kills 60 --seed 0` (`make chaos`) kills sixty times and prints two tables. Each kill is
a SIGKILL to the whole process group, to its JVM alone or to its Python processes alone, at a moment of `kill_points` or
at a random one.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import psutil
import yaml
from pyspark.sql import SparkSession
from rich.console import Console
from rich.table import Table

from jobs.config.deployment import Deployment
from jobs.synthetic.generate import generate
from tests.support.kill_points import TABLES_WRITTEN, KillPoint, kill_points
from tests.support.lake_comparison import Comparison, compare

ROOT = Path(__file__).resolve().parents[2]
DAY1, DAY2 = date(2026, 1, 1), date(2026, 1, 2)
STEPS = (
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
TARGETS = ("all of it", "its JVM", "its Python")
START_SECONDS = 12.0
"""About the start-up time of a process; random moments are drawn over this and the job's own time."""
EXIT_SECONDS = 120.0
"""Time in which a run must exit after its JVM or its Python was killed."""


@dataclass(kw_only=True)
class Step:
    """A job of the run and its kills, counted by `point; target`.

    `seconds` is the time of the undisturbed run in a started session; `missed` counts the runs that ended before their
    kill point was reached.
    """

    job: str
    day: date | None
    seconds: float = 0.0
    kills: Counter[str] = field(default_factory=Counter)
    missed: int = 0

    @property
    def command(self) -> list[str]:
        return [self.job] + (["--as-of", str(self.day)] if self.day else [])

    def __str__(self) -> str:
        return " ".join(self.command)


class ChaosError(Exception):
    """A run that did not exit after its kill, or that failed without one."""


def run_chaos(spark: SparkSession, folder: Path, *, kills: int, seed: int, users: int) -> list[Step]:
    """Run all steps in `folder/undisturbed` and in `folder/killed`, and kill the jobs of the second."""
    rng = random.Random(seed)
    undisturbed, killed = (small_deployment(folder / name) for name in ("undisturbed", "killed"))
    steps = [Step(job=job, day=day) for job, day in STEPS]
    for number, step in enumerate(steps):
        if step.job == "assemble" and step.day:
            for lake in (undisturbed, killed):
                generate(lake, step.day, users=users)
        begin = time.perf_counter()
        finish(spark, undisturbed, step)
        step.seconds = time.perf_counter() - begin
        kill_repeatedly(killed, step, kills // len(steps) + (number < kills % len(steps)), rng)
        finish(spark, killed, step)
        print(f"{step}: {step.kills.total()} kills, then a run to the end", flush=True)
    return steps


def small_deployment(folder: Path) -> Deployment:
    """Write conf/demo.yaml with a lake in this folder, 12 training steps and one question of each axis."""
    folder.mkdir(parents=True)
    questions = yaml.safe_load((ROOT / "conf" / "questions" / "demo.yaml").read_text(encoding="utf-8"))
    axes = {question["axis"]: question for question in reversed(questions["questions"]) if "each" not in question}
    questions |= {"questions": [*axes.values()], "general": [[axes["attribute"]["name"]]]}
    (folder / "questions.yaml").write_text(yaml.safe_dump(questions, sort_keys=False), encoding="utf-8")
    content = yaml.safe_load((ROOT / "conf" / "demo.yaml").read_text(encoding="utf-8"))
    content |= {"lake": "lake", "releases": "releases", "store": {"project": "chaos", "folder": "store"}}
    content["userqa"] |= {"questions": "questions.yaml"}
    content["model"]["training"] |= {"steps": 12, "profiles_per_step": 32, "save_every": 3, "validate_every": 6}
    path = folder / "deployment.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return Deployment.read(path)


def finish(spark: SparkSession, deployment: Deployment, step: Step) -> None:
    """Run a step to its end, in this session."""
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


def kill_repeatedly(deployment: Deployment, step: Step, kills: int, rng: random.Random) -> None:
    """Start the job in a process of its own and kill it, `kills` times: at its kill points, then at random moments."""
    order = [*range(len(kill_points(deployment, step.job)))]
    if kills < len(order):
        order = sorted(rng.sample(order, kills))
    turn = 0
    while step.kills.total() < kills:
        point = kill_points(deployment, step.job)[order[turn]] if turn < len(order) else _random_moment(step, rng)
        target = rng.choice(TARGETS if TABLES_WRITTEN[step.job] else TARGETS[:1])
        if _kill_at(deployment, step, point, target):
            step.kills[f"{point.name}; {target}"] += 1
        else:
            step.missed += 1
        turn += 1


def _random_moment(step: Step, rng: random.Random) -> KillPoint:
    until = time.monotonic() + rng.uniform(0.5, START_SECONDS + step.seconds)
    return KillPoint(name="a random moment", reached=lambda: time.monotonic() >= until)


def _kill_at(deployment: Deployment, step: Step, point: KillPoint, target: str) -> bool:
    """Run a step and kill it at this point; return False when it ended before."""
    process = psutil.Popen(
        [sys.executable, "-m", "jobs", *step.command, "--config", str(deployment.path)],
        cwd=ROOT,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        while not point.reached():
            if process.poll() is not None:
                if process.returncode:
                    raise ChaosError(f"{step} failed without a kill: {process.stderr.read().decode()}")
                return False
            time.sleep(0.001)
        family = [process, *process.children(recursive=True)]
        _kill(family, target)
        _, alive = psutil.wait_procs(family, timeout=EXIT_SECONDS)
        if alive:
            raise ChaosError(
                f"{step}: {alive} still run {EXIT_SECONDS:.0f} s after a kill of {target} at: {point.name}"
            )
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.stderr.close()
    return True


def _kill(family: Sequence[psutil.Process], target: str) -> None:
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            is_java = "java" in process.name()
            if target == "all of it" or is_java == (target == "its JVM"):
                process.kill()


def tables(steps: Sequence[Step], comparisons: Sequence[Comparison]) -> tuple[Table, Table]:
    """Return the table of kills and the table of differences."""
    kills = Table("job", "kills", "moment; target", title="kills")
    for step in steps:
        for description, count in sorted(step.kills.items()):
            kills.add_row(str(step), str(count), description)
        if step.missed:
            kills.add_row(str(step), "0", f"{step.missed} ended before their kill point")
    differences = Table("compared", "rows", "differences", "example", title="differences from the undisturbed run")
    for one in comparisons:
        differences.add_row(one.name, f"{one.rows:,}", str(one.differences), one.example)
    return kills, differences


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--users", type=int, default=1200)
    arguments = parser.parse_args()
    from jobs.lake.session import get_session

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spark = get_session(small_deployment(folder / "session"), named=False)
        try:
            steps = run_chaos(spark, folder, kills=arguments.kills, seed=arguments.seed, users=arguments.users)
            lakes = (Deployment.read(folder / lake / "deployment.yaml") for lake in ("undisturbed", "killed"))
            comparisons = compare(*lakes)
        finally:
            spark.stop()
    for table in tables(steps, comparisons):
        Console(width=120).print(table)
    sys.exit(any(one.differences for one in comparisons))


if __name__ == "__main__":
    main()
