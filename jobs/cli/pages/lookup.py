"""The page of `lookup`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType

from jobs.console.tables import table
from jobs.console.text import count

if TYPE_CHECKING:
    from jobs.serving.lookup import LookupResult


def lookup_page(results: Sequence[LookupResult], milliseconds: float) -> RenderableType:
    """Return a table with a line per user and scenario."""
    rows: list[tuple[Any, ...]] = []
    for result in results:
        rows += [
            (
                result.user_id,
                scenario,
                f"{vector.as_of:%Y-%m-%d}",
                count(vector.age, "day"),
                vector.model_version[:12],
                len(vector.vector),
                first_values(vector.vector),
            )
            for scenario, vector in result.vectors.items()
        ]
        if not result.has_vectors:
            rows.append((result.user_id, "not online", "", "", "", None, ""))
    columns = ("user", "scenario", "as of", "age", "model version", "width", "vector")
    return table(f"{count(len(results), 'user')} looked up online in {milliseconds:.1f} ms", columns, rows)


def first_values(vector: Any) -> str:
    """Return the first four values of a vector as text."""
    return " ".join(f"{value:+.3f}" for value in vector[:4]) + " ..."
