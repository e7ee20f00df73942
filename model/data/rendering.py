"""A profile as plain text, for a language model or a text embedder that reads it in place of event vectors.

The text has the events, time bands and columns that the network reads, and no others. This module needs numpy and
pyarrow only.

Shapes: S sources, U users, E events of a source.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa

from model.data.config import NetworkConfig
from model.data.profiles import SourceEvents, read_profiles
from model.data.tabular import fit_tabular
from model.data.time_bands import band_days

NONE = "none"
UNKNOWN = "unknown"


def render(profiles: pa.Table, config: NetworkConfig) -> list[str]:
    """Return each user's whole profile as text, in the network's order of sources and columns.

    Each source is enclosed in the lines `<name>` and `</name>`, with one line for each event, the oldest first:

        <bill>
        coffee at the corner
        3-6 days later: a ticket at the station
        the last 1-2 days ago
        </bill>
        <search>
        none
        </search>
        age: 31
        city: unknown

    Parameters
    ----------
    profiles
        Rows of `user_profiles`; U users.
    config
        Only its sources, the names of its tabular columns and `time_bands` matter; without bands an event's
        line is its text alone.

    Returns
    -------
    list of str
        U texts, without a newline at the end.

    Raises
    ------
    ProfileError
        When a column is missing, has another type, or an event has no text.
    """
    tabular = fit_tabular(profiles, config.tabular, bins=1)
    read = read_profiles(profiles, replace(config, tabular=tabular))
    lines_U: list[list[str]] = [[] for _ in range(len(read))]
    for source, events, age_U in zip(config.sources, read.sources, read.ages_SU, strict=True):
        for lines, body, age in zip(lines_U, _events(events, config.time_bands), age_U.tolist(), strict=True):
            lines += [f"<{source.name}>", *(body or [NONE])]
            if body and age and config.time_bands:
                lines.append(f"the last {_days(age - 1)} ago")
            lines.append(f"</{source.name}>")
    for number, value_U in zip(tabular.numbers, read.numbers_UF.T, strict=True):
        for lines, value in zip(lines_U, value_U.tolist(), strict=True):
            lines.append(f"{number.name}: {_number(value)}")
    for category, code_U in zip(tabular.categories, read.categories_UC.T, strict=True):
        for lines, code in zip(lines_U, code_U.tolist(), strict=True):
            lines.append(f"{category.name}: {category.values[code - 1] if code else UNKNOWN}")
    return ["\n".join(lines) for lines in lines_U]


def _events(events: SourceEvents, bands: bool) -> list[list[str]]:
    """Return each user's events as lines, with the time since the event before where there is one."""
    line_E = [
        f"{_days(gap - 1)} later: {events.texts[text]}" if bands and gap else events.texts[text]
        for text, gap in zip(events.text_E.tolist(), events.gaps_E.tolist(), strict=True)
    ]
    bounds = events.offsets_U1.tolist()
    return [line_E[start:end] for start, end in pairwise(bounds)]


def _days(band: int) -> str:
    """Return the days of a band as text; the last band has no end."""
    fewest, most = band_days(band)
    if most == 0:
        return "0 days"
    return f"{fewest} or more days" if most is None else f"{fewest}-{most} days"


def _number(value: float) -> str:
    if np.isnan(value):
        return UNKNOWN
    return np.format_float_positional(value, precision=9, fractional=False, trim="-")
