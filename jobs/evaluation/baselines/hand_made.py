"""Hand-made features of profiles, as a person would compute them without a network.

Each source gives the counts of its most common words, the number of events and the age of the last one. Numeric tabular
columns are used as they are; each category is an indicator. Labels are not used: the kept words are those with the
most users.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from jobs.config.deployment import Deployment
from jobs.evaluation.profile_arrays import event_counts, whole_column
from model.data.text import WORD

REGRESSION, LIGHTGBM = "hand-made features, regression", "hand-made features, LightGBM"
"""The baselines that are fitted on these features."""
WORDS = 500
"""The number of words kept of each source."""
MIN_USERS = 10
"""The number of users that a kept word has at least."""
TABULAR = "tabular: "
"""The begin of the name of a number's feature."""


@dataclass(frozen=True, kw_only=True)
class Features:
    """Features of users.

    Attributes
    ----------
    names : tuple of str
        D names, for example `bill: coffee` or `tabular: age`.
    values : ndarray
        float64 [U, D]; NaN where a number is missing, for trees. `filled` is for a regression.
    """

    names: tuple[str, ...]
    values: NDArray[np.float64]

    @cached_property
    def filled(self) -> NDArray[np.float64]:
        """Return the values with each NaN replaced by its column's median, and an indicator of NaN per such column."""
        missing = np.isnan(self.values)
        has_missing = missing.any(axis=0)
        medians = np.zeros(self.values.shape[1])
        known = ~missing.all(axis=0)
        medians[known] = np.nanmedian(self.values[:, known], axis=0)
        return np.hstack([np.where(missing, medians, self.values), missing[:, has_missing].astype(float)])


def deployment_features(deployment: Deployment, profiles: pa.Table) -> Features:
    """Compute the features of all sources and tabular columns of a deployment."""
    sources = [source.name for source in deployment.sources]
    return hand_made_features(profiles, sources, deployment.numbers, deployment.categories)


def logarithmic_features(deployment: Deployment, profiles: pa.Table) -> Features | None:
    """Compute the tabular columns alone, numbers as sign(x) log(1 + |x|); None where a deployment has none."""
    if not (deployment.numbers or deployment.categories):
        return None
    features = hand_made_features(profiles, (), deployment.numbers, deployment.categories)
    is_number_D = np.array([name.startswith(TABULAR) for name in features.names])
    values = np.where(is_number_D, np.sign(features.values) * np.log1p(np.abs(features.values)), features.values)
    return Features(names=features.names, values=values)


def hand_made_features(
    profiles: pa.Table, sources: Sequence[str], numbers: Sequence[str], categories: Sequence[str]
) -> Features:
    """Compute the features of these rows of `user_profiles`."""
    columns: dict[str, NDArray[np.float64]] = {}
    for source in sources:
        columns |= _source_features(profiles, source)
    for name in numbers:
        column = _field(profiles, "tabular", name).cast(pa.float64())
        columns[f"{TABULAR}{name}"] = column.to_numpy(zero_copy_only=False)
    for name in categories:
        values = _field(profiles, "tabular", name).cast(pa.string())
        for value in sorted(pc.unique(values).drop_null().to_pylist()):
            columns[f"{name}: {value}"] = (
                pc.fill_null(pc.equal(values, value), False).to_numpy(zero_copy_only=False).astype(float)
            )
    return Features(names=tuple(columns), values=np.stack(list(columns.values()), axis=1))


def _source_features(profiles: pa.Table, source: str) -> dict[str, NDArray[np.float64]]:
    events = whole_column(profiles, source)
    count_U = event_counts(events)
    text = pc.struct_field(pc.list_flatten(events), "text").dictionary_encode()
    user_E = np.repeat(np.arange(len(count_U)), count_U)
    counts = _word_counts(
        user_E, text.indices.to_numpy(zero_copy_only=False), text.dictionary.to_pylist(), len(count_U)
    )
    age_U = _field(profiles, "ages", source).cast(pa.float64()).to_numpy(zero_copy_only=False)
    return {
        f"{source}: events": np.log1p(count_U),
        f"{source}: days since, band": age_U,
        **{f"{source}: {word}": np.log1p(column) for word, column in counts.items()},
    }


def _word_counts(
    user_E: NDArray[np.int64], text_E: NDArray[np.int64], texts: list[str], users: int
) -> dict[str, NDArray[np.float64]]:
    """Count the `WORDS` words that most users have, for each user."""
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
    users_W = np.diff(counts_UW.indptr)
    names = list(vocabulary)
    kept = [word for word in np.argsort(-users_W, kind="stable")[:WORDS] if users_W[word] >= MIN_USERS]
    dense = counts_UW[:, kept].toarray()
    return {names[word]: dense[:, position] for position, word in enumerate(kept)}


def _field(profiles: pa.Table, struct: str, name: str) -> pa.Array:
    return pc.struct_field(whole_column(profiles, struct), name)
