"""Output on stdout: values unchanged in tables, and JSON that parses."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from jobs.console import output, tables, terminal


def printed(capsys: pytest.CaptureFixture[str], what: Any) -> list[str]:
    terminal.out.print(what)
    return [line.rstrip() for line in capsys.readouterr().out.splitlines() if line.strip()]


def test_brackets_in_data_are_data(capsys):
    lines = printed(capsys, tables.table("SELECT a[0]", ["[bold]", "x"], [("[sale] shoes", 1), ("[/home]", 2)]))
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
    assert printed(capsys, tables.table(title, ["n"], [(1,)]))[0] == title
    output.print_summary(title, {"n": 1})
    assert capsys.readouterr().out.splitlines()[0] == title


def test_times_are_shown_in_utc(capsys):
    shanghai = datetime(2025, 3, 2, 4, tzinfo=timezone(timedelta(hours=8)))
    cells = (shanghai, datetime(2025, 3, 1, 20), [shanghai], {"at": shanghai})
    [row] = printed(capsys, tables.table("", "abcd", [cells]))[2:3]
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
