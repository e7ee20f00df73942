"""A cache of text vectors, so that a repeated text is not encoded again.

Shapes: T texts, E width of an event vector.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from model.data.arrays import Floats, Ints


class TextVectors:
    """A least-recently-used cache of at most `capacity` vectors: one matrix, and each text's row in it."""

    def __init__(self, capacity: int, width: int) -> None:
        self._rows: OrderedDict[str, int] = OrderedDict()
        self._matrix = np.zeros((capacity, width), np.float32)  # the system allocates its pages at the first write

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, texts: Sequence[str]) -> tuple[Floats, Ints]:
        """Return the cached vectors `[T, E]`, zeros where there is none, and the positions of the missing texts."""
        vectors_TE = np.zeros((len(texts), self._matrix.shape[1]), np.float32)
        row_T = np.fromiter((self._rows.get(text, -1) for text in texts), np.int64, len(texts))
        known_T = row_T >= 0
        vectors_TE[known_T] = self._matrix[row_T[known_T]]
        for text in np.flatnonzero(known_T).tolist():
            self._rows.move_to_end(texts[text])
        return vectors_TE, np.flatnonzero(~known_T)

    def put(self, texts: Sequence[str], vectors_TE: Floats) -> None:
        """Store the vectors of texts that are not in the cache, in place of those that were used least recently."""
        capacity = len(self._matrix)
        texts, vectors_TE = texts[:capacity], vectors_TE[:capacity]
        row_T = np.empty(len(texts), np.int64)
        for index, text in enumerate(texts):
            row = len(self._rows) if len(self._rows) < capacity else self._rows.popitem(last=False)[1]
            self._rows[text] = row_T[index] = row
        self._matrix[row_T] = vectors_TE
