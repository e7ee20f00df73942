"""The text embedder: a long text against its chunks one by one."""

from __future__ import annotations

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

from jobs.evaluation.baselines import text_embedder


def test_a_long_text_is_embedded_in_chunks_of_which_the_mean_is_taken() -> None:
    long = " ".join(f"tea bus {number}" for number in range(100))
    vectors = text_embedder.vectors([long, "tea"], text_embedder.minilm(), seed=0, trained=True, batch_size=3)
    tokenizer, model = (kind.from_pretrained(text_embedder.minilm()) for kind in (AutoTokenizer, AutoModel))
    ids = tokenizer(long, add_special_tokens=False, verbose=False)["input_ids"]
    assert 254 < len(ids) < 508
    parts = []
    with torch.inference_mode():
        for chunk in (ids[:254], ids[254:]):
            hidden = model(input_ids=torch.tensor([[101, *chunk, 102]])).last_hidden_state[0].mean(0)
            parts.append((hidden / hidden.norm()).numpy())
    expected = np.mean(parts, axis=0)
    np.testing.assert_allclose(vectors[0], expected / np.linalg.norm(expected), atol=1e-5)
    fresh = text_embedder.vectors([long, "tea"], text_embedder.minilm(), seed=0, trained=False)
    assert not np.allclose(vectors, fresh, atol=0.05)
