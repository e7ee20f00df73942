"""The online_retail loader: orders and the label counted from the publisher's lines another way."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from examples import online_retail
from examples.run import DataError


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
    assert (returned.paid == 0).all()
    assert not orders[orders.kind == "order"].index.str.startswith("C").any()


def test_goods_are_what_was_bought(tables, lines):
    goods = tables["goods"]
    assert len(goods) == sum(line["Quantity"] > 0 and line["StockCode"][0].isdigit() for line in lines)
    assert not goods.article.str.contains("postage").any()
    assert (goods.price * goods.quantity - goods.amount).abs().max() < 1e-6


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
