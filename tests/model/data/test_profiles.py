"""Profiles as arrays against the same read one row at a time."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from model.data.config import Category, EventSource, NetworkConfig, Number, Tabular
from model.data.profile_columns import ProfileError
from model.data.profiles import read_profiles
from model.data.tabular import fit_tabular, piecewise_codes
from tests.support.made_up import TABULAR, made_up_profiles, network_config


def fitted(table: pa.Table, **changes: object) -> NetworkConfig:
    config = network_config()
    return replace(config, tabular=fit_tabular(table, TABULAR, 12), **changes)


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return made_up_profiles(30)


def literal_code(value: float | None, edges: tuple[float, ...], width: int) -> list[float]:
    code = [0.0] * width
    if value is None:
        code[0] = 1.0
        return code
    for bin_, (low, high) in enumerate(pairwise(edges)):
        if value >= high:
            code[1 + bin_] = 1.0
        elif value > low:
            code[1 + bin_] = (value - low) / (high - low)
    return code


@pytest.mark.parametrize("layout", ["plain", "sliced", "chunked", "large"])
def test_a_batch_is_what_each_row_says(table: pa.Table, layout: str) -> None:
    short = (
        EventSource(name="bill", max_events=15, max_tokens=16),
        EventSource(name="search", max_events=10, max_tokens=8),
    )
    config = fitted(table, sources=short)
    rows = table.to_pylist()
    if layout == "sliced":
        table, rows = table.slice(3, 20), rows[3:23]
    elif layout == "chunked":
        table = pa.concat_tables([table.slice(0, 7), table.slice(7, 0), table.slice(7)])
    elif layout == "large":
        kind = pa.large_list(
            pa.struct([("event_time", pa.timestamp("us", "UTC")), ("text", pa.large_string()), ("gap", pa.int64())])
        )
        table = table.set_column(2, "bill", table["bill"].cast(kind))
    profiles = read_profiles(table, config)
    users = np.array([5, 0, 1, 19, 6, 8])
    batch = profiles.batch(users)

    for source, part, events in zip(config.sources, batch.sources, profiles.sources, strict=True):
        kept = [rows[user][source.name][-source.max_events :] for user in users]
        assert part.mask_BN.shape[1] == max(len(some) for some in kept)
        assert len(set(part.texts_T)) == len(part.texts_T)
        for at, (user, some) in enumerate(zip(users, kept, strict=True)):
            real = part.mask_BN[at] == 1
            assert real.tolist() == [True] * len(some) + [False] * (part.mask_BN.shape[1] - len(some))
            texts = [events.texts[part.texts_T[text]] for text in part.text_BN[at][real]]
            assert texts == [event["text"] for event in some]
            gaps = [
                0 if first else min(event["gap"], 15) + 1
                for first, event in zip([True] + [False] * len(some), some, strict=False)
            ]
            assert part.gaps_BN[at][real].tolist() == gaps
            assert (part.text_BN[at][~real] == len(part.texts_T)).all()
            assert (part.gaps_BN[at][~real] == 0).all()
            age = rows[user]["ages"][source.name]
            assert part.age_B[at] == (0 if age is None else min(age, 15) + 1)
    for at, user in enumerate(users):
        tabular = rows[user]["tabular"]
        for column, number in enumerate(config.tabular.numbers):
            expected = literal_code(tabular[number.name], number.edges, config.tabular.code_width)
            assert batch.numbers_BFP[at, column].tolist() == pytest.approx(expected, abs=1e-6)
        values = config.tabular.categories[0].values
        assert batch.categories_BC[at, 0] == (values.index(tabular["city"]) + 1 if tabular["city"] else 0)


def test_bands_are_clamped_and_null_lists_are_empty() -> None:
    event = pa.struct([("event_time", pa.timestamp("us")), ("text", pa.string()), ("gap", pa.int32())])
    table = pa.table(
        {
            "bill": pa.array([[{"text": "a", "gap": -1}, {"text": "a", "gap": 40}], None, []], pa.list_(event)),
            "ages": pa.array([{"bill": 99}, {"bill": None}, None], pa.struct([("bill", pa.int32())])),
        }
    )
    config = NetworkConfig.from_preset("tiny", sources=(EventSource(name="bill", max_events=5, max_tokens=4),))
    batch = read_profiles(table, config).batch(np.arange(3))
    assert batch.sources[0].gaps_BN.tolist() == [[0, 16], [0, 0], [0, 0]]
    assert batch.sources[0].mask_BN.tolist() == [[1, 1], [0, 0], [0, 0]]
    assert batch.sources[0].age_B.tolist() == [16, 0, 0]
    assert batch.numbers_BFP.shape == (3, 0, 1)
    without_events = read_profiles(table, config).batch(np.array([1, 2]))
    assert without_events.sources[0].mask_BN.shape == (2, 1)
    assert len(without_events.sources[0].texts_T) == 0


def test_equal_quantile_edges_fall_together() -> None:
    skewed = [0.0] * 90 + [float(x) for x in range(1, 11)] + [None]
    table = pa.table(
        {"tabular": pa.StructArray.from_arrays([pa.array(skewed), pa.array(["b", "a", None] + ["b"] * 98)], ["n", "c"])}
    )
    tabular = fit_tabular(table, Tabular(numbers=(Number(name="n"),), categories=(Category(name="c"),)), bins=12)
    edges = tabular.numbers[0].edges
    assert edges[0] == 0.0
    assert edges[-1] == 10.0
    assert list(edges) == sorted(set(edges))
    assert set(edges) <= set(np.quantile(skewed[:100], np.linspace(0, 1, 13)).tolist())
    assert tabular.categories[0].values == ("a", "b")


def test_codes_of_numbers_outside_and_of_constant_columns() -> None:
    tabular = Tabular(numbers=(Number(name="n", edges=(0.0, 1.0, 5.0)), Number(name="constant", edges=(3.0,))))
    codes = piecewise_codes(np.array([[-7.0, 3.0], [2.0, np.nan], [np.inf, 4.0], [np.nan, 3.0]]), tabular)
    assert codes[:, 0].tolist() == [[0, 0, 0], [0, 1, 0.25], [0, 1, 1], [1, 0, 0]]
    assert codes[:, 1].tolist() == [[0, 0, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_an_unseen_category_is_missing(table: pa.Table) -> None:
    config = fitted(table)
    column = replace(config.tabular.categories[0], values=("city-1",))
    config = replace(config, tabular=replace(config.tabular, categories=(column,)))
    codes = read_profiles(table, config).categories_UC[:, 0]
    assert codes.tolist() == [int(city == "city-1") for city in (row["tabular"]["city"] for row in table.to_pylist())]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop(["search"]), "no column 'search'.*assemble"),
        (lambda table: table.drop(["ages"]), "no column 'ages'.*assemble"),
        (lambda table: table.drop(["tabular"]), "no column 'tabular'.*assemble"),
        (lambda table: table.set_column(2, "bill", table["user_id"]), "'bill'.*string.*user_profiles"),
        (lambda table: table.set_column(5, "tabular", table["ages"]), "without the field 'bills'"),
    ],
)
def test_a_wrong_column_is_named_with_what_to_do(
    table: pa.Table, change: Callable[[pa.Table], pa.Table], message: str
) -> None:
    with pytest.raises(ProfileError, match=message):
        read_profiles(change(table), fitted(table))


def test_an_event_without_text_is_named_by_row(table: pa.Table) -> None:
    rows = table.to_pylist()
    rows[4]["bill"][-1]["text"] = None
    with pytest.raises(ProfileError, match=r"row 4 .*'bill' without a text"):
        read_profiles(pa.Table.from_pylist(rows, schema=table.schema), fitted(table))


def test_a_number_column_of_words_is_refused(table: pa.Table) -> None:
    words = pa.StructArray.from_arrays([pa.array(["many"] * len(table))] * 3, ["bills", "income", "city"])
    with pytest.raises(ProfileError, match=r"tabular\.bills"):
        read_profiles(table.set_column(5, "tabular", words), fitted(table))
