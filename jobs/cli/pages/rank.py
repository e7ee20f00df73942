"""The page of `rank`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from jobs.console.tables import table
from jobs.console.text import count

if TYPE_CHECKING:
    from jobs.serving.rank import RankResult


def rank_page(result: RankResult) -> RenderableType:
    """Return a table with a line per user, and below it how well the instruction is understood."""
    rows = [(user.place, user.user_id, f"{user.score:.4f}", f"{user.as_of:%Y-%m-%d}") for user in result.ranking]
    notes = [f"nearest question of the training: {result.nearest_question} (cosine {result.cosine:.2f})"]
    if result.other_versions:
        left_out = count(result.other_versions, "user")
        notes.append(f"{left_out} with a vector of another model_version left out: embed the newest day again")
    if result.warning:
        notes.append(result.warning)
    title = f"{result.instruction}: the first {len(rows)} of {count(result.users, 'user')}"
    return Group(table(title, ("place", "user", "score", "as of"), rows), *map(Text, notes))
