"""Show how well the demo's vectors predict its labels, beside hand-made features; `make demo` must have run.

Run `python -m benchmarks.probe`.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmarks.report import Row, write
from jobs.config.deployment import Deployment
from jobs.evaluation.evaluate import BASELINES, METHODS
from jobs.training.registry import open_release, releases_folder

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Read the evaluation of the current release and write its means."""
    deployment = Deployment.read(ROOT / "conf" / "demo.yaml")
    path = releases_folder(deployment) / "evaluations" / f"{open_release(deployment).path.name}.json"
    if not path.exists():
        raise SystemExit(f"there is no {path}: run `make demo` first")
    evaluation = json.loads(path.read_text(encoding="utf-8"))
    auc = evaluation["auc"]
    mean = {method: float(np.mean([auc[scenario][method] for scenario in auc])) for method in METHODS}
    baseline = max(mean[method] for method in BASELINES)
    rows = [
        Row(name=f"{scenario}, {method}", value=auc[scenario][method], unit="AUC")
        for scenario in auc
        for method in METHODS
    ]
    rows += [Row(name=f"mean, {method}", value=mean[method], unit="AUC") for method in METHODS]
    rows += [
        Row(name="manual less universal", value=mean["manual"] - mean["universal"], goal=">= 0"),
        Row(name="universal less the best baseline", value=mean["universal"] - baseline, goal=">= 0"),
        Row(name="manual less the best baseline", value=mean["manual"] - baseline, goal=">= 0"),
    ]
    write(
        "probe",
        rows,
        f"{sum(evaluation['users'].values()):,} labels of {len(auc)} scenarios; logistic regression on "
        f"frozen vectors, half the users to fit and half to score, the mean over {evaluation['splits']} splits. "
        "Hand-made features are words, counts, recency and tabular values of the same profiles, on the same splits.",
    )


if __name__ == "__main__":
    main()
