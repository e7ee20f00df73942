"""The tables of the examples: labels are rows in the order of the user ids."""

from __future__ import annotations

from datetime import date

from examples import tables


def test_labels_are_in_order_and_timed():
    rows = tables.label_rows("again", {"b": 1, "a": 0}, date(2011, 9, 10))
    assert rows.user_id.tolist() == ["a", "b"]
    assert rows.label.tolist() == [0, 1]
    assert rows.as_of.dt.strftime("%Y-%m-%d %H:%M %Z").tolist() == ["2011-09-10 00:00 UTC"] * 2
