"""The section `aggregates`: what each function needs, and the vector spec of files of the first releases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.changed_deployment import changed, read
from tests.support.deployment import deploy
from tests.support.error_page import case, refused

SUM = {"name": "spent", "source": "bill", "function": "sum", "column": "amount"}
OLD_FILE: dict[str, Any] = {
    "attributes": {
        "table": "attributes",
        "static": True,
        "numbers": ["age"],
        "categories": [{"name": "city", "column": "City"}],
    },
    "aggregates": [
        {"name": "bills", "source": "bill", "function": "count"},
        {"name": "spent", "source": "bill", "function": "sum", "column": "amount", "window_days": 90},
        {"name": "since", "source": "search", "function": "days_since_last", "window_days": 60},
        {"name": "slope", "source": "bill", "function": "trend", "column": "amount"},
    ],
}
OLD_SPEC = (
    '{"sources": [{"name": "bill", "template": "{merchant} {amount:amount_band}", "max_events": 3, "max_tokens": 24, '
    '"window_days": 30}, {"name": "search", "template": "{query}", "max_events": 4, "max_tokens": 24, '
    '"window_days": 60}], "numbers": ["age", "bills", "spent", "since", "slope"], "categories": ["city"], '
    '"aggregates": [{"name": "bills", "source": "bill", "function": "count", "column": null, "window_days": 365}, '
    '{"name": "spent", "source": "bill", "function": "sum", "column": "amount", "window_days": 90}, '
    '{"name": "since", "source": "search", "function": "days_since_last", "column": null, "window_days": 60}, '
    '{"name": "slope", "source": "bill", "function": "trend", "column": "amount", "window_days": 365}], '
    '"precision": "fp32"}'
)
"""The vector spec that the first releases keep of `OLD_FILE`, as they wrote it."""


def test_the_vector_spec_of_an_old_file_is_what_old_releases_keep(tmp_path: Path) -> None:
    assert json.dumps(deploy(tmp_path, **OLD_FILE).vector_spec()) == OLD_SPEC
    defaults = {"value": None, "divisor": None, "where": None, "change": False, "per": None}
    aggregates = [{**aggregate, **defaults} for aggregate in OLD_FILE["aggregates"]]
    assert json.dumps(deploy(tmp_path, **OLD_FILE | {"aggregates": aggregates}).vector_spec()) == OLD_SPEC


@pytest.mark.parametrize(
    "more",
    [
        {"where": "amount > 0"},
        {"change": True},
        {"per": "city"},
        {"column": None, "value": "amount"},
        {"function": "ratio", "divisor": "2"},
    ],
)
def test_each_new_key_changes_the_vector_spec(more: dict[str, Any], tmp_path: Path) -> None:
    plain, other = (
        deploy(tmp_path, attributes=OLD_FILE["attributes"], aggregates=[aggregate]).vector_spec()
        for aggregate in (SUM, SUM | more)
    )
    given = {key: value for key, value in more.items() if value is not None}
    assert other["aggregates"] == [plain["aggregates"][0] | more | given]
    assert other != plain


def test_the_most_frequent_value_is_a_category_of_the_profile(tmp_path: Path) -> None:
    top = {"name": "merchant", "source": "bill", "function": "top", "column": "merchant"}
    relative = SUM | {"per": "merchant"}
    d = deploy(tmp_path, attributes=OLD_FILE["attributes"], aggregates=[top, relative])
    assert (d.numbers, d.categories) == (("age", "spent"), ("city", "merchant"))


def _aggregate(function: str, **more: Any) -> list[dict[str, Any]]:
    return [{"name": "x", "source": "bill", "function": function, **more}]


@pytest.mark.parametrize(
    ("wrong", "value"),
    [
        case(
            "an aggregate share of everything",
            _aggregate("share"),
            said="function share needs a condition; add `where: <SQL",
        ),
        case("a ratio without a divisor", _aggregate("ratio", column="amount")),
        case(
            "a divisor of a mean",
            _aggregate("mean", column="amount", divisor="quantity"),
            said="function mean takes no divisor; remove `divisor`",
        ),
        case(
            "a count of an expression",
            _aggregate("count", value="amount"),
            said="function count takes no value; remove `value`",
        ),
        case("a column and an expression", _aggregate("sum", column="amount", value="amount * 2")),
        case(
            "a maximum of nothing",
            _aggregate("max"),
            said="function max needs a column; add `column: <name>` or `value: <SQL expression>`",
        ),
        case("a change of a band", _aggregate("days_since_last", change=True)),
        case(
            "a favourite relative to others",
            _aggregate("top", column="merchant", per="city"),
            said="function top gives no number to compare; remove `per`",
        ),
        case(
            "a change relative to others",
            _aggregate("count", change=True, per="city"),
            said="`change` and `per` compare with different things; remove one, or write two aggregates",
        ),
        case("a group that is no category", _aggregate("count", per="age")),
        case(
            "a group that is a number of 3",
            _aggregate("count", per=3),
            said="aggregates[0].per = 3: Input should be a valid string",
        ),
        case(
            "a change of 30",
            _aggregate("count", change=30),
            said="aggregates[0].change = 30: Input should be a valid boolean",
        ),
        case(
            "an empty condition", _aggregate("count", where=" "), said="aggregates[0].where = ' ': is empty; write one"
        ),
        case("a misspelt condition", _aggregate("count", wher="true"), said="unknown key; did you mean 'where'?"),
    ],
)
def test_a_wrong_aggregate_is_refused(wrong: str, value: Any, tmp_path: Path) -> None:
    with refused(wrong) as caught:
        read(changed("aggregates", value), tmp_path)
    assert ": 1 error\n" in str(caught.value)
