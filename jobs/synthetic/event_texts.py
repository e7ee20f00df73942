"""The event texts of the made-up company: what a user can buy, open, view or search for.

Texts belong to groups. A group with loadings is a theme: a user's hidden traits raise or lower how often it occurs. A
group without loadings is everyday life and depends on no trait. A theme has dozens of texts in all four sources. They
share words but no single word that identifies the theme, because a text contains one of many nouns of the theme or a
brand with an invented name. Categories, actions, page roots and channels mix themes and everyday life, as the columns
of a real company do. The words are in `event_texts.yaml`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

WORDS: dict[str, Any] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
TRAITS = tuple(WORDS["traits"])
ITEMS, MODIFIERS, LEAVES, SUFFIXES = (WORDS[name] for name in ("items", "modifiers", "leaves", "suffixes"))
SOURCES = ("bills", "mini_program_logs", "page_paths", "searches")
COLUMNS = {
    "bills": ("merchant", "category", "item", "channel"),
    "mini_program_logs": ("program", "action"),
    "page_paths": ("path",),
    "searches": ("query",),
}
"""The columns that make an event's text, per source."""
SLOTS = (7.2, 12.1, 14.6, 18.6, 21.8)
"""Hours (UTC) at which a text's events begin; they last 1.3 hours, so a text keeps its part of the day."""
TEXTS = {"bills": 26, "mini_program_logs": 18, "page_paths": 20, "searches": 20}
"""Distinct texts of a group in each source."""
BRANDS = 48
"""Brands of a group."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """A theme (with loadings) or a part of everyday life (without)."""

    name: str
    loadings: dict[str, float] = field(default_factory=dict)
    share: dict[str, float] = field(default_factory=dict)
    """Weight of the group within its kind, per source; 1 where not named."""
    price: float
    """Typical amount of a bill, CNY."""
    categories: list[str]
    roots: list[str]
    actions: list[str]
    channels: list[str]
    nouns: list[str]
    queries: list[str]
    """Chinese queries."""


THEMES = tuple(Group(**group) for group in WORDS["themes"])
EVERYDAY = tuple(Group(**group) for group in WORDS["everyday"])
GROUPS = THEMES + EVERYDAY


@dataclass(frozen=True, kw_only=True)
class Texts:
    """Every text of one source: T rows in the order of GROUPS, TEXTS[source] of them per group."""

    columns: dict[str, np.ndarray]
    """Per column of COLUMNS[source], an object array of T strings."""
    group_T: np.ndarray
    weight_T: np.ndarray
    """Popularity within the group, adding up to 1 in each."""
    price_T: np.ndarray
    """Amount of a bill, CNY."""
    slot_T: np.ndarray
    """Index into SLOTS."""

    def __len__(self) -> int:
        return len(self.group_T)

    def render(self) -> list[str]:
        """Return the T texts, with the columns joined by ': '."""
        return [": ".join(row) for row in zip(*self.columns.values(), strict=True)]


def loadings() -> np.ndarray:
    """Return the effect of each trait on each group, float [groups, traits]."""
    return np.array([[group.loadings.get(trait, 0.0) for trait in TRAITS] for group in GROUPS])


@cache
def texts(source: str) -> Texts:
    """Return every text of a source; they are the same for every seed."""
    size = TEXTS[source]
    rng = np.random.default_rng([20260101, SOURCES.index(source)])
    rows = [row for number, group in enumerate(GROUPS) for row in _rows(source, group, _brands(number), rng)]
    columns = {name: np.array([row[i] for row in rows], dtype=object) for i, name in enumerate(COLUMNS[source])}
    weights = [
        np.arange(2.0, size + 2) ** -0.25 if group.loadings else np.arange(1.0, size + 1) ** -1.0 for group in GROUPS
    ]
    prices = [group.price * np.exp(rng.normal(0, 0.6 if group.loadings else 1.3, size)) for group in GROUPS]
    return Texts(
        columns=columns,
        group_T=np.repeat(np.arange(len(GROUPS)), size),
        weight_T=np.concatenate([w / w.sum() for w in weights]),
        price_T=np.round(np.concatenate(prices), 1),
        slot_T=rng.integers(len(SLOTS), size=len(rows)),
    )


def _rows(source: str, group: Group, brands: list[str], rng: np.random.Generator) -> list[tuple[str, ...]]:
    """Return the distinct texts of one group in one source, the most popular first."""
    rows: dict[tuple[str, ...], None] = {}
    channel = {brand: str(rng.choice(group.channels)) for brand in brands}

    def one(words: list[str]) -> str:
        return str(rng.choice(words))

    while len(rows) < TEXTS[source]:
        brand, noun = one(brands), one(group.nouns)
        if source == "bills":
            kind = rng.random()
            item = one(ITEMS) if kind < 0.5 else noun if kind < 0.75 else f"{noun} {one(MODIFIERS)}"
            rows[brand, one(group.categories), item, channel[brand]] = None
        elif source == "mini_program_logs":
            rows[brand if rng.random() < 0.75 else f"{brand} {noun}", one(group.actions)] = None
        elif source == "page_paths":
            leaf = noun if rng.random() < 0.4 else brand
            path = ["home", one(group.roots), leaf]
            rows[(" > ".join(path if rng.random() < 0.5 else [*path, one(LEAVES)]),)] = None
        else:
            kind = rng.random()
            word = one(group.queries) if kind < 0.25 else brand if kind < 0.6 else noun
            rows[(word if rng.random() < 0.5 else f"{word} {one(SUFFIXES)}",)] = None
    return list(rows)


@cache
def _all_brands() -> tuple[str, ...]:
    syllables = WORDS["syllables"]
    names = [a + b for a in syllables for b in syllables if a != b]
    return tuple(name.capitalize() for name in np.random.default_rng(20260101).permutation(names))


def _brands(number: int) -> list[str]:
    """Return the names of a group's brands, which are invented and so carry no meaning."""
    return list(_all_brands()[number * BRANDS : (number + 1) * BRANDS])
