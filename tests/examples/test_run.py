"""What the examples share: a missing data set skips, and labels are rows of a table."""

from __future__ import annotations

from datetime import date

from examples import run


def test_a_default_folder_that_is_not_there_skips(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(run, "DATA", tmp_path)
    run.run("nothing", [], tmp_path / "nothing", steps=None, seeds=1)
    assert "skipped: no nothing data" in capsys.readouterr().out


def test_labels_are_in_order_and_timed():
    rows = run.labelled("again", {"b": 1, "a": 0}, date(2011, 9, 10))
    assert rows.user_id.tolist() == ["a", "b"]
    assert rows.label.tolist() == [0, 1]
    assert rows.as_of.dt.strftime("%Y-%m-%d %H:%M %Z").tolist() == ["2011-09-10 00:00 UTC"] * 2
