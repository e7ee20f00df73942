"""Scores and figures, against literal values."""

from __future__ import annotations

from jobs.evaluation.scores import unconverged


def test_fits_at_the_iteration_limit_are_a_note() -> None:
    score = {"scenario": "food", "method": "manual", "auc": 0.5, "fits": 19, "unconverged": 0}
    failed = {"scenario": "films", "method": "manual", "why": "too few users"}
    assert unconverged([score, failed]) is None
    assert unconverged([score, failed, score | {"unconverged": 2, "fits": 1000}]) == (
        "logistic regressions that reached the limit of 3,000 iterations: food, manual: 2 of 1,019"
    )
