"""What people and programs see: data as it is, JSON that parses, and steps that show that they live."""

from __future__ import annotations

import io
import json
import time
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from jobs.console import output


def printed(capsys: pytest.CaptureFixture[str], what: Any) -> list[str]:
    output.out.print(what)
    return [line.rstrip() for line in capsys.readouterr().out.splitlines() if line.strip()]


def test_brackets_in_data_are_data(capsys):
    lines = printed(capsys, output.table("SELECT a[0]", ["[bold]", "x"], [("[sale] shoes", 1), ("[/home]", 2)]))
    assert lines[0] == "SELECT a[0]"
    assert lines[1].split() == ["[bold]", "x"]
    assert [line.split() for line in lines[3:5]] == [["[sale]", "shoes", "1"], ["[/home]", "2"]]
    output.print_summary("step [1]", {"query [a]": "[/home] :smile:", "[b]": {"[c]": "[d]"}})
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["step", "[1]"],
        ["query", "[a]", "[/home]", ":smile:"],
        ["[b]:", "[c]", "[d]"],
    ]


def test_a_title_is_wider_than_its_table(capsys):
    title = "1 user looked up online in 1.2 ms"
    assert printed(capsys, output.table(title, ["n"], [(1,)]))[0] == title
    output.print_summary(title, {"n": 1})
    assert capsys.readouterr().out.splitlines()[0] == title


def test_times_are_shown_in_utc(capsys):
    shanghai = datetime(2025, 3, 2, 4, tzinfo=timezone(timedelta(hours=8)))
    cells = (shanghai, datetime(2025, 3, 1, 20), [shanghai], {"at": shanghai})
    [row] = printed(capsys, output.table("", "abcd", [cells]))[2:3]
    assert row.split("  ")[0].strip() == "2025-03-01 20:00:00 UTC"
    assert row.count("2025-03-01 20:00:00 UTC") == 3
    assert json.loads(output.to_json_line(shanghai)) == "2025-03-01T20:00:00+00:00"


@dataclass(frozen=True)
class Summary:
    loss: float
    rates: Any


def test_a_program_gets_json_that_parses(capsys):
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    odd = {
        "decimal": Decimal("1.10"),
        "delta": timedelta(days=1, seconds=2),
        "date": date(2025, 3, 1),
        "bytes": b"\x00\xff",
        "nan": float("nan"),
        "inf": [float("inf"), -float("inf")],
        "naive": datetime(2025, 3, 1),
        "utc": datetime(2025, 3, 1, tzinfo=UTC),
        date(2025, 3, 1): None,
    }
    assert json.loads(output.to_json_line(odd), parse_constant=refuse) == {
        "decimal": "1.10",
        "delta": "1 day, 0:00:02",
        "date": "2025-03-01",
        "bytes": "AP8=",
        "nan": None,
        "inf": [None, None],
        "naive": "2025-03-01T00:00:00",
        "utc": "2025-03-01T00:00:00+00:00",
        "2025-03-01": None,
    }
    output.print_summary("train", Summary(loss=float("nan"), rates=np.array([1.5, np.nan])), as_json=True)
    assert json.loads(capsys.readouterr().out, parse_constant=refuse) == {"loss": None, "rates": [1.5, None]}
    # A person should see it when training has gone astray.
    output.print_summary("train", Summary(loss=float("nan"), rates=[]))
    assert "nan" in capsys.readouterr().out


def test_a_log_shows_now_and_then_that_a_step_lives(monkeypatch, capsys):
    monkeypatch.setattr(output, "EVERY", 0.05)
    with output.step("embed [x]") as told:
        time.sleep(0.2)
        told(3, 7)
        time.sleep(0.2)
        print("a library's chatter")
    shown = capsys.readouterr()
    assert shown.out == ""
    lines = shown.err.splitlines()
    assert lines[0] == "embed [x] ..."
    assert any(line.startswith("embed [x]: 0.") and line.endswith("so far") for line in lines[1:3])
    assert any(line.startswith("embed [x]: 3 of 7, 0.") for line in lines)
    assert "a library's chatter" in lines
    assert lines[-1].startswith("embed [x]: 0.")
    time.sleep(0.15)
    assert capsys.readouterr().err == ""


def test_on_a_terminal_a_steps_line_is_drawn_in_place(monkeypatch, capsys):
    terminal = io.StringIO()
    monkeypatch.setattr(output, "err", Console(file=terminal, force_terminal=True, width=100, highlight=False))
    with output.step("train [tiny]") as told:
        told(3, 7)
        time.sleep(0.3)
        print("a library's chatter")
    drawn = terminal.getvalue()
    assert "3/7" in drawn
    up_and_clear = "\x1b[1A\x1b[2K"
    assert drawn.count("\n") - drawn.count(up_and_clear) == 1  # what stays is the line at the end
    assert "train [tiny]" in drawn.rsplit(up_and_clear, 1)[1]
    # The console has a file of its own, as in the demo: what others print stays out of it.
    shown = capsys.readouterr()
    assert "chatter" not in drawn
    assert (shown.out, shown.err) == ("", "a library's chatter\n")
