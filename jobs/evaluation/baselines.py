"""What a careful person would make of a profile by hand: the features that embeddings are measured against.

Of each source, which words its event texts have and how often, how many events there are and how long ago the last
was; of the tabular columns, the numbers as they are and a mark for each category. The same profiles, and nothing of
the labels: the words kept are those that most users have.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

WORDS = 500
"""Words kept of each source."""
FEWEST_USERS = 10
"""A word that fewer users have is no feature."""
WORD = re.compile(r"[^\s,;:/.!?()]+")


@dataclass(frozen=True, kw_only=True)
class Features:
    """Features of users by hand.

    Attributes
    ----------
    names : tuple of str
        D names, such as `bill: coffee` or `tabular: age`.
    values : ndarray
        float64 [U, D]; NaN where a number is missing, for trees. `filled` is for a regression.
    """

    names: tuple[str, ...]
    values: NDArray[np.float64]

    @property
    def filled(self) -> NDArray[np.float64]:
        """The values with a column's median where it is NaN, and columns that say where that was."""
        missing = np.isnan(self.values)
        some = missing.any(axis=0)
        medians = np.zeros(self.values.shape[1])
        known = ~missing.all(axis=0)
        medians[known] = np.nanmedian(self.values[:, known], axis=0)
        return np.hstack([np.where(missing, medians, self.values), missing[:, some].astype(float)])


def hand_made_features(
    profiles: pa.Table, sources: Sequence[str], numbers: Sequence[str], categories: Sequence[str]
) -> Features:
    """Make the features of these profiles (rows of `user_profiles`)."""
    parts: dict[str, NDArray[np.float64]] = {}
    for source in sources:
        parts |= _source(profiles, source)
    for name in numbers:
        column = _field(profiles, "tabular", name).cast(pa.float64())
        parts[f"tabular: {name}"] = column.to_numpy(zero_copy_only=False)
    for name in categories:
        values = _field(profiles, "tabular", name).cast(pa.string())
        for value in sorted(pc.unique(values).drop_null().to_pylist()):
            parts[f"{name}: {value}"] = (
                pc.fill_null(pc.equal(values, value), False).to_numpy(zero_copy_only=False).astype(float)
            )
    return Features(names=tuple(parts), values=np.stack(list(parts.values()), axis=1))


def _source(profiles: pa.Table, source: str) -> dict[str, NDArray[np.float64]]:
    events = _column(profiles, source)
    count_U = pc.fill_null(pc.list_value_length(events), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    text = pc.struct_field(pc.list_flatten(events), "text").dictionary_encode()
    user_E = np.repeat(np.arange(len(count_U)), count_U)
    counts = _words(user_E, text.indices.to_numpy(zero_copy_only=False), text.dictionary.to_pylist(), len(count_U))
    age_U = _field(profiles, "ages", source).cast(pa.float64()).to_numpy(zero_copy_only=False)
    return {
        f"{source}: events": np.log1p(count_U),
        f"{source}: days since, band": age_U,
        **{f"{source}: {word}": np.log1p(column) for word, column in counts.items()},
    }


def _words(
    user_E: NDArray[np.int64], text_E: NDArray[np.int64], texts: list[str], users: int
) -> dict[str, NDArray[np.float64]]:
    """How often each user has each of the words that most users have."""
    vocabulary: dict[str, int] = {}
    pairs = [
        (number, vocabulary.setdefault(word, len(vocabulary)))
        for number, text in enumerate(texts)
        for word in WORD.findall(text.lower())
    ]
    row, column = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    words_TW = csr_matrix((np.ones(len(row)), (row, column)), (len(texts), len(vocabulary)))
    texts_UT = csr_matrix((np.ones(len(user_E)), (user_E, text_E)), (users, len(texts)))
    counts_UW = (texts_UT @ words_TW).tocsc()
    having_W = np.diff(counts_UW.indptr)
    names = list(vocabulary)
    often = [word for word in np.argsort(-having_W, kind="stable")[:WORDS] if having_W[word] >= FEWEST_USERS]
    dense = counts_UW[:, often].toarray()
    return {names[word]: dense[:, position] for position, word in enumerate(often)}


def _column(profiles: pa.Table, name: str) -> pa.Array:
    return pa.concat_arrays(profiles[name].chunks) if profiles[name].num_chunks else profiles[name].combine_chunks()


def _field(profiles: pa.Table, struct: str, name: str) -> pa.Array:
    return pc.struct_field(_column(profiles, struct), name)
