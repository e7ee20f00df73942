"""Every benchmark in turn, each in a process of its own; an hour or two.

python -m benchmarks
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = ("one_forward", "packed_training", "embed_job", "second_day", "breakdown", "serve", "assemble_job", "scale")


def main() -> None:
    failed = []
    for name in PROGRAMS:
        begin = time.perf_counter()
        print(f"== {name}", flush=True)
        if subprocess.run([sys.executable, "-W", "ignore", "-m", f"benchmarks.{name}"], cwd=ROOT).returncode:
            failed.append(name)
        print(f"== {name}: {(time.perf_counter() - begin) / 60:.1f} minutes\n", flush=True)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
