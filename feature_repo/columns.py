"""The columns of `user_vectors`, which are the features of the view."""

from __future__ import annotations

from collections.abc import Iterable


def scenario_columns(scenario: str) -> tuple[str, str, str]:
    """Return the names of a scenario's columns: vector, model version, as_of."""
    return scenario, f"{scenario}_model_version", f"{scenario}_as_of"


def feature_names(scenarios: Iterable[str]) -> list[str]:
    """Return the name of every feature, scenario by scenario."""
    return [name for scenario in scenarios for name in scenario_columns(scenario)]
