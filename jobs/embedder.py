"""The embedding function of Spark's Python workers: columns of `user_profiles` in, vectors out.

A worker opens the release once, from its path, and keeps it while it lives; only the path travels. It imports
neither Spark's session, Delta nor torch. Profiles come as plain columns, each source's texts and gaps in one of their
own, which pandas takes far more cheaply than arrays of structs; vectors go back as Arrow memory, never as lists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from model.runtime import Runtime, load

RETURNS = "array<array<float>>"
VECTORS = pa.list_(pa.list_(pa.float32()))
Batches = Iterator[tuple[pd.Series, ...]]


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
    sources, numbers, categories : tuple of str
        The deployment's, in its order.
    """

    release: str
    providers: tuple[str, ...]
    threads: int
    sources: tuple[str, ...]
    numbers: tuple[str, ...]
    categories: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The function's arguments as columns of `user_profiles`, then `scenarios`, joined by commas."""
        events = [f"{source}.{part}" for source in self.sources for part in ("text", "gap")]
        fields = [f"ages.{source}" for source in self.sources]
        return (*events, *fields, *(f"tabular.{name}" for name in (*self.numbers, *self.categories)), "scenarios")

    def function(self) -> Callable[[Batches], Iterator[pd.Series]]:
        """An iterator pandas function of `columns`: for each user the vectors of the scenarios asked for, in order."""
        def vectors(batches: Iterator[tuple[pd.Series, ...]]) -> Iterator[pd.Series]:
            runtime = opened(self.release, self.providers, self.threads)
            for columns in batches:
                yield pd.Series(pd.arrays.ArrowExtensionArray(embed_rows(
                    runtime, self.profiles(columns[:-1]), columns[-1].tolist())))

        return vectors

    def profiles(self, columns: Sequence[pd.Series]) -> pa.Table:
        """The columns as rows of `user_profiles`, in the types that `model.profiles` reads."""
        given = dict(zip(self.columns, columns, strict=False))
        table = {source: _events(given[f"{source}.text"], given[f"{source}.gap"]) for source in self.sources}
        table["ages"] = _struct({source: pa.array(given[f"ages.{source}"], pa.int32(), from_pandas=True)
                                 for source in self.sources})
        tabular = {name: pa.array(given[f"tabular.{name}"], pa.float64(), from_pandas=True) for name in self.numbers}
        tabular |= {name: pa.array(given[f"tabular.{name}"], pa.string(), from_pandas=True)
                    for name in self.categories}
        if tabular:
            table["tabular"] = _struct(tabular)
        return pa.table(table)


@lru_cache(maxsize=1)
def opened(release: str, providers: tuple[str, ...], threads: int) -> Runtime:
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
    vectors = pa.ListArray.from_arrays(np.arange(len(vectors_VH) + 1, dtype=np.int32) * runtime.width,
                                       pa.array(vectors_VH.reshape(-1)))
    return pa.ListArray.from_arrays(np.concatenate([[0], ends_U]).astype(np.int32), vectors)


def _events(text_U: pd.Series, gap_U: pd.Series) -> pa.Array:
    count_U = [0 if texts is None else len(texts) for texts in text_U]
    offsets = np.concatenate([[0], np.cumsum(count_U)]).astype(np.int32)
    texts, gaps = _flat(text_U), _flat(gap_U)
    events = _struct({"text": pa.array(texts, pa.string(), from_pandas=True),
                      "gap": pa.array(gaps, pa.int32(), from_pandas=True)})
    return pa.ListArray.from_arrays(offsets, events)


def _flat(lists: pd.Series) -> np.ndarray[Any, Any]:
    parts = [part for part in lists if part is not None and len(part)]
    return np.concatenate(parts) if parts else np.empty(0, object)


def _struct(fields: dict[str, pa.Array]) -> pa.StructArray:
    return pa.StructArray.from_arrays(list(fields.values()), names=list(fields))
