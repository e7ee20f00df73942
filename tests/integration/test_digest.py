"""A small pipeline computes what it has computed since `digest.json` was written.

The digest was made before the code was arranged in rooms, so the test proves that no later arrangement changes a
table, a loss or a vector. A change that is meant to change them writes the digest again and says so in its commit:

    INSTRUCTUE_WRITE_DIGEST=1 .venv/bin/pytest tests/integration/test_digest.py
"""

from __future__ import annotations

import json
import os
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from jobs.config.deployment import Deployment
from jobs.profiles.assemble import assemble
from jobs.serving.embed import embed
from jobs.serving.publish import publish
from jobs.synthetic.generate import generate
from jobs.training.export import export
from jobs.training.registry import current_checkpoint
from jobs.training.train import train
from jobs.userqa.userqa import userqa
from tests.support.digest import digest

CONF = Path(__file__).parents[2] / "conf"
STORED = Path(__file__).with_name("digest.json")
QUESTIONS = Path(__file__).with_name("digest_questions.yaml")
USERS = 100
SCENARIOS = 6
"""The first scenarios of the demo: the others are newer than the digest."""
DAY1, DAY2 = date(2026, 1, 1), date(2026, 1, 2)
TRAINING = {
    "steps": 6,
    "profiles_per_step": 32,
    "instructed_pairs": 3,
    "learning_rate": 5e-4,
    "encoder_rate": 0,
    "validate_every": 3,
}


def deploy(folder: Path) -> Deployment:
    """Write the demo's deployment file with its data in `folder`, and the questions and scenarios of the digest."""
    content = yaml.safe_load((CONF / "demo.yaml").read_text(encoding="utf-8"))
    content |= {
        "lake": "lake",
        "releases": "releases",
        "store": {"project": "digest", "folder": "store"},
        "scenarios": content["scenarios"][:SCENARIOS],
        "userqa": {"questions": str(QUESTIONS), "as_of": ["2025-10-01", "2025-12-01"]},
        "model": {"preset": "tiny", "training": TRAINING},
    }
    path = folder / "deployment.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return Deployment.read(path)


def run_pipeline(spark: Any, deployment: Deployment) -> dict[str, Any]:
    """Run every job for two days and return the digest of what they wrote."""
    generate(deployment, DAY1, users=USERS)
    assemble(spark, deployment, DAY1)
    userqa(spark, deployment)
    train(deployment)
    export(deployment, promote=True)
    embed(spark, deployment, DAY1)
    publish(spark, deployment, DAY1)
    generate(deployment, DAY2, users=USERS)
    assemble(spark, deployment, DAY2)
    embed(spark, deployment, DAY2)
    publish(spark, deployment, DAY2)
    return digest(Path(deployment.resolve(deployment.lake)), current_checkpoint(deployment))


@pytest.mark.slow
def test_the_pipeline_computes_what_it_computed_before(spark: Any, tmp_path: Path) -> None:
    result = run_pipeline(spark, deploy(tmp_path))
    if os.environ.get("INSTRUCTUE_WRITE_DIGEST"):
        STORED.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    expected = json.loads(STORED.read_text(encoding="utf-8"))
    assert [step.keys() for step in result["losses"]] == [step.keys() for step in expected["losses"]]
    for step, expected_step in zip(result["losses"], expected["losses"], strict=True):
        assert step == pytest.approx(expected_step, rel=1e-3)
    vectors, expected_vectors = result["vectors"], expected["vectors"]
    assert vectors.keys() == expected_vectors.keys()
    for key, vector in vectors.items():
        norms = np.linalg.norm(vector) * np.linalg.norm(expected_vectors[key])
        assert np.dot(vector, expected_vectors[key]) / norms >= 0.9999, key
    exact = result.keys() - {"losses", "vectors"}
    assert {key: result[key] for key in exact} == {key: expected[key] for key in exact}
