"""Measure the minutes and the peak memory of the project's own commands; `make setup` must have run.

Run `python -m benchmarks.commands demo`, or with `test` or `ci`.
"""

from __future__ import annotations

import argparse
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.report import Row, write

ROOT = Path(__file__).resolve().parents[1]
GIB = 2**30
EVERY_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command and its goals."""

    words: tuple[str, ...]
    minutes: int
    gib: int | None = None


COMMANDS = {
    "demo": Command(words=("make", "demo"), minutes=12, gib=8),
    "test": Command(words=("make", "test"), minutes=20),
    "ci": Command(words=(".ci/run",), minutes=45),
}


def measure(words: tuple[str, ...]) -> tuple[float, int]:
    """Return the seconds and the peak bytes of a command and its descendants, with shared pages split among them."""
    begin, most = time.perf_counter(), 0
    process = subprocess.Popen(words, cwd=ROOT)
    while process.poll() is None:
        most = max(most, memory_bytes(process.pid))
        time.sleep(EVERY_SECONDS)
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} failed with exit status {process.returncode}: nothing is written")
    return time.perf_counter() - begin, most


def memory_bytes(pid: int) -> int:
    """Return the proportional set size of a process and its descendants in bytes."""
    total = 0
    try:
        parent = psutil.Process(pid)
        family = [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for process in family:
        try:
            total += process.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue  # the process ended after it was listed
    return total


def main() -> None:
    """Run a command and write its time and memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=sorted(COMMANDS))
    name = parser.parse_args().command
    command = COMMANDS[name]
    seconds, most = measure(command.words)
    write(
        name,
        [
            Row(name="time", value=seconds / 60, unit="minutes", goal=f"<= {command.minutes}"),
            Row(name="most memory held", value=most / GIB, unit="GiB", goal=f"<= {command.gib}" if command.gib else ""),
        ],
        f"`{' '.join(command.words)}` with its defaults after `make setup`; memory is the sum over all its processes, "
        "read every second, with shared pages split among the processes that share them.",
    )


if __name__ == "__main__":
    main()
