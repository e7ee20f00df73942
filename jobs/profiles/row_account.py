"""The account of every row of every source as of a cut-off, counted from the users' event histories."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.config.deployment import Deployment
from jobs.profiles.aggregate_windows import window_count_column
from jobs.profiles.event_history import source_names
from jobs.profiles.source_tables import ATTRIBUTES


@dataclass(frozen=True, kw_only=True)
class RowAccount:
    """The account of a source's rows. `rows_in` is the sum of the counts from `used` to `rejected`."""

    rows_in: int
    used: int
    after: int
    """At or after as_of."""
    outside: int
    """Before the source's window."""
    over: int
    """Over the source's limit."""
    repeated: int
    superseded: int
    """Attribute rows with a later one."""
    rejected: int
    later: int
    """Later than the run's clock; counted again in `after`, or in `used` where as_of is in the future."""

    def left_out(self) -> dict[str, int]:
        """Return the rows that were not used, by reason; the rejected rows have reasons of their own."""
        counts = {
            "at or after as_of": self.after,
            "outside the window": self.outside,
            "over the limit": self.over,
            "repeated": self.repeated,
            "superseded": self.superseded,
        }
        return {reason: count for reason, count in counts.items() if count}

    def too_many_rejected(self, share: float) -> bool:
        """Return whether more than this share of the rows were rejected."""
        return self.rejected > share * self.rows_in

    @property
    def balanced(self) -> bool:
        """Whether the counts add up to `rows_in`."""
        return self.rows_in == self.used + sum(self.left_out().values()) + self.rejected


@dataclass(frozen=True, kw_only=True)
class Totals:
    """The users and rows as of one cut-off."""

    users: int
    """Eligible users."""
    accounts: dict[str, RowAccount]
    """Per event source, and `attributes`."""
    aggregate_rows: dict[str, int]
    """Rows read per aggregate."""


def count_totals(users: DataFrame, deployment: Deployment, cut_offs: Sequence[date]) -> dict[date, Totals]:
    """Return the totals of each cut-off, from the rows of `event_histories` with `__eligible`."""
    counts = [F.count_if("__eligible").alias("users")]
    for name in source_names(deployment):
        fields = users.select(f"__n_{name}.*").columns
        counts += [F.sum(F.col(f"__n_{name}")[key]).alias(f"{name}.{key}") for key in fields]
    counts += [F.sum(F.size(source.name)).alias(f"{source.name}.used") for source in deployment.sources]
    counts += [F.count("__values").alias(f"{ATTRIBUTES}.used")] if deployment.attributes else []
    counts += [
        F.sum(name).alias(name) for name in {window_count_column(aggregate) for aggregate in deployment.aggregates}
    ]
    rows = users.groupBy(F.to_date("__as_of").alias("day")).agg(*counts).collect()
    by_day = {row["day"]: {name: int(n or 0) for name, n in row.asDict().items() if name != "day"} for row in rows}
    # A cut-off has no row where no row of any table is in its windows.
    days = [by_day.get(cut_off, defaultdict(int)) for cut_off in sorted(cut_offs)]
    return {
        cut_off: _totals(_at(days, position, source_names(deployment)), deployment)
        for position, cut_off in enumerate(sorted(cut_offs))
    }


def _at(days: Sequence[Mapping[str, int]], position: int, names: Sequence[str]) -> dict[str, int]:
    """Return the counts as of one of the cut-offs from those of all, of which most count a row at its first cut-off."""
    counts = defaultdict(int, days[position])
    for name in names:
        for key in ("rows_in", "rejected", "later"):
            counts[f"{name}.{key}"] = sum(day[f"{name}.{key}"] for day in days)
        for key in ("before", "repeated"):
            counts[f"{name}.{key}"] = sum(day[f"{name}.{key}"] for day in days[: position + 1])
        counts[f"{name}.kept"] = counts[f"{name}.before"] - counts[f"{name}.repeated"]
        counts[f"{name}.after"] = counts[f"{name}.rows_in"] - counts[f"{name}.rejected"] - counts[f"{name}.before"]
    return counts


def _totals(count: Mapping[str, int], deployment: Deployment) -> Totals:
    accounts = {source.name: _event_account(source.name, count) for source in deployment.sources}
    if deployment.attributes:
        accounts[ATTRIBUTES] = _attribute_account(count)
    return Totals(
        users=count["users"],
        accounts=accounts,
        aggregate_rows={a.name: count[window_count_column(a)] for a in deployment.aggregates},
    )


def _event_account(name: str, count: Mapping[str, int]) -> RowAccount:
    kept, within, used = (count[f"{name}.{key}"] for key in ("kept", "within", "used"))
    return RowAccount(
        rows_in=count[f"{name}.rows_in"],
        used=used,
        after=count[f"{name}.after"],
        outside=kept - within,
        over=within - used,
        repeated=count[f"{name}.repeated"],
        superseded=0,
        rejected=count[f"{name}.rejected"],
        later=count[f"{name}.later"],
    )


def _attribute_account(count: Mapping[str, int]) -> RowAccount:
    kept, used = count[f"{ATTRIBUTES}.kept"], count[f"{ATTRIBUTES}.used"]
    return RowAccount(
        rows_in=count[f"{ATTRIBUTES}.rows_in"],
        used=used,
        after=count[f"{ATTRIBUTES}.after"],
        outside=0,
        over=0,
        repeated=0,
        superseded=kept - used,
        rejected=count[f"{ATTRIBUTES}.rejected"],
        later=count[f"{ATTRIBUTES}.later"],
    )
