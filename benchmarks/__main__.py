"""Run the benchmarks of speed, each in its own process; this takes an hour or two.

Run `python -m benchmarks`; `--redis HOST:PORT` names an empty Redis that `benchmarks.serve` measures too. Three others
are run by name: `commands` (whole commands), `probe` (the quality of the demo's vectors) and `gpu` (needs a GPU).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = ("one_forward", "packed_training", "embed_job", "second_day", "breakdown", "serve", "assemble_job", "scale")


def main() -> None:
    """Run the benchmarks and exit with an error when one fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--redis", metavar="HOST:PORT", help="an empty Redis")
    redis = parser.parse_args().redis
    options = {"serve": ["--redis", redis]} if redis else {}
    failed = []
    for name in PROGRAMS:
        begin = time.perf_counter()
        print(f"== {name}", flush=True)
        command = [sys.executable, "-W", "ignore", "-m", f"benchmarks.{name}", *options.get(name, [])]
        if subprocess.run(command, cwd=ROOT).returncode:
            failed.append(name)
        print(f"== {name}: {(time.perf_counter() - begin) / 60:.1f} minutes\n", flush=True)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
