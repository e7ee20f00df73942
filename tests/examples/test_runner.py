"""The run of an example: a data set that is missing is skipped."""

from __future__ import annotations

from examples import runner


def test_a_missing_default_folder_skips_the_example(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(runner, "DATA", tmp_path)
    runner.run("nothing", [], tmp_path / "nothing", steps=None, seeds=1)
    assert "skipped: no nothing data" in capsys.readouterr().out
