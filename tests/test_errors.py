"""docs/errors.md and the tests name the same mistakes, each once."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

from tests.support.error_page import ROWS, plain

OUTCOMES = {"refused", "rejected", "used", "left out"}


def test_every_row_has_a_test_and_every_test_its_row() -> None:
    # Read, not imported: the tests of some rows import Spark.
    calls = [
        node
        for path in Path(__file__).parent.rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("case", "row")
    ]
    assert Counter(plain(ast.literal_eval(call.args[0])) for call in calls) == Counter([*ROWS])


def test_every_row_says_what_happens_and_what_is_said() -> None:
    assert {row.happens for row in ROWS.values()} <= OUTCOMES
    assert all(row.said.strip(" .") for row in ROWS.values())
