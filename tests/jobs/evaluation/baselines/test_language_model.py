"""The plain language model: hidden states against one text at a time, training, and pretrained models."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from jobs.evaluation.baselines import language_model, text_embedder
from jobs.evaluation.baselines.inputs import BaselineError
from model.data.text import TokenIds


def test_hidden_states_are_those_of_the_text_alone() -> None:
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=50,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            intermediate_size=32,
        )
    ).eval()
    texts = [[5, 6, 7, 8], [9], [3, 3, 2]]
    states = language_model.hidden_states(model, TokenIds.of(texts), batch_size=2)
    with torch.inference_mode():
        for text, (last, mean) in zip(texts, states, strict=True):
            alone = model(input_ids=torch.tensor([text]), output_hidden_states=True).hidden_states[-1][0]
            np.testing.assert_allclose(last, alone[-1].numpy(), atol=1e-5)
            np.testing.assert_allclose(mean, alone.mean(0).numpy(), atol=1e-5)


def test_our_language_model_learns_to_predict_the_next_token(caplog: pytest.LogCaptureFixture) -> None:
    texts = [f"{'tea' if number % 2 else 'bus'} then {number % 2}" for number in range(40)]
    settings = language_model.LanguageSettings(width=16, heads=2, feedforward=32, vocabulary=300, steps=60)
    caplog.set_level(logging.INFO, "jobs")
    trained = language_model.own_vectors(texts, texts[:6], settings, seed=0, trained=True)
    first, *_, last = (float(line.rpartition(" ")[2]) for line in caplog.messages)
    assert last < first / 3
    fresh = language_model.own_vectors(texts, texts[:6], settings, seed=0, trained=False)
    assert trained.shape == fresh.shape == (6, 2, 16)
    assert not np.allclose(trained, fresh, atol=0.1)
    np.testing.assert_array_equal(fresh, language_model.own_vectors(texts, texts[:6], settings, seed=0, trained=False))


def test_a_model_that_is_missing_is_named_with_what_to_fetch(tmp_path: Path) -> None:
    with pytest.raises(BaselineError, match=rf"{tmp_path}.*download .* {language_model.PRETRAINED},.*--language-model"):
        language_model.pretrained_vectors(["x"], str(tmp_path), seed=0, trained=True)
    with pytest.raises(BaselineError, match="--text-embedder"):
        text_embedder.vectors(["x"], tmp_path, seed=0, trained=True)


def test_any_causal_language_model_of_a_folder_is_read(tmp_path: Path) -> None:
    AutoTokenizer.from_pretrained(text_embedder.minilm()).save_pretrained(tmp_path)
    torch.manual_seed(1)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=31000,
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            intermediate_size=16,
        )
    )
    model.save_pretrained(tmp_path)
    # The tokenizer of a folder is of the model's class, whatever file it was made from.
    ids = AutoTokenizer.from_pretrained(tmp_path)("tea and a bus")["input_ids"]
    expected = language_model.hidden_states(model, TokenIds.of([ids]))
    states, fresh = (
        language_model.pretrained_vectors(["tea and a bus"], str(tmp_path), seed=0, trained=trained)
        for trained in (True, False)
    )
    np.testing.assert_allclose(states, expected, atol=1e-6)
    assert not np.allclose(states, fresh, atol=0.01)
