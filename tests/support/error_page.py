"""docs/errors.md as data: what is wrong, what happens and what is said. A test of a row takes all three from the page.

A row's first column is the id of its test, so `pytest -k "a full disk"` runs the test of that row.
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


@dataclass(frozen=True, kw_only=True)
class Row:
    happens: str
    said: str
    """`...` stands for what differs; what was really said may begin before it and go on after it."""

    def says(self, message: object) -> bool:
        wanted = ".*".join(re.escape(part) for part in re.split(r" ?\.\.\. ?", self.said))
        return re.search(wanted, " ".join(str(message).split())) is not None


def read(page: Path = PAGE) -> dict[str, Row]:
    """The rows of every table of the page by what is wrong; an empty cell means what the row above says."""
    found: dict[str, Row] = {}
    happens = ""
    for line in page.read_text(encoding="utf-8").splitlines():
        if not line.startswith("| ") or line.startswith(("| what is wrong", "| ---")):
            continue
        wrong, outcome, said = (cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1])
        happens = outcome or happens
        assert plain(wrong) not in found, f"{page.name} has two rows {wrong!r}"
        found[plain(wrong)] = Row(happens=happens, said=_unquoted(said))
    return found


def plain(wrong: str) -> str:
    """Without the backticks that keep Markdown from reading braces and tags."""
    return wrong.replace("`", "").replace(r"\|", "|")


def _unquoted(cell: str) -> str:
    """The words between backticks, of which a text that holds some has two on each side."""
    return " ".join(re.sub(r"^`+ ?| ?`+$", "", cell).replace(r"\|", "|").split())


ROWS = read()


def case(wrong: str, *values: Any) -> Any:
    """A case of a parametrised test, whose first parameter is `wrong`."""
    return pytest.param(wrong, *values, id=plain(wrong))


def row(wrong: str) -> Any:
    """Marks a test that stands for one row, and takes it as `wrong`."""
    return pytest.mark.parametrize("wrong", [case(wrong)])


def says(wrong: str, happens: str, message: object) -> None:
    """What happened and what was said are what the row promises."""
    row = ROWS[plain(wrong)]
    assert row.happens == happens
    assert row.says(message), f"the page: {row.said}\n    said: {message}"


@contextmanager
def refused(wrong: str) -> Iterator[pytest.ExceptionInfo[InstructUEError]]:
    """The body must end in an error of ours that says what the row says."""
    with pytest.raises(InstructUEError) as caught:
        yield caught
    says(wrong, "refused", caught.value)
