"""Progress: records in a log, a bar on a terminal."""

from __future__ import annotations

import io
import time

from rich.console import Console

from jobs.console import logs, progress, terminal


def test_a_log_shows_now_and_then_that_a_step_is_running(monkeypatch, capsys):
    monkeypatch.setattr(progress, "INTERVAL", 0.05)
    logs.configure()
    with progress.step("embed [x]") as report:
        time.sleep(0.2)
        report(3, 7)
        time.sleep(0.2)
        print("output of a library")
    shown = capsys.readouterr()
    assert shown.out == ""
    lines = shown.err.splitlines()
    assert "output of a library" in lines
    prefix = " INFO jobs.console.progress: embed [x]"
    messages = [line.split(prefix, 1)[1] for line in lines if prefix in line]
    assert messages[0] == " ..."
    assert any(message.startswith(": 0.") and message.endswith("so far") for message in messages[1:3])
    assert any(message.startswith(": 3 of 7, 0.") for message in messages)
    assert messages[-1].startswith(": 0.")
    assert not messages[-1].endswith("so far")
    time.sleep(0.15)
    assert capsys.readouterr().err == ""


def test_on_a_terminal_a_bar_is_drawn_in_place(monkeypatch, capsys):
    screen = io.StringIO()
    monkeypatch.setattr(terminal, "err", Console(file=screen, force_terminal=True, width=100, highlight=False))
    logs.configure()
    with progress.step("train [tiny]") as report:
        report(3, 7)
        time.sleep(0.3)
        print("output of a library")
    drawn = screen.getvalue()
    assert "3/7" in drawn
    up_and_clear = "\x1b[1A\x1b[2K"
    assert drawn.count("\n") - drawn.count(up_and_clear) == 1  # only the last line stays
    assert "train [tiny]" in drawn.rsplit(up_and_clear, 1)[1]
    # The console has a file of its own, as in the demo: the output of libraries stays out of it.
    shown = capsys.readouterr()
    assert "output of a library" not in drawn
    assert (shown.out, shown.err) == ("", "output of a library\n")
