"""What the demo's vectors know of its labels, beside what a person builds by hand; after `make demo`.

python -m benchmarks.probe
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmarks.report import Row, write
from jobs.config.deployment import Deployment
from jobs.evaluation.evaluate import METHODS
from jobs.training.registry import open_release, releases_folder

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    deployment = Deployment.read(ROOT / "conf" / "demo.yaml")
    path = releases_folder(deployment) / "evaluations" / f"{open_release(deployment).path.name}.json"
    if not path.exists():
        raise SystemExit(f"{path} is not there: run `make demo` first")
    evaluated = json.loads(path.read_text(encoding="utf-8"))
    auc = evaluated["auc"]
    mean = {method: float(np.mean([auc[scenario][method] for scenario in auc])) for method in METHODS}
    rival = max(mean["by hand, regression"], mean["by hand, LightGBM"])
    rows = [
        Row(name=f"{scenario}, {method}", value=auc[scenario][method], unit="AUC")
        for scenario in auc
        for method in METHODS
    ]
    rows += [Row(name=f"mean, {method}", value=mean[method], unit="AUC") for method in METHODS]
    rows += [
        Row(name="instructed above universal", value=mean["instructed"] - mean["universal"], goal=">= 0"),
        Row(name="universal above the better by hand", value=mean["universal"] - rival, goal=">= 0"),
        Row(name="instructed above the better by hand", value=mean["instructed"] - rival, goal=">= 0"),
    ]
    halves = evaluated["halves"]
    write(
        "probe",
        rows,
        f"{sum(evaluated['users'].values()):,} labels of {len(auc)} scenarios; logistic regression on "
        f"frozen vectors, half the users to fit and half to score, the mean over {halves} salted halves. By hand: "
        "words, counts, recency and tabular values of the same profiles, on the same halves.",
    )


if __name__ == "__main__":
    main()
