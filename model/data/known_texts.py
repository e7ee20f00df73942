"""The texts that a release with a pretrained instruction encoder knows, and an instruction's direction by attention.

    w = normalise(sum_n softmax_n((k_n . q - b_n) / TEMPERATURE) v_n)

q is the instruction's sentence embedding minus the mean of the training's questions, of unit length. The known texts
are the questions and the event texts of the training. k_n is the sentence embedding of text n minus the mean of its
kind, of unit length: questions resemble each other by their wording, and event texts by their template. v_n is the text
embedding of a question, or the direction of the users who have an event text (`model.training.known_texts`). b_n is
MARGIN for a question and 0 for an event text: two questions about different subjects are more alike than an instruction
and an event text about the same subject.

Shapes: T instructions, N known texts, D width of a sentence embedding, H width of an embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from model.data.arrays import Floats
from model.errors import InstructUEError

TEMPERATURE = 0.05
MARGIN = 0.15
KEYS, VALUES, MEAN, QUESTIONS = "keys", "values", "mean", "questions"


class KnownTextsError(InstructUEError):
    """A file of known texts that cannot be read."""


@dataclass(frozen=True, kw_only=True)
class KnownTexts:
    """Questions, and event texts behind them: the keys and values of the attention."""

    questions: int
    """How many of the texts are questions."""
    keys_ND: Floats
    values_NH: Floats
    mean_D: Floats
    """The mean sentence embedding of the questions."""

    def directions(self, sentences_TD: Floats) -> Floats:
        """Return the unit direction of each sentence embedding, float32 [T, H]."""
        likeness_TN = unit(sentences_TD - self.mean_D) @ self.keys_ND.T
        likeness_TN[:, : self.questions] -= MARGIN
        weight_TN = np.exp((likeness_TN - likeness_TN.max(axis=1, keepdims=True)) / TEMPERATURE)
        return unit(weight_TN @ self.values_NH)

    @classmethod
    def read(cls, path: Path) -> KnownTexts:
        """Read the file that `write` wrote.

        Raises
        ------
        KnownTextsError
            The file is missing or broken.
        """
        try:
            with safe_open(path, framework="numpy") as file:
                questions = int(file.metadata()[QUESTIONS])
                keys_ND, values_NH, mean_D = (file.get_tensor(name) for name in (KEYS, VALUES, MEAN))
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise KnownTextsError(f"{path} cannot be read ({error}): train and export again") from None
        return cls(questions=questions, keys_ND=keys_ND, values_NH=values_NH, mean_D=mean_D)

    def write(self, path: Path) -> None:
        """Write the arrays; no text is written in words."""
        arrays = {KEYS: self.keys_ND, VALUES: self.values_NH, MEAN: self.mean_D}
        path.write_bytes(save(arrays, metadata={QUESTIONS: str(self.questions)}))


def unit(vectors: Floats) -> Floats:
    """Return the vectors with length 1 along the last axis, float32; zeros stay zeros."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, 1e-12), dtype=np.float32)
