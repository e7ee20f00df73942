"""A user's value relative to the mean of the users of the same group: the key `per` of an aggregate.

A group is the users with the same category of the profile as of the same day; only users with a profile count, the
user among them. The mean is made of exact decimals, so it does not depend on the order of rows. It changes with every
event of every user of the group, so the value is a band of the ratio: otherwise every profile would change every day.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.profiles.aggregates import EXACT

STEPS = ("1", "1.25", "1.6", "2", "2.5", "3.15", "4", "5", "6.3", "8")
"""Steps of a tenth of a decade (Renard's R10)."""
RATIOS = tuple(float(Decimal(step).scaleb(power)) for power in (-2, -1, 0, 1) for step in STEPS)
"""The lower ends of the bands of a ratio: 0.01, 0.0125, ... 63, 80."""


def with_relative_values(users: DataFrame, groups: Mapping[str, str]) -> DataFrame:
    """Return the users with each value replaced by the band of its ratio to the mean of its group.

    Parameters
    ----------
    users
        One row per user and `__as_of`, with `__eligible`.
    groups
        By the name of a column of values, doubles, the name of the column with the user's group.
    """
    for group in dict.fromkeys(groups.values()):
        values = [value for value, column in groups.items() if column == group]
        means = _means(users, group, values)
        joined = users.join(
            F.broadcast(means),
            users["__as_of"].eqNullSafe(means["__peers_as_of"]) & (users[group] == means["__peers_group"]),
            "left",
        )
        bands = {value: relative_band(F.col(value), F.col(f"__mean_{value}")) for value in values}
        users = joined.withColumns(bands).drop(*means.columns)
    return users


def relative_band(value: Column, mean: Column) -> Column:
    """Return the band of value / mean: the largest of `RATIOS` that it reaches, 0 below all, with the value's sign.

    Null where the value or the mean is null, and where the mean is not positive.
    """
    ratio = F.try_divide(F.abs(value), mean)
    reached = sum(((ratio >= edge).cast("int") for edge in RATIOS), F.lit(0))
    band = F.get(F.array(*map(F.lit, (0.0, *RATIOS))), reached)
    return F.when((mean > 0) & value.isNotNull(), F.when(value < 0, F.lit(0.0) - band).otherwise(band))


def _means(users: DataFrame, group: str, values: list[str]) -> DataFrame:
    """Return the mean of each value over the users with a profile, per `__as_of` and group."""
    means = {value: F.try_divide(F.try_sum(F.col(value).try_cast(EXACT)), F.count(value)) for value in values}
    return (
        users.where(F.col("__eligible") & F.col(group).isNotNull())
        .groupBy(F.col("__as_of").alias("__peers_as_of"), F.col(group).alias("__peers_group"))
        .agg(*[mean.cast("double").alias(f"__mean_{value}") for value, mean in means.items()])
    )
