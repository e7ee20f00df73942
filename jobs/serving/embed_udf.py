"""The embedding function of Spark's Python workers: columns of `user_profiles` in, vectors out.

A worker opens the release once, from its path, and keeps it while it lives; only the path travels. It imports
neither Spark's session, Delta nor torch. Profiles come and vectors go as Arrow memory, never as Python lists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa

from model.serving.onnx_runtime import Runtime, load

RETURNS = "array<array<float>>"
Batches = Iterator[tuple[pa.Array, ...]]


@dataclass(frozen=True, kw_only=True)
class Embedder:
    """Which release, how, and which columns its function is given.

    Attributes
    ----------
    release : str
        The release's folder, as every worker sees it.
    providers : tuple of str
        onnxruntime's execution providers.
    threads : int
        Threads of a forward: the cores of a Spark task.
    sources : tuple of str
        The deployment's, in its order.
    tabular : bool
        Whether its profiles have tabular columns.
    """

    release: str
    providers: tuple[str, ...]
    threads: int
    sources: tuple[str, ...]
    tabular: bool

    @property
    def columns(self) -> tuple[str, ...]:
        """The function's arguments as columns of `user_profiles`, then `scenarios`, joined by commas."""
        return (*self.sources, "ages", *(["tabular"] if self.tabular else []), "scenarios")

    def function(self) -> Callable[[Batches], Iterator[pa.Array]]:
        """An iterator Arrow function of `columns`: for each user the vectors of the scenarios asked for, in order."""

        def vectors(batches: Iterator[tuple[pa.Array, ...]]) -> Iterator[pa.Array]:
            runtime = open_runtime(self.release, self.providers, self.threads)
            for *columns, scenarios in batches:
                profiles = pa.table(dict(zip(self.columns, columns, strict=False)))
                yield embed_rows(runtime, profiles, scenarios.to_pylist())

        return vectors


@lru_cache(maxsize=1)
def open_runtime(release: str, providers: tuple[str, ...], threads: int) -> Runtime:
    """This worker's open release; another one takes its place."""
    return load(release, providers=providers, threads=threads)


def embed_rows(runtime: Runtime, profiles: pa.Table, scenarios: Sequence[str]) -> pa.ListArray:
    """Embed each user in the scenarios of its own, named with commas between; users who share them share forwards.

    Returns
    -------
    pyarrow.ListArray
        For each user one float32 vector per scenario, in the order asked.
    """
    asked, group_U = np.unique(np.asarray(scenarios, dtype=object), return_inverse=True)
    names = [tuple(group.split(",")) for group in asked]
    ends_U = np.cumsum([len(names[group]) for group in group_U])
    starts_U = np.concatenate([[0], ends_U[:-1]]).astype(np.int64)
    vectors_VH = np.empty((int(ends_U[-1]) if len(ends_U) else 0, runtime.width), np.float32)
    for group, wanted in enumerate(names):
        users = np.flatnonzero(group_U == group)
        vectors_UKH = runtime.embed(profiles.take(users), wanted)
        for position in range(len(wanted)):
            vectors_VH[starts_U[users] + position] = vectors_UKH[:, position]
    vectors = pa.ListArray.from_arrays(
        np.arange(len(vectors_VH) + 1, dtype=np.int32) * runtime.width, pa.array(vectors_VH.reshape(-1))
    )
    return pa.ListArray.from_arrays(np.concatenate([[0], ends_U]).astype(np.int32), vectors)
