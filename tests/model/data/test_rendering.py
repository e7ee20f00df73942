"""A profile as text, against what a person would write."""

from dataclasses import replace

import pyarrow as pa
import pytest

from model.data.config import EventSource
from model.data.profile_columns import ProfileError
from model.data.rendering import render
from tests.support.made_up import AS_OF, TABULAR, made_up_profiles, network_config

CONFIG = replace(
    network_config(),
    sources=(
        EventSource(name="search", max_events=5, max_tokens=8),
        EventSource(name="bill", max_events=3, max_tokens=16),
    ),
)


def profiles(*rows: dict[str, object]) -> pa.Table:
    nothing = {
        "user_id": "u",
        "as_of": AS_OF,
        "bill": [],
        "search": None,
        "profile_hash": None,
        "interest": 0,
        "ages": {"bill": None, "search": None},
        "tabular": {"bills": None, "income": None, "city": None},
    }
    return pa.Table.from_pylist([nothing | row for row in rows], schema=made_up_profiles(1).schema)


def events(*pairs: tuple[str, int]) -> list[dict[str, object]]:
    return [{"event_time": AS_OF, "text": text, "gap": gap} for text, gap in pairs]


FULL = {
    "bill": events(("forgotten", -1), ("coffee at the corner", 4), ("a ticket", 0), ("外卖: <bill>", 2)),
    "search": events(("games", -1)),
    "ages": {"bill": 1, "search": 15},
    "tabular": {"bills": 1234567.5, "income": 0.125, "city": "a, b"},
}


def test_a_profile_reads_as_a_person_would_write_it() -> None:
    # The limit is 3 bills; the gap of the first of them reaches back to one that is not read.
    assert render(profiles(FULL), CONFIG) == [
        "<search>\n"
        "games\n"
        "the last 32767 or more days ago\n"
        "</search>\n"
        "<bill>\n"
        "coffee at the corner\n"
        "0 days later: a ticket\n"
        "3-6 days later: 外卖: <bill>\n"
        "the last 1-2 days ago\n"
        "</bill>\n"
        "bills: 1234567.5\n"
        "income: 0.125\n"
        "city: a, b"
    ]


def test_what_is_missing_is_said() -> None:
    empty = "<search>\nnone\n</search>\n<bill>\nnone\n</bill>\nbills: unknown\nincome: unknown\ncity: unknown"
    assert render(profiles({}, FULL, {}), CONFIG)[::2] == [empty, empty]


def test_without_bands_and_columns_there_are_texts_alone() -> None:
    config = replace(CONFIG, time_bands=False, tabular=replace(TABULAR, numbers=(), categories=()))
    assert render(profiles(FULL), config) == [
        "<search>\ngames\n</search>\n<bill>\ncoffee at the corner\na ticket\n外卖: <bill>\n</bill>"
    ]


def test_no_user_no_text() -> None:
    assert render(profiles(), CONFIG) == []


def test_profiles_of_another_deployment_are_refused() -> None:
    with pytest.raises(ProfileError, match="no column 'search'"):
        render(profiles(FULL).drop_columns(["search"]), CONFIG)
