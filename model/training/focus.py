"""The constants of a network's focus, set at the end of its training (`model.network.focus`).

Shapes: U sampled profiles, Q distinct instructions, H width of an embedding.
"""

from __future__ import annotations

import numpy as np
import torch

from model.data.text import Tokenizers
from model.errors import ConfigError
from model.network.network import InstructUE
from model.network.tensors import Texts
from model.training.dataset import TrainingDataset
from model.training.universal import sample_profiles, universal_embeddings

QUESTIONS_FILE = "questions.safetensors"
"""A checkpoint's file of the text embeddings of its training's instructions, float32 [H] under each wording."""


def require_instructions(dataset: TrainingDataset) -> None:
    """Raise ConfigError where no pair has an instruction along which an embedding could be stretched."""
    if all(text is None for text in dataset.pairs.instructions):
        raise ConfigError("network.focus measures users along the questions, and no pair has an instruction: add some")


@torch.no_grad()
def fit_focus(
    network: InstructUE, dataset: TrainingDataset, texts: Texts, tokenizers: Tokenizers, seed: int
) -> dict[str, np.ndarray]:
    """Set mean and scale of a trained network; return the text embedding of each distinct instruction, float32 [H].

    The scale is L / sd. L is the root mean square length of the centred embeddings, sd the median over the instructions
    of the centred embeddings' standard deviation along the instruction. The vector added for a typical instruction is
    then as long as a centred embedding. For an instruction along which users differ less, it is shorter.
    """
    focus = network.eval().focus
    assert focus is not None
    focus.user.fill_(tokenizers.user)
    focus.end.fill_(tokenizers.end)
    users_U = sample_profiles(dataset, seed)
    universal_UH = universal_embeddings(network, dataset, texts, users_U, tokenizers.user)
    focus.mean_H.copy_(universal_UH.mean(0))
    centred_UH = universal_UH - focus.mean_H
    instructions = {number: text for number, text in enumerate(dataset.pairs.instructions) if text is not None}
    directions_QH = network.encode_answers(dataset.instruction_text_ids, np.array([*instructions]))
    spread_Q = (centred_UH @ directions_QH.T).square().mean(0).sqrt()
    length = centred_UH.square().sum(-1).mean().sqrt()
    focus.scale.copy_(length / spread_Q.median().clamp(min=1e-6))
    return dict(zip(instructions.values(), directions_QH.float().cpu().numpy(), strict=True))
