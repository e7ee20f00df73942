"""The functions `focus` and `score` of Spark's Python workers: stored vectors and instructions in, a value each out.

The driver sends only the path of the release; a worker opens its text graph once and keeps it. A worker imports neither
Delta nor torch, and vectors stay in Arrow memory.

Shapes: N rows, U of them without a null, H width of an embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.data.arrays import Floats, equal_lists
from model.serving.instruction_encoder import InstructionEncoder, InstructionError, focus
from model.serving.release import read

Batches = Iterator[tuple[pa.Array, ...]]


@dataclass(frozen=True, kw_only=True)
class InstructionFunction:
    """A function of the columns embedding and instruction.

    Attributes
    ----------
    name : str
        `focus` or `score`.
    release : str
        The release's folder; every worker must see it under this path.
    providers : tuple of str
        onnxruntime's execution providers.
    """

    name: str
    release: str
    providers: tuple[str, ...]

    def function(self) -> Callable[[Batches], Iterator[pa.Array]]:
        """Return an iterator Arrow function."""

        def values(batches: Batches) -> Iterator[pa.Array]:
            encoder = _open_encoder(self.release, self.providers)
            for embeddings, instructions in batches:
                yield compute_rows(self.name, encoder, embeddings, instructions)

        return values


@lru_cache(maxsize=1)
def _open_encoder(release: str, providers: tuple[str, ...]) -> InstructionEncoder:
    return InstructionEncoder(read(Path(release)), providers=providers, threads=1)


def compute_rows(name: str, encoder: InstructionEncoder, embeddings: pa.Array, instructions: pa.Array) -> pa.Array:
    """Return a function's value for each row, null where the embedding or the instruction is null.

    Raises
    ------
    InstructionError
        An instruction is blank, or an embedding has another width than the release's.
    """
    valid_N = pc.and_(embeddings.is_valid(), instructions.is_valid())
    positions_N = pc.if_else(valid_N, pc.subtract(pc.cumulative_sum(valid_N.cast(pa.int64())), 1), None)
    vectors, texts = embeddings.filter(valid_N), instructions.filter(valid_N)
    values = COMPUTES[name](encoder, *_matrices(encoder, vectors, texts))
    return values.take(positions_N)


def _matrices(encoder: InstructionEncoder, vectors: pa.Array, texts: pa.Array) -> tuple[Floats, Floats]:
    """Return the vectors [U, H], and the text embedding of each one's instruction [U, H]."""
    if not len(vectors):
        return np.zeros((0, 1), np.float32), np.zeros((0, 1), np.float32)
    names, name_U = np.unique(texts.to_numpy(zero_copy_only=False).astype(str), return_inverse=True)
    directions_UH = np.stack([encoder.encode(str(name)) for name in names])[name_U]
    width = directions_UH.shape[1]
    other = set(pc.list_value_length(vectors).unique().to_pylist()) - {width}
    if other:
        raise InstructionError(
            f"an embedding has {min(other)} numbers, and those of the current release have {width}: pass universal "
            "vectors of this release, as `embeddings_universal` has them"
        )
    flat = vectors.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, np.float32).reshape(directions_UH.shape), directions_UH


def _focus(encoder: InstructionEncoder, vectors_UH: Floats, directions_UH: Floats) -> pa.Array:
    focused_UH = focus(vectors_UH, directions_UH, encoder.scale).astype(np.float32)
    return equal_lists(pa.array(focused_UH.reshape(-1)), len(focused_UH))


def _score(_: InstructionEncoder, vectors_UH: Floats, directions_UH: Floats) -> pa.Array:
    cosines_U = np.einsum("uh,uh->u", vectors_UH, directions_UH, dtype=np.float64)
    return pa.array(cosines_U / np.linalg.norm(vectors_UH, axis=1))


COMPUTES: dict[str, Callable[[InstructionEncoder, Floats, Floats], pa.Array]] = {"focus": _focus, "score": _score}
