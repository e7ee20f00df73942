"""The online_retail loader: orders and labels equal counts over the publisher's lines."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from examples import online_retail
from examples.tables import DataError


@pytest.fixture(scope="module")
def lines(data) -> list[dict]:
    frame = pd.read_parquet(data("online_retail") / "online_retail.parquet")
    return frame[frame.CustomerID.notna()].to_dict("records")


@pytest.fixture(scope="module")
def tables(loaded) -> dict[str, pd.DataFrame]:
    return loaded("online_retail", "online_retail", online_retail.load)


def test_an_order_is_the_sum_of_its_lines(tables, lines):
    expected: dict[str, list[float]] = {}
    for line in lines:
        expected.setdefault(line["InvoiceNo"], []).append(line["Quantity"] * line["UnitPrice"])
    orders = tables["orders"].set_index("invoice")
    assert set(orders.index) == set(expected)
    for invoice in list(expected)[::97]:
        assert math.isclose(orders.amount[invoice], sum(expected[invoice]), abs_tol=1e-6)
    returned = orders[orders.kind == "return"]
    assert returned.index.str.startswith("C").all()
    assert returned.ordered_week.isna().all()
    assert returned.ordered_month.isna().all()
    assert (returned.paid == 0).all()
    assert not orders[orders.kind == "order"].index.str.startswith("C").any()


def test_since_order_is_the_number_of_days_since_the_previous_order(tables):
    orders = tables["orders"]
    for customer in sorted(set(orders.customer_id))[:40]:
        mine = orders[orders.customer_id == customer].sort_values("ordered_at", kind="stable")
        before = None
        for row in mine.itertuples():
            if row.kind == "return" or before is None:
                assert math.isnan(row.since_order)
            else:
                assert math.isclose(row.since_order, (row.ordered_at - before).total_seconds() / 86400)
            before = before if row.kind == "return" else row.ordered_at


def test_goods_are_what_was_bought(tables, lines):
    goods = tables["goods"]
    assert len(goods) == sum(line["Quantity"] > 0 and line["StockCode"][0].isdigit() for line in lines)
    assert not goods.article.str.contains("postage").any()
    assert (goods.price * goods.quantity - goods.amount).abs().max() < 1e-6


def test_an_article_is_known_from_the_second_time_on(tables):
    goods = tables["goods"]
    some = goods[goods.customer_id.isin(sorted(set(goods.customer_id))[:20])]
    seen: set[tuple[str, str]] = set()
    for row in some.sort_values("ordered_at", kind="stable").itertuples():
        assert row.known == ((row.customer_id, row.article) in seen)
        seen.add((row.customer_id, row.article))
    assert 0 < some.known.mean() < 1


def test_goods_of_a_kind_are_marked(tables):
    goods = tables["goods"]
    assert goods.loc[goods.article == "jumbo bag red retrospot", "bags"].eq(1).all()
    assert goods.loc[goods.article == "cabbage patch doll", "bags"].eq(0).all()
    assert (goods[[*online_retail.ARTICLE_PATTERNS]].mean() < 0.5).all()


def test_the_label_counted_customer_by_customer(tables, lines):
    first, last = pd.Timestamp("2011-09-10"), pd.Timestamp("2011-12-09")
    known, again = set(), set()
    for line in lines:
        if not line["InvoiceNo"].startswith("C"):
            if line["InvoiceDate"] < first:
                known.add(str(int(line["CustomerID"])))
            elif line["InvoiceDate"] < last:
                again.add(str(int(line["CustomerID"])))
    labels = tables["labels"].set_index("user_id")["label"].to_dict()
    assert labels == {customer: int(customer in again) for customer in known}
    assert 0.56 < sum(labels.values()) / len(labels) < 0.58


def test_a_missing_file_is_named(elsewhere, tmp_path):
    with pytest.raises(DataError, match=r"no online_retail\.parquet.*DATA="):
        online_retail.load(elsewhere("online_retail"), tmp_path)
