"""The page of `ask`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import RenderableType

from jobs.cli.pages.lookup import first_values
from jobs.console.tables import table

if TYPE_CHECKING:
    from jobs.serving.ask import AskResult


def ask_page(instruction: str, results: Sequence[AskResult]) -> RenderableType:
    """Return a table with each user's answer and the scenario whose vector is nearest to the answer's embedding."""
    rows = []
    for result in results:
        nearest = max(result.similar, key=result.similar.__getitem__)
        rows.append(
            (
                result.user_id,
                f"{result.as_of:%Y-%m-%d}",
                result.answer,
                f"{nearest} {result.similar[nearest]:.3f}",
                first_values(result.embedding),
            )
        )
    return table(instruction, ("user", "as of", "answer", "nearest scenario", "embedding"), rows)
