"""Rows of `user_profiles` as arrays, each distinct event text once; numpy and pyarrow only.

Training and the runtime both read profiles by this module, so the network gets the same numbers in both.

Shapes: U users of a table, B users of a batch, E events of a source in the table, N the most events of a user
in the batch, T distinct texts of the batch, S sources, F numbers, P width of a number's code, C categories.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from model.data.arrays import Floats, Ints
from model.data.config import EventSource, NetworkConfig, Tabular
from model.data.profile_columns import ProfileError, cast_column, column_of, field_of, number_column, string_column
from model.data.tabular import category_codes, piecewise_codes
from model.data.text import TokenIds, Tokenizers
from model.data.time_bands import NO_BAND, band_codes


@dataclass(frozen=True, kw_only=True)
class SourceEvents:
    """The events of one source over a table; user u has `offsets_U1[u]` to `offsets_U1[u + 1]`, oldest first.

    `texts` are distinct; `text_E` is each event's text, as an index; `gaps_E` are codes of time bands, 0 for the first.
    """

    texts: list[str]
    text_E: Ints
    gaps_E: Ints
    offsets_U1: Ints


@dataclass(frozen=True, kw_only=True)
class SourceBatch:
    """One source's events of the users of a batch.

    Attributes
    ----------
    texts_T
        The batch's distinct texts, as indices into the table's `SourceEvents.texts`.
    text_BN
        Each event's text, as an index into `texts_T`; T is padding, for which a caller appends a row of zeros to the T
        vectors.
    mask_BN
        1 for an event, 0 for padding. N is at least 1.
    gaps_BN
        Code of the time band since the event before; 0 for a first event and for padding.
    age_B
        Code of the time band from the last event to `as_of`; 0 for an empty source.
    """

    texts_T: Ints
    text_BN: Ints
    mask_BN: Ints
    gaps_BN: Ints
    age_B: Ints


@dataclass(frozen=True, kw_only=True)
class ProfileBatch:
    """The users of a batch: one `SourceBatch` for each source, `numbers_BFP` and `categories_BC`."""

    sources: tuple[SourceBatch, ...]
    numbers_BFP: Floats
    categories_BC: Ints

    def __len__(self) -> int:
        return len(self.categories_BC)


@dataclass(frozen=True, kw_only=True)
class Profiles:
    """A table of profiles; `batch` gives the arrays of some users."""

    tabular: Tabular
    sources: tuple[SourceEvents, ...]
    ages_SU: Ints
    numbers_UF: NDArray[np.float64]
    categories_UC: Ints

    def __len__(self) -> int:
        return len(self.categories_UC)

    @property
    def lengths_U(self) -> Ints:
        """The number of events of each user over all sources, by which batches are sorted."""
        none_U = np.zeros(len(self), dtype=np.int64)
        return np.sum([none_U, *(np.diff(source.offsets_U1) for source in self.sources)], axis=0, dtype=np.int64)

    def batch(self, users_B: Ints) -> ProfileBatch:
        """Return the arrays of these users, each source padded to its longest here."""
        users_B = np.asarray(users_B, dtype=np.int64)
        return ProfileBatch(
            sources=tuple(
                _source_batch(source, users_B, age_U[users_B])
                for source, age_U in zip(self.sources, self.ages_SU, strict=True)
            ),
            numbers_BFP=piecewise_codes(self.numbers_UF[users_B], self.tabular),
            categories_BC=self.categories_UC[users_B],
        )


def read_profiles(table: pa.Table, config: NetworkConfig) -> Profiles:
    """Return the table's profiles as the network reads them.

    Parameters
    ----------
    table
        Rows of `user_profiles`. Only the last `max_events` events of a source are kept.
    config
        A network whose tabular columns have their statistics.

    Raises
    ------
    ProfileError
        When a column is missing, has another type, or an event has no text.
    """
    return Profiles(
        tabular=config.tabular,
        sources=tuple(_source_events(table, source) for source in config.sources),
        ages_SU=_stacked([_ages(table, source.name) for source in config.sources], len(table), np.int64).T,
        numbers_UF=_stacked(
            [number_column(table, number.name) for number in config.tabular.numbers], len(table), float
        ),
        categories_UC=_stacked(
            [category_codes(string_column(table, column.name), column.values) for column in config.tabular.categories],
            len(table),
            np.int64,
        ),
    )


def text_ids(profiles: Profiles, config: NetworkConfig, tokenizers: Tokenizers) -> tuple[TokenIds, ...]:
    """Return each source's distinct texts as tokens: the encoders', or the backbone's where it reads them itself."""
    read = tokenizers.event_ids if config.reading == "vectors" else tokenizers.language_ids
    return tuple(
        read(part.texts, source.max_tokens) for source, part in zip(config.sources, profiles.sources, strict=True)
    )


def _source_batch(source: SourceEvents, users_B: Ints, age_B: Ints) -> SourceBatch:
    start_B = source.offsets_U1[users_B]
    count_B = source.offsets_U1[users_B + 1] - start_B
    within_N = np.arange(max(1, int(count_B.max(initial=0))))
    mask_BN = within_N < count_B[:, None]
    event = (start_B[:, None] + within_N)[mask_BN]
    texts_T, text = np.unique(source.text_E[event], return_inverse=True)
    text_BN = np.full(mask_BN.shape, len(texts_T), dtype=np.int64)
    text_BN[mask_BN] = text
    gaps_BN = np.zeros(mask_BN.shape, dtype=np.int64)
    gaps_BN[mask_BN] = source.gaps_E[event]
    return SourceBatch(texts_T=texts_T, text_BN=text_BN, mask_BN=mask_BN.astype(np.int64), gaps_BN=gaps_BN, age_B=age_B)


def _source_events(table: pa.Table, source: EventSource) -> SourceEvents:
    column = column_of(table, source.name, "list<struct<event_time, text, gap>>, for an event source")
    kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or not pa.types.is_struct(kind.value_type):
        raise ProfileError(
            f"the column {source.name!r} of the profiles is {kind}, not list<struct<event_time, text, gap>>: "
            "read them from user_profiles"
        )
    events = pc.list_flatten(column)
    for part in ("text", "gap"):
        if kind.value_type.get_field_index(part) < 0:
            raise ProfileError(
                f"the events of {source.name!r} have no field {part!r}, only {kind.value_type}: assemble them again"
            )
    count_U = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    text = cast_column(pc.struct_field(events, "text"), pa.large_string(), f"{source.name}.text")
    gap = cast_column(pc.struct_field(events, "gap"), pa.int64(), f"{source.name}.gap")
    if text.null_count:
        row = int(np.repeat(np.arange(len(count_U)), count_U)[pc.index(text.is_null(), True).as_py()])
        raise ProfileError(
            f"row {row} of the profiles has an event of {source.name!r} without a text: "
            "let the source's template give every event one, then assemble again"
        )
    kept_U = np.minimum(count_U, source.max_events)
    from_end_E = np.repeat(np.cumsum(count_U), count_U) - np.arange(len(text))
    kept_E = from_end_E <= source.max_events
    encoded = text.filter(pa.array(kept_E)).dictionary_encode()
    offsets_U1 = np.concatenate([[0], np.cumsum(kept_U)])
    # The first event that is kept has no gap, even where an event before it was dropped.
    gaps_E = band_codes(pc.fill_null(gap, NO_BAND).to_numpy(zero_copy_only=False)[kept_E])
    gaps_E[offsets_U1[:-1][kept_U > 0]] = 0
    return SourceEvents(
        texts=encoded.dictionary.to_pylist(),
        text_E=encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64),
        gaps_E=gaps_E,
        offsets_U1=offsets_U1,
    )


def _ages(table: pa.Table, source: str) -> Ints:
    band = cast_column(field_of(table, "ages", source, "int"), pa.int64(), f"ages.{source}")
    return band_codes(pc.fill_null(band, NO_BAND).to_numpy(zero_copy_only=False))


def _stacked(columns: list[NDArray[Any]], rows: int, kind: type) -> NDArray[Any]:
    return np.stack(columns, axis=1) if columns else np.zeros((rows, 0), dtype=kind)
