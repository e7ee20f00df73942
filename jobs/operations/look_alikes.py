"""User ids that a person takes for one: they differ only by blanks, case, width, invisible or combining characters."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.profiles.templates import BLANK

EXAMPLES = 3
"""Groups of user ids that are shown."""
EXAMPLE_IDS = 4
"""User ids of a group that are shown."""


@dataclass(frozen=True, kw_only=True)
class LookAlikes:
    """Groups of user ids that look alike.

    Attributes
    ----------
    groups, users : int
        The number of groups, and of user ids in them.
    examples : list of list of str
        Some user ids of some groups.
    """

    groups: int
    users: int
    examples: list[list[str]]


def find_look_alikes(users: DataFrame) -> LookAlikes:
    """Count the user ids in the column `user` that look like another one, and return examples."""
    # At its second level Unicode's collation ignores case, width, the form of combining characters and invisible ones.
    key = F.collate(F.regexp_replace("user", BLANK, ""), "UNICODE_CI")
    groups = (
        users.select("user")
        .distinct()
        .groupBy(key.alias("key"))
        .agg(F.count(F.lit(1)).alias("users"), F.min_by("user", "user", EXAMPLE_IDS).alias("ids"))
        .where(F.col("users") > 1)
    )
    row = groups.agg(
        F.count(F.lit(1)).alias("groups"), F.sum("users").alias("users"), F.min_by("ids", "ids", EXAMPLES).alias("ids")
    ).first()
    assert row is not None
    return LookAlikes(
        groups=row["groups"], users=row["users"] or 0, examples=sorted(sorted(ids) for ids in row["ids"] or [])
    )
