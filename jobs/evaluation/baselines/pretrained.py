"""Load a pretrained model of transformers, or the same network with fresh weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer

from jobs.evaluation.baselines.inputs import BaselineError


def load_pretrained(auto_class: Any, name: str | Path, *, seed: int, trained: bool, hint: str) -> tuple[Any, Any]:
    """Return the tokenizer and the model of a folder or hub id.

    Parameters
    ----------
    auto_class : type
        A class of transformers that loads such a model, for example `AutoModel`.
    trained : bool
        Whether to load the weights; otherwise the seed decides fresh ones.
    hint : str
        What to do when there is no such model.

    Raises
    ------
    BaselineError
        There is no such model.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        if trained:
            return tokenizer, auto_class.from_pretrained(name)
        torch.manual_seed(seed)
        return tokenizer, auto_class.from_config(AutoConfig.from_pretrained(name))
    except (OSError, ValueError) as error:
        raise BaselineError(f"there is no model {str(name)!r} ({str(error).splitlines()[0]}): {hint}") from error
