"""The gate of `promote`: the figures of a release's evaluation are not below `promote.least_auc`.

`evaluate` writes them under `gate` of `evaluations/<release>.json`: by the number of labels, the mean over scenarios of
the AUC of the similarity to the instruction (0), of class prototypes (16, 64, 256) and of a regression (all). A
release's name is a hash of its contents, so the file belongs to this release.
"""

from __future__ import annotations

import json
from pathlib import Path

from jobs.config.deployment import Deployment
from model.serving.release import ReleaseError


class GateError(ReleaseError):
    """A release that is not good enough to be promoted, or was not evaluated."""


def evaluation_file(releases: Path, release: str) -> Path:
    """Return the file of a release's evaluation in a folder of releases."""
    return releases / "evaluations" / f"{release}.json"


def check_gate(deployment: Deployment, releases: Path, release: str) -> None:
    """Refuse a release by the figures of its last evaluation.

    Raises
    ------
    GateError
        A figure is below the deployment's, or missing.
    """
    least = deployment.promote.least_auc
    if not least:
        return
    try:
        content = json.loads(evaluation_file(releases, release).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        content = {}
    figures = content.get("worth", {}).get("gate", {})
    failed = [
        f"with {labels} labels: {figures.get(labels, 'not measured')}, at least {share}"
        for labels, share in least.items()
        if not figures.get(labels, 0) >= share
    ]
    if failed:
        raise GateError(
            f"{deployment.path}: promote.least_auc refuses release {release}; AUC " + "; ".join(failed) + "; run "
            f"`instructue evaluate --release {release}`, promote a better release, or lower the figures"
        )
