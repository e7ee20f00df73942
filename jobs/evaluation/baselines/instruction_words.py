"""The words of an instruction as a rule without labels: how often each occurs in a user's events, the rarer the more.

The score is the sum over the instruction's words of log(users / users with the word) log(1 + occurrences). Words are
compared in lower case and without a plural's s.

Shapes: U users, W words.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from jobs.evaluation.baselines.hand_made import Features
from model.data.text import WORD


def count_instruction_words(features: Features, sources: Sequence[str], instruction: str) -> NDArray[np.float64] | None:
    """Return a score `[U]` from the word counts among the hand-made features; None where no word occurs."""
    words = {_singular(word) for word in WORD.findall(instruction.lower())}
    counted = [
        number
        for number, name in enumerate(features.names)
        for source, _, word in [name.partition(": ")]
        if source in sources and _singular(word) in words
    ]
    if not counted:
        return None
    logs_UW = features.values[:, counted]  # log(1 + occurrences)
    users_W = (logs_UW > 0).sum(axis=0).clip(min=1)
    return np.asarray(logs_UW @ np.log(len(logs_UW) / users_W))


def _singular(word: str) -> str:
    return word.removesuffix("s")
