"""docs/errors.md as data: what is wrong, what happens and what the message says.

The test of a row takes both from the page, and its id is the row's first column: `pytest -k "a full disk"` runs the
test of that row. A test of an error that the page leaves out states both itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from model.errors import InstructUEError

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"
HEADING = "| what is wrong"


@dataclass(frozen=True, kw_only=True)
class Row:
    """What must happen and what the message must say.

    In `said`, `...` marks what differs. A message may begin before these words and go on after them.
    """

    happens: str
    said: str

    def says(self, message: object) -> bool:
        pattern = ".*".join(re.escape(part) for part in re.split(r" ?\.\.\. ?", self.said))
        return re.search(pattern, " ".join(str(message).split())) is not None


def read(page: Path = PAGE) -> dict[str, Row]:
    """Return the rows of every table of the page by what is wrong; an empty cell repeats the cell above it."""
    rows: dict[str, Row] = {}
    happens = ""
    for line in page.read_text(encoding="utf-8").splitlines():
        if not line.startswith("| ") or line.startswith((HEADING, "| ---")):
            continue
        wrong, outcome, said = (cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1])
        happens = outcome or happens
        assert plain(wrong) not in rows, f"{page.name} has two rows {wrong!r}"
        rows[plain(wrong)] = Row(happens=happens, said=_unquoted(said))
    return rows


def plain(wrong: str) -> str:
    """Remove the backticks that keep Markdown from interpreting braces and tags."""
    return wrong.replace("`", "").replace(r"\|", "|")


def _unquoted(cell: str) -> str:
    """Return the words between backticks; a text that contains backticks has two on each side."""
    return " ".join(re.sub(r"^`+ ?| ?`+$", "", cell).replace(r"\|", "|").split())


PAGE_ROWS = read()
EXPECTED = dict(PAGE_ROWS)
"""The rows of the page, and those that tests state themselves."""


def case(wrong: str, *values: Any, happens: str = "refused", said: str | None = None) -> Any:
    """Return a case of a parametrised test, whose first parameter is `wrong`.

    Without `said` the page says what happens.
    """
    if said is not None:
        row = Row(happens=happens, said=said)
        assert EXPECTED.setdefault(plain(wrong), row) == row, f"{wrong!r} has two meanings"
    return pytest.param(wrong, *values, id=plain(wrong))


def row(wrong: str, **stated: str) -> Any:
    """Mark a test of one row, which takes it as `wrong`."""
    return pytest.mark.parametrize("wrong", [case(wrong, **stated)])


def says(wrong: str, happens: str, message: object) -> None:
    """Assert that what happened and what was said are what the row promises."""
    row = EXPECTED[plain(wrong)]
    assert row.happens == happens
    assert row.says(message), f"expected: {row.said}\n    said: {message}"


@contextmanager
def refused(wrong: str) -> Iterator[pytest.ExceptionInfo[InstructUEError]]:
    """Assert that the body ends in an error of the project that says what the row says."""
    with pytest.raises(InstructUEError) as caught:
        yield caught
    says(wrong, "refused", caught.value)
