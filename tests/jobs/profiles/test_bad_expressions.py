"""SQL expressions of aggregates that do not fit the table, or cannot be computed on a row."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import deltalake
import pyarrow as pa
import pytest

from jobs.lake.errors import translate_errors
from jobs.profiles.build import Profiles, build_profiles
from jobs.profiles.source_tables import SourceError, open_sources
from tests.support.deployment import deploy
from tests.support.error_page import case, refused, says
from tests.support.messy import DAY1

BILL = {"bill_id": "1", "user_id": "u", "paid_at": datetime(2025, 2, 20, tzinfo=UTC), "merchant": "Lu", "amount": 0.0}
SUM: dict[str, Any] = {"name": "spent", "source": "bill", "function": "sum", "window_days": 30}


@pytest.fixture(scope="module")
def shop(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """One bill with an amount of 0, and a function that deploys one aggregate over it."""
    folder = tmp_path_factory.mktemp("expressions")
    d = deploy(folder)
    bills = pa.Table.from_pylist([{**BILL, "tags": ["a"]}])
    searches = pa.table({"user_id": ["u"], "searched_at": ["2025-02-01"], "query": ["q"]})
    for name, rows in (("bills", bills), ("searches", searches)):
        deltalake.write_deltalake(d.table(name), rows)
    opened = {d.table(name): spark.read.format("delta").load(d.table(name)) for name in ("bills", "searches")}
    return SimpleNamespace(
        deploy=lambda aggregate: deploy(folder, aggregates=[SUM | aggregate]), read=lambda table: opened[d.table(table)]
    )


UNFIT = [
    case("an aggregate over a column that is not there", {"value": "price * 2"}),
    case("an aggregate that is no number", {"value": "upper(merchant)"}),
    case("an aggregate's condition that is a number", {"value": "amount", "where": "amount"}),
    case("an aggregate of today", {"value": "amount", "where": "paid_at > current_date() - INTERVAL 7 DAYS"}),
    *[
        case(f"an aggregate of {text}", {"value": text}, said=f"aggregates.spent.value = {text}: {problem}")
        for text, problem in {
            "amount *": "[PARSE_SYNTAX_ERROR] Syntax error at or near end of input",
            "amount; DROP TABLE bills": "[PARSE_SYNTAX_ERROR]",
            "sum(amount)": "[INVALID_WHERE_CONDITION]",
            "row_number() OVER (ORDER BY amount)": "[WINDOW_FUNCTION_NOT_ALLOWED_IN_CLAUSE]",
            "explode(tags)": "[UNSUPPORTED_GENERATOR",
            "(SELECT max(id) FROM range(3))": "reads a table of its own (a subquery)",
            "rand()": "calls what may answer otherwise the next time",
            "unix_timestamp()": "calls what may answer otherwise the next time",
            "monotonically_increasing_id()": "calls what may answer otherwise the next time",
            "amount > 2": "is boolean; write a number",
            "NULL": "is void; write a number",
            "tags": "is array<string>; write a number",
            "no_function(amount)": "[UNRESOLVED_ROUTINE]",
        }.items()
    ],
    case(
        "a most frequent list",
        {"function": "top", "value": "tags"},
        said="aggregates.spent.value = tags: is array<string>; write a single value (a text, number, time or boolean)",
    ),
    case(
        "a divisor of texts",
        {"function": "ratio", "value": "amount", "divisor": "merchant"},
        said="aggregates.spent.divisor = merchant: is string; write a number",
    ),
]
UNCOMPUTED = [
    case("a division by 0", {"value": "100 / amount"}),
    case("a text that is cast to a number", {"value": "CAST(merchant AS INT)"}),
    case(
        "a condition that divides by 0",
        {"value": "amount", "where": "1 / amount > 2"},
        said="the SQL expression `1 / amount > 2` cannot be computed on a row (Division by zero. Use `try_divide`",
    ),
    case(
        "an element that is not there",
        {"value": "length(tags[3])"},
        said="the SQL expression `length(tags[3])` cannot be computed on a row (The index 3 is out of bounds.",
    ),
    case(
        "a number that is cast to fewer digits",
        {"value": "CAST(1e20 + amount AS INT)"},
        said='cannot be computed on a row (The value 1.0E20D of the type "DOUBLE" cannot be cast to "INT"',
    ),
]


def built(shop: SimpleNamespace, aggregate: dict[str, Any]) -> Profiles:
    d = shop.deploy(aggregate)
    return build_profiles(d, open_sources(d, shop.read), [DAY1])


@pytest.mark.parametrize(("wrong", "aggregate"), UNFIT)
def test_an_expression_that_does_not_fit_is_refused_before_a_row_is_read(
    wrong: str, aggregate: dict[str, Any], shop: SimpleNamespace
) -> None:
    with pytest.raises(SourceError, match=r": 1 error\n") as caught:
        open_sources(shop.deploy(aggregate), shop.read)
    says(wrong, "refused", caught.value)


@pytest.mark.parametrize(("wrong", "aggregate"), UNCOMPUTED)
def test_an_expression_that_fails_on_a_row_is_named(
    wrong: str, aggregate: dict[str, Any], shop: SimpleNamespace
) -> None:
    with refused(wrong) as caught, translate_errors():
        built(shop, aggregate)
    assert "ansi" not in str(caught.value)  # Spark advises a setting that the jobs refuse


def test_an_expression_is_not_computed_where_its_condition_excludes_the_row(shop: SimpleNamespace) -> None:
    profiles = built(shop, {"value": "100 / amount", "where": "amount > 0"})
    assert [row.tabular.spent for row in profiles.rows.collect()] == [0.0]
    profiles.release()
