"""The MLP on pooled events: its inputs and targets against literal values, and what training adds."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from jobs.evaluation.baselines import pooled_events
from jobs.evaluation.baselines.inputs import BaselineError
from tests.support.baseline_profiles import auc, profile, profiles, two_cut_offs
from tests.support.made_up import AS_OF, made_up_profiles, network_config


def test_what_follows_a_profile_is_what_the_next_cut_off_adds() -> None:
    before = AS_OF - timedelta(days=10)
    training = profiles(
        profile("a", bill=[(12, "old tea"), (10, "tea"), (1, "tea bus")], search=[(3, "films")]),
        profile("nothing new", before, bill=[(12, "tea")]),
        profile("nothing new", bill=[(12, "tea")]),
        profile("a", before, bill=[(12, "old tea")]),
        profile("only once", bill=[(1, "tea")]),
    )
    row_P, next_PV = pooled_events.following(training, ["bill", "search"], min_texts=1)
    assert row_P.tolist() == [3]
    # An event at the cut-off itself comes after it: tea twice, bus and films once.
    np.testing.assert_allclose(np.sort(next_PV.toarray()[0]), [0.25, 0.25, 0.5])
    with pytest.raises(BaselineError, match="two cut-offs"):
        pooled_events.following(training.slice(4), ["bill", "search"], min_texts=1)


def test_pooled_events_are_the_mean_of_their_factors_and_their_count() -> None:
    training = made_up_profiles(60, seed=1, events=6)
    read = pooled_events.Inputs.fit(training, network_config(), pooled_events.PooledSettings(factors=5), seed=0)
    raw_UD = read(training) * read.scale_D + read.mean_D
    texts = [event["text"] for event in training["bill"][5].as_py()]
    expected = read.svd.transform(read.words.transform(texts)).mean(0)
    np.testing.assert_allclose(raw_UD[5, :5], expected, atol=1e-5)
    np.testing.assert_allclose(raw_UD[5, 5], np.log1p(len(texts)), atol=1e-5)
    np.testing.assert_allclose(raw_UD[0, :12], 0, atol=1e-5)  # a user without events


def test_the_pooled_network_is_better_trained_than_untrained() -> None:
    training, scored = two_cut_offs(300, 1, events=8), made_up_profiles(300, seed=2, events=8)
    settings = pooled_events.PooledSettings(steps=200, factors=16, width=32, vector=6)
    trained, fresh = (
        pooled_events.vectors(training, scored, network_config(), settings, seed=0, trained=trained)
        for trained in (True, False)
    )
    assert trained.shape == fresh.shape == (300, 6)
    assert auc(trained, scored) > auc(fresh, scored) + 0.05
