"""A checkpoint says how well it answers its own questions on validation users."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from model.network.inference import embed
from model.training.checkpoint import load_checkpoint, read_metrics
from model.training.training import initialise
from tests.support.made_up import shallow_network_config, yes_no_tables


def test_answers_are_ranked_between_users_of_one_cut_off(tmp_path):
    profiles, pairs = yes_no_tables(90, events=6.0)
    at = initialise(profiles, pairs, shallow_network_config(), tmp_path / "checkpoint")
    network, tokenizers, _ = load_checkpoint(at)
    vectors = dict(
        zip(profiles["user_id"].to_pylist(), embed(network, tokenizers, profiles, [None])[:, 0], strict=True)
    )
    rows = [row for row in pairs.to_pylist() if row["split"] == "validation" and row["instruction"]]
    scores = read_metrics(at)["questions"]
    assert scores.keys() == {row["question"] for row in rows}
    assert len(scores) == 6
    for question, score in scores.items():
        of_question = [row for row in rows if row["question"] == question]
        ordered, compared = 0.0, 0
        for answer in {row["answer"] for row in of_question if not row["is_none"]}:
            ids = tokenizers.answer_ids([answer])
            direction = network.encode_answers(ids, np.arange(1))[0].detach().numpy()
            for one, other in itertools.product(of_question, of_question):
                if one["answer"] == answer != other["answer"] and one["as_of"] == other["as_of"]:
                    ordered += vectors[one["user_id"]] @ direction > vectors[other["user_id"]] @ direction
                    compared += 1
        assert score == {"auc": pytest.approx(ordered / compared, abs=1e-3), "users": len(of_question)}
