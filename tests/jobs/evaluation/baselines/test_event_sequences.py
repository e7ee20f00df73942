"""CPC and CoLES: the codes of a sequence against literal values, and what training adds."""

from __future__ import annotations

import os
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.evaluation.baselines import event_sequences
from jobs.evaluation.baselines.inputs import LIFESTREAM_PYTHON, BaselineError
from model.data.config import EventSource, Tabular
from tests.support.baseline_profiles import auc, profile, profiles, two_cut_offs
from tests.support.made_up import made_up_profiles, network_config

LIFESTREAM = Path(os.environ.get("LIFESTREAM_PYTHON", LIFESTREAM_PYTHON))
CONFIG = replace(
    network_config(),
    tabular=Tabular(),
    sources=(
        EventSource(name="search", max_events=5, max_tokens=8),
        EventSource(name="bill", max_events=2, max_tokens=16),
    ),
)


def test_a_sequence_holds_the_last_events_of_all_sources_in_the_order_of_time() -> None:
    sequences = event_sequences.Sequences.of(
        profiles(
            profile("a", bill=[(9, "left out"), (4, "tea: green, ~8"), (1, "bus")], search=[(2.5, "films/new")]),
            profile("nobody"),
            profile("b", search=[(1, "x")]),
        ),
        CONFIG,
    )
    assert sequences.offsets_U1.tolist() == [0, 3, 4, 5]
    assert sequences.codes_EC[:, 0].tolist() == [2, 1, 2, 0, 1]
    assert sequences.gap_E.tolist() == [0, 1.5, 1.5, 0, 0]
    assert sequences.age_E.tolist() == [4, 2.5, 1, 0, 1]

    def code(text: str) -> int:
        return 1 + zlib.crc32(text.encode()) % 4095

    first = [code(text) for text in ("tea: green, ~8", "tea", "green", "~8")]
    assert sequences.codes_EC[0, 1:].tolist() == first + [0] * 3
    assert sequences.codes_EC[1, 1:].tolist() == [code(text) for text in ("films/new", "films", "new")] + [0] * 4
    assert sequences.codes_EC[3].tolist() == [0] * 8


def test_an_environment_that_is_missing_is_named() -> None:
    table = profiles(profile("a"))
    with pytest.raises(BaselineError, match=r"no /nowhere/python.*uv venv.*requirements\.txt"):
        event_sequences.vectors(
            table,
            table,
            CONFIG,
            event_sequences.SequenceSettings(),
            method="cpc",
            python="/nowhere/python",
            seed=0,
            trained=False,
        )


@pytest.mark.skipif(
    not LIFESTREAM.exists(),
    reason=f"no environment with pytorch-lifestream at {LIFESTREAM}: "
    "docs/baselines.md describes how to create one, LIFESTREAM_PYTHON names another",
)
@pytest.mark.parametrize("method", ["coles", "cpc"])
def test_a_sequence_encoder_is_better_trained_than_untrained(method: str) -> None:
    training, scored = two_cut_offs(300, 1, events=12), made_up_profiles(300, seed=2, events=12)
    trained, fresh = (
        event_sequences.vectors(
            training,
            scored,
            network_config(),
            event_sequences.SequenceSettings(epochs=4),
            method=method,
            python=LIFESTREAM,
            seed=0,
            trained=trained,
        )
        for trained in (True, False)
    )
    assert trained.shape == (300, 128)
    assert auc(trained, scored) > auc(fresh, scored) + 0.03
