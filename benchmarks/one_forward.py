"""Measure six scenarios of a user in one forward, against six forwards of the same graph.

Run `python -m benchmarks.one_forward --users 1000`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import company
from benchmarks.report import Row, write
from jobs.config.deployment import Deployment
from model.data.arrays import Floats
from model.serving.onnx_runtime import Runtime

REPEATS = 3


def measure(runtime: Runtime, deployment: Deployment, users: int) -> tuple[float, float, float, dict[str, float]]:
    """Return users per second in one forward and in six, the smallest cosine between both, and the shapes."""
    rows = company.profiles(deployment, users, seed=1)
    scenarios = [scenario.name for scenario in deployment.scenarios]
    runtime.embed(rows, scenarios[:1])  # so that neither measurement encodes texts
    one, six = [], []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        together_UKH = runtime.embed(rows, scenarios)
        middle = time.perf_counter()
        apart_UKH: Floats = np.concatenate([runtime.embed(rows, [scenario]) for scenario in scenarios], axis=1)
        one.append(middle - begin)
        six.append(time.perf_counter() - middle)
    cosine = float(np.einsum("ukh,ukh->uk", together_UKH, apart_UKH).min())
    events = sum(len(rows[source.name].combine_chunks().flatten()) for source in deployment.sources)
    instructions = runtime.release.vectors()
    shapes = {"events": events / users, "instruction": float(np.mean([len(instructions[name]) for name in scenarios]))}
    return users / min(one), users / min(six), cosine, shapes


def main() -> None:
    """Measure both ways and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=1000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        deployment = company.deployment(Path(folder))
        one, six, cosine, shapes = measure(Runtime(company.release(deployment)), deployment, arguments.users)
    write(
        "one_forward",
        [
            Row(name="six scenarios in one forward", value=one, unit="users/s"),
            Row(name="six forwards of the same graph", value=six, unit="users/s"),
            Row(name="ratio", value=one / six, goal=">= 3"),
            Row(name="least cosine between the two", value=cosine, goal=">= 0.9999"),
        ],
        f"{arguments.users:,} users of the demo's shape, {shapes['events']:.0f} events and six instructions of "
        f"{shapes['instruction']:.0f} tokens each, the preset tiny on onnxruntime's CPU; the best of {REPEATS} "
        "runs each way, in turn. Event texts are encoded beforehand in both.",
    )


if __name__ == "__main__":
    main()
