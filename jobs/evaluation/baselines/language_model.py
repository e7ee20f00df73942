"""A plain language model on profiles rendered as text: the last token's final hidden state, or the mean over tokens.

The model is any pretrained causal language model of transformers, or a small Qwen2-shaped network that is trained on
the rendered training profiles to predict the next token.

Shapes: U texts, B texts of a batch, L tokens of the longest of them, H the model's width.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from transformers import AutoModelForCausalLM, PreTrainedModel, Qwen2Config

from jobs.evaluation.baselines.pretrained import load_pretrained
from model.data.arrays import Floats
from model.data.batching import batches_of_size
from model.data.text import TokenIds, train_language_tokenizer

PRETRAINED = "Qwen/Qwen2.5-0.5B-Instruct"
"""The paper's backbone."""
LONGEST = 4096
"""The number of tokens that a pretrained model reads, from the end of a text."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LanguageSettings:
    """Sizes of our own language model, those of the preset `tiny`'s backbone, and its training."""

    width: int = 128
    layers: int = 2
    heads: int = 4
    feedforward: int = 256
    vocabulary: int = 4096
    longest: int = 1024
    steps: int = 400
    texts_per_step: int = 8
    learning_rate: float = 2e-3


def own_vectors(
    training: Sequence[str], texts: Sequence[str], settings: LanguageSettings, *, seed: int, trained: bool
) -> Floats:
    """Return `hidden_states` of the texts by a model trained on the training texts, or by its fresh weights."""
    tokenizer = train_language_tokenizer(training, settings.vocabulary)
    end = tokenizer.encode("").ids

    def tokens(some: Sequence[str]) -> TokenIds:
        # An empty text becomes the end token.
        return TokenIds.of(
            [
                text.ids[-settings.longest :] or end
                for text in tokenizer.encode_batch_fast(list(some), add_special_tokens=False)
            ]
        )

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(
        Qwen2Config(
            vocab_size=tokenizer.get_vocab_size(),
            hidden_size=settings.width,
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.heads,
            num_key_value_heads=settings.heads,
            intermediate_size=settings.feedforward,
            max_position_embeddings=settings.longest + 1,
            tie_word_embeddings=True,
            initializer_range=settings.width**-0.5,
        )
    )
    if trained:
        _train(model, tokens(training), end, settings, seed)
    return hidden_states(model, tokens(texts))


def pretrained_vectors(texts: Sequence[str], name: str, *, seed: int, trained: bool) -> Floats:
    """Return `hidden_states` of the texts by a model of a folder or hub, or by the same network with fresh weights.

    Raises
    ------
    BaselineError
        There is no such model.
    """
    hint = (
        f"download a causal language model, for example {PRETRAINED}, into a folder, and name it with --language-model"
    )
    tokenizer, model = load_pretrained(AutoModelForCausalLM, name, seed=seed, trained=trained, hint=hint)
    limit = min(LONGEST, getattr(model.config, "max_position_embeddings", LONGEST))
    return hidden_states(model, TokenIds.of([tokenizer(text)["input_ids"][-limit:] for text in texts]))


@torch.inference_mode()
def hidden_states(model: PreTrainedModel, ids: TokenIds, batch_size: int = 16) -> Floats:
    """Return `[U, 2, H]`: for each text the final hidden state of its last token, and the mean over its tokens."""
    model.eval()
    vectors_U2H = np.zeros((len(ids), 2, model.config.hidden_size), dtype=np.float32)
    # Sorted by length for little padding; padding comes last, where a causal model does not attend to it.
    for texts_B in batches_of_size(ids.lengths, batch_size):
        ids_BL, mask_BL = (torch.from_numpy(part) for part in ids.padded(texts_B))
        hidden_BLH = model.base_model(input_ids=ids_BL, attention_mask=mask_BL, use_cache=False).last_hidden_state
        last_BH = hidden_BLH[torch.arange(len(texts_B)), mask_BL.sum(1) - 1]
        mean_BH = (hidden_BLH * mask_BL[:, :, None]).sum(1) / mask_BL.sum(1, keepdim=True)
        vectors_U2H[texts_B] = torch.stack([last_BH, mean_BH], dim=1).float().numpy()
    return vectors_U2H


def _train(model: PreTrainedModel, ids: TokenIds, end: list[int], settings: LanguageSettings, seed: int) -> None:
    """Train to predict the next token of each text and its end token, in batches of similar length in random order."""
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.steps + 1, pct_start=0.1
    )
    closed = TokenIds.of([[*ids[text].tolist(), *end] for text in range(len(ids))])
    batches: list[NDArray[np.int64]] = []
    model.train()
    for step in range(settings.steps):
        if not batches:
            drawn = rng.permutation(len(closed))
            batches = [drawn[batch] for batch in batches_of_size(closed.lengths[drawn], settings.texts_per_step)]
            rng.shuffle(batches)
        ids_BL, mask_BL = (torch.from_numpy(part) for part in closed.padded(batches.pop()))
        hidden_BLH = model.base_model(input_ids=ids_BL, attention_mask=mask_BL, use_cache=False).last_hidden_state
        target_B = mask_BL[:, 1:].bool()
        logits_NV = model.get_output_embeddings()(hidden_BLH[:, :-1][target_B])
        loss = functional.cross_entropy(logits_NV, ids_BL[:, 1:][target_B])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == settings.steps - 1:
            logger.info(f"language model: step {step}, loss {loss.item():.3f}")
