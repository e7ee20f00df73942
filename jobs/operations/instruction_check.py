"""The check of the scenarios' instructions against the questions that the current release was trained on."""

from __future__ import annotations

from jobs.config.deployment import Deployment
from jobs.training.registry import current_release, has_current_release
from model.serving import release as releases
from model.serving.instruction_encoder import InstructionEncoder
from model.serving.release import ReleaseError


def instruction_warnings(deployment: Deployment) -> dict[str, str]:
    """Return by scenario the warning about an instruction that is not understood; none without a release with focus."""
    try:
        release = releases.read(current_release(deployment)) if has_current_release(deployment) else None
    except ReleaseError:  # the jobs that open the release raise it
        return {}
    if release is None or release.focus is None:
        return {}
    encoder = InstructionEncoder(release, providers=deployment.model.providers)
    warnings = {
        scenario.name: encoder.nearest(encoder.encode(scenario.instruction)).warning
        for scenario in deployment.scenarios
    }
    return {name: warning for name, warning in warnings.items() if warning}
