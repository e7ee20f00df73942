"""The embedding function of Spark's Python workers: columns of `user_profiles` in, vectors out.

The driver sends only the path of the release; a worker opens it once and keeps it. A worker imports neither Delta nor
torch. Profiles and vectors stay in Arrow memory and never become Python lists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa

from model.data.arrays import equal_lists
from model.serving.onnx_runtime import Runtime, load

RETURNS = "array<array<float>>"
Batches = Iterator[tuple[pa.Array, ...]]


@dataclass(frozen=True, kw_only=True)
class Embedder:
    """The settings of the embedding function.

    Attributes
    ----------
    release : str
        The release's folder; every worker must see it under this path.
    providers : tuple of str
        onnxruntime's execution providers.
    threads : int
        Threads of a forward pass: the cores of a Spark task.
    sources : tuple of str
        The deployment's event sources, in its order.
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
        """The function's arguments: columns of `user_profiles`, then `scenarios` as in `embed_rows`."""
        return (*self.sources, "ages", *(["tabular"] if self.tabular else []), "scenarios")

    def function(self) -> Callable[[Batches], Iterator[pa.Array]]:
        """Return an iterator Arrow function of `columns`: each user's vectors, in the order of the user's scenarios."""

        def vectors(batches: Iterator[tuple[pa.Array, ...]]) -> Iterator[pa.Array]:
            runtime = open_runtime(self.release, self.providers, self.threads)
            for *columns, scenarios in batches:
                profiles = pa.table(dict(zip(self.columns, columns, strict=False)))
                yield embed_rows(runtime, profiles, scenarios.to_pylist())

        return vectors


@lru_cache(maxsize=1)
def open_runtime(release: str, providers: tuple[str, ...], threads: int) -> Runtime:
    """Return this worker's open release; opening another one closes it."""
    return load(release, providers=providers, threads=threads)


def embed_rows(runtime: Runtime, profiles: pa.Table, scenarios: Sequence[str]) -> pa.ListArray:
    """Embed each user in the user's own scenarios; users with the same scenarios share forward passes.

    Parameters
    ----------
    scenarios : sequence of str
        For each user the names of the scenarios, with commas between them.

    Returns
    -------
    pyarrow.ListArray
        For each user one float32 vector per scenario, in the order of the names.
    """
    groups, group_U = np.unique(np.asarray(scenarios, dtype=object), return_inverse=True)
    names = [tuple(group.split(",")) for group in groups]
    ends_U = np.cumsum([len(names[group]) for group in group_U])
    starts_U = np.concatenate([[0], ends_U[:-1]]).astype(np.int64)
    vectors_VH = np.empty((int(ends_U[-1]) if len(ends_U) else 0, runtime.width), np.float32)
    for group, group_scenarios in enumerate(names):
        users = np.flatnonzero(group_U == group)
        vectors_UKH = runtime.embed(profiles.take(users), group_scenarios)
        for position in range(len(group_scenarios)):
            vectors_VH[starts_U[users] + position] = vectors_UKH[:, position]
    vectors = equal_lists(pa.array(vectors_VH.reshape(-1)), len(vectors_VH))
    return pa.ListArray.from_arrays(np.concatenate([[0], ends_U]).astype(np.int32), vectors)
