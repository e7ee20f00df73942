"""What the project's own commands take: minutes from call to return, and the most memory that they held.

python -m benchmarks.commands demo      # or test, or ci; `make setup` first
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
    """Seconds, and the most bytes that the command and all its descendants held at once, shared pages split."""
    begin, most = time.perf_counter(), 0
    process = subprocess.Popen(words, cwd=ROOT)
    while process.poll() is None:
        most = max(most, held(process.pid))
        time.sleep(EVERY_SECONDS)
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} failed with exit status {process.returncode}: nothing is written")
    return time.perf_counter() - begin, most


def held(pid: int) -> int:
    """Bytes of proportional set size of a process and its descendants."""
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
            continue  # it ended between the listing and the reading
    return total


def main() -> None:
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
        "looked at every second, shared pages split among those that share them.",
    )


if __name__ == "__main__":
    main()
