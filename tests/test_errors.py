"""docs/errors.md and the tests name the same errors, each once."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

from tests.support.error_page import PAGE_ROWS, plain

OUTCOMES = {"refused", "rejected", "used", "left out"}


def test_every_row_has_a_test_and_every_test_its_row() -> None:
    # The tests are parsed, since the import of some takes seconds.
    calls = [
        node
        for path in Path(__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("case", "row")
        if isinstance(node.args[0], ast.Constant) and all(keyword.arg != "said" for keyword in node.keywords)
    ]
    assert Counter(plain(str(call.args[0].value)) for call in calls) == Counter([*PAGE_ROWS])


def test_every_row_says_what_happens_and_what_is_said() -> None:
    assert {row.happens for row in PAGE_ROWS.values()} <= OUTCOMES
    assert all(row.said.strip(" .") for row in PAGE_ROWS.values())
