"""Where training starts: word vectors against a literal factorisation, adapters that see differences alone."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.sparse import csr_matrix

from model.data.pairs import read_pairs
from model.network.inference import embed
from model.network.network import InstructUE
from model.training.dataset import prepare_dataset
from model.training.training_config import TrainingConfig
from model.training.warm_start import COMPONENT_LENGTH, warm_start
from model.training.word_vectors import (
    FACTORS,
    QUESTION_FACTORS,
    RIDGE,
    WORD_SCALE,
    answer_indicators,
    question_word_vectors,
    word_vectors,
)
from tests.support.made_up import made_up_pairs, made_up_profiles, network_config, yes_no_tables


def test_word_vectors_are_the_singular_vectors_of_tf_idf():
    rng = np.random.default_rng(0)
    counts = rng.poisson(0.7, (200, 12)) * (rng.random(12) < 0.9)
    counts[:, 3] = 1  # every user has it
    counts[5:, 4] = 0  # few users have it
    result = word_vectors(csr_matrix(counts), 12)
    having = (counts > 0).sum(0)
    idf = np.where((having >= 10) & (having <= 180), np.log(200 / (1 + having)), 0)
    _, size, right = np.linalg.svd(np.log1p(counts) * idf, full_matrices=False)
    expected = (right.T * size) * idf[:, None]
    scale = WORD_SCALE / np.sqrt((counts.sum(0)[:, None] * expected**2).sum() / (counts.sum() * 12))
    # Turned at random: what stays is how words lie to one another.
    np.testing.assert_allclose(result @ result.T, expected @ expected.T * scale**2, rtol=1e-3, atol=1e-4)
    assert np.linalg.matrix_rank(word_vectors(csr_matrix(rng.poisson(0.7, (200, 40))), 64)) == FACTORS
    assert not result[[3, 4]].any()


def test_question_word_vectors_are_a_ridge_of_reduced_rank():
    """Each answer regressed on users' tf-idf by itself, and the predictions factored by an SVD over the users."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(0.7, (300, 40)) * (rng.random(40) < 0.9)
    counts[:, 3] = 1  # every user has it
    counts[5:, 4] = 0  # few users have it
    when = rng.integers(0, 2, 300)
    answers = rng.normal(size=(300, 30)) + counts[:, :30] + 3.0 * when[:, None]
    result = question_word_vectors(csr_matrix(counts), answers, when, 64)

    having = (counts > 0).sum(0)
    idf = np.where((having >= 10) & (having <= 270), np.log(300 / (1 + having)), 0)
    rows = np.log1p(counts) * idf
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12)
    for cut_off in (0, 1):
        rows[when == cut_off] -= rows[when == cut_off].mean(0)
        answers[when == cut_off] -= answers[when == cut_off].mean(0)
    stacked = np.concatenate([rows, np.sqrt(RIDGE) * np.eye(40)])
    weights = [np.linalg.lstsq(stacked, np.append(column, np.zeros(40)), rcond=None)[0] for column in answers.T]
    ridge = np.stack(weights, axis=1)
    _, _, right = np.linalg.svd(rows @ ridge, full_matrices=False)
    expected = (ridge @ right[:QUESTION_FACTORS].T) * idf[:, None]
    scale = WORD_SCALE / np.sqrt((counts.sum(0)[:, None] * expected**2).sum() / (counts.sum() * 64))
    np.testing.assert_allclose(result @ result.T, expected @ expected.T * scale**2, rtol=1e-3, atol=1e-5)
    assert np.linalg.matrix_rank(result) == QUESTION_FACTORS
    assert not result[[3, 4]].any()


def test_a_ridge_takes_the_tokens_of_the_most_users(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("model.training.word_vectors.MOST_TOKENS", 5)
    rng = np.random.default_rng(0)
    counts = (rng.random((300, 40)) < np.linspace(0.95, 0.1, 40)).astype(int)
    result = question_word_vectors(csr_matrix(counts), rng.normal(size=(300, 3)), np.zeros(300, int), 64)
    having = (counts > 0).sum(0)
    most = sorted((users, token) for token, users in enumerate(having) if users <= 270)[-5:]
    assert set(np.flatnonzero(result.any(axis=1))) == {token for _, token in most}


def test_answer_indicators_are_standardised_over_the_profiles_that_were_asked(monkeypatch: pytest.MonkeyPatch):
    """All users like the first interest, so no answer about it can be predicted."""
    profiles, written = yes_no_tables(60)
    answers = [
        {**row, "answer": "Yes.", "is_none": False} if row["question"] == "likes_0" else row
        for row in written.to_pylist()
    ]
    table, pairs = read_pairs(profiles, pa.Table.from_pylist(answers, written.schema), "train")
    rows = {(row["user_id"], row["question"]): row["answer"] for row in answers}
    result, numbers = answer_indicators(pairs)
    assert result.shape == (len(table), 5)
    columns = []
    for question in range(1, 6):
        answers = [rows.get((user, f"likes_{question}")) for user in table["user_id"].to_pylist()]
        yes = np.array([answer.startswith("Yes") for answer in answers if answer])
        standardised = iter((yes - yes.mean()) / yes.std())
        columns.append([next(standardised) if answer else 0.0 for answer in answers])
    np.testing.assert_allclose(sorted(result.T.tolist()), sorted(columns))
    assert len({*numbers}) == 5
    assert (result == 0).any()
    monkeypatch.setattr("model.training.word_vectors.MIN_ANSWER_SHARE", 0.49)
    assert answer_indicators(pairs)[0].shape == (len(table), 0)


@pytest.mark.parametrize("switches", [{}, {"shared_encoder": True}, {"pooled_tokens": False}, {"adapter": "linear"}])
def test_adapters_see_how_events_differ(switches):
    profiles = made_up_profiles(80)
    training = TrainingConfig(profiles_per_step=60)
    config, _, dataset, _ = prepare_dataset(profiles, made_up_pairs(profiles), network_config(**switches), training)
    torch.manual_seed(0)
    network = InstructUE(config)
    users = np.arange(60)
    before = network.get_parameter("encoders.0.bert.embeddings.word_embeddings.weight").clone()
    warm_start(network, dataset, users)
    after = network.get_parameter("encoders.0.bert.embeddings.word_embeddings.weight")
    assert (after != before).any(dim=1).sum() >= 5
    if "adapter" in switches:
        return
    with torch.no_grad():
        profile = network.eval().profile_tensors(dataset.profiles.batch(users), dataset.event_ids)
        for number, (events, mask) in enumerate(zip(profile.events_BNE, profile.masks_BN, strict=True)):
            seen = network.get_submodule(f"source_adapters.{number}.0")(events[mask > 0])
            assert seen.mean(0).abs().max() < 1e-3
            assert (seen.std(0) - 1).abs().max() < 1e-2


def test_the_tabular_token_begins_as_principal_components_and_is_looked_at():
    profiles = made_up_profiles(80)
    config, _, dataset, _ = prepare_dataset(profiles, made_up_pairs(profiles), network_config(), TrainingConfig())
    torch.manual_seed(0)
    network, users = InstructUE(config), np.arange(60)
    warm_start(network, dataset, users, tabular_attention=9.0)
    with torch.no_grad():
        profile = network.eval().profile_tensors(dataset.profiles.batch(users), dataset.event_ids)
        features = network.tabular_features(profile).numpy()
        rows = (features - features.mean(1, keepdims=True)) / np.sqrt(features.var(1, keepdims=True) + 1e-5)
        rows = (rows - rows.mean(0)) / rows.std(0, ddof=1).clip(1e-3)
        left, size, _ = np.linalg.svd(rows, full_matrices=False)
        expected = (left * size)[:, : network.config.backbone.width - 1]
        tokens = network.tabular_adapter(network.tabular_features(profile)).numpy()
        common = np.resize([1, -1], tokens.shape[1])
        result = tokens - common
        np.testing.assert_allclose(result @ common, 0, atol=0.05)
        assert np.sqrt((result**2).sum(1).mean()) == pytest.approx(COMPONENT_LENGTH * len(common) ** 0.5, rel=0.01)
        gram = expected @ expected.T
        np.testing.assert_allclose(result @ result.T, gram * (np.trace(result @ result.T) / np.trace(gram)), atol=0.02)

        # Attention before positions are turned, of the first layer: the tabular token is the last but one.
        tokens, mask = network.read_profile(profile)
        layer = network.decoder.layers[0]
        normed, head = layer.input_layernorm(tokens), layer.self_attn.head_dim
        queries = layer.self_attn.q_proj(normed).unflatten(-1, (-1, head))
        keys = layer.self_attn.k_proj(normed).unflatten(-1, (-1, head))
        keys = keys.repeat_interleave(queries.shape[2] // keys.shape[2], dim=2)
        logits = torch.einsum("bqhd,bkhd->bhqk", queries, keys) / head**0.5
        others = logits[..., :-3].masked_fill(~(mask[:, None, None, :-3] > 0), torch.nan).nanmean(-1)
        assert (logits[..., -2] - others).mean().exp().item() == pytest.approx(9, rel=0.25)


@pytest.mark.parametrize("of_questions", [False, True])
def test_an_untrained_network_hands_on_what_words_say(of_questions: bool):
    """Users who share an interest lie closer than others before a single step, and do not from random weights."""
    profiles, pairs = yes_no_tables(120)
    config, tokenizers, dataset, _ = prepare_dataset(
        profiles, pairs, network_config(), TrainingConfig(profiles_per_step=100)
    )
    torch.manual_seed(0)
    network = InstructUE(config)
    users = np.arange(len(dataset.profiles))
    interest = np.array(profiles["interest"].to_pylist())
    same = (interest[:, None] == interest) & ~np.eye(len(interest), dtype=bool)

    def nearest_share() -> float:
        vectors = embed(network, tokenizers, profiles, [None])[:, 0]
        vectors = vectors - vectors.mean(axis=0)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        close = vectors @ vectors.T - 2 * np.eye(len(vectors))
        return float(np.take_along_axis(same, np.argsort(-close, axis=1)[:, :3], axis=1).mean())

    random = nearest_share()
    warm_start(network, dataset, users, of_questions=of_questions)
    assert nearest_share() > random + 0.2
