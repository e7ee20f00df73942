"""The definition of a table: its columns, keys, maker, readers and retention; `jobs.lake.catalog` has the tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from jobs.config.deployment import Deployment


class Retention(Enum):
    """The rows that `maintain` removes from a table; docs/tables.md shows the text."""

    LATEST = "before the horizon of `retention.rows`, every row of a key but the latest"
    AGE = "rows of days older than `retention.rejected`"
    REPLACED = "nothing: the job replaces the rows"
    ALL = "nothing"
    COMPANY = "nothing: the table belongs to the company"


@dataclass(frozen=True, kw_only=True)
class Names:
    """The names in a deployment file that become names of columns."""

    sources: tuple[str, ...]
    numbers: tuple[str, ...]
    categories: tuple[str, ...]
    scenarios: tuple[str, ...]

    @classmethod
    def of(cls, deployment: Deployment) -> Names:
        """Return the names in a deployment file."""
        return cls(
            sources=tuple(source.name for source in deployment.sources),
            numbers=deployment.numbers,
            categories=deployment.categories,
            scenarios=deployment.scenario_names,
        )


@dataclass(frozen=True)
class Column:
    """A column: its name, its type in Spark SQL, and one line about its values."""

    name: str
    type: str
    description: str


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of the lake."""

    name: str
    description: str
    """What one row is."""
    columns: tuple[Column, ...] | Callable[[Names], tuple[Column, ...]]
    """A function of the names where the deployment file names some of the columns."""
    key: tuple[str, ...] = ()
    """No two rows have the same key or, in a table with days, the same key and day; empty: rows have no key."""
    same_by: tuple[str, ...] = ()
    """Two rows of a day are the same where these columns are equal; empty: all columns but `day`."""
    partition: tuple[str, ...] = ("day",)
    made_by: str | None
    """The job that writes it, whose lock guards it; None: every job writes it, under a lock named after the table."""
    feeds: tuple[str, ...] = ()
    """The jobs whose rows, files or answers are made from it."""
    personal: bool
    """Whether it holds personal data, including the user id."""
    retention: Retention

    @property
    def company(self) -> bool:
        """True where the company writes the table; `made_by` then names the job that makes a made-up one."""
        return self.retention is Retention.COMPANY

    @property
    def lock(self) -> str:
        """The name of the lock that a writer of this table holds."""
        return self.made_by or self.name

    def columns_with(self, names: Names) -> tuple[Column, ...]:
        """Return the columns of a deployment with these names."""
        return self.columns(names) if callable(self.columns) else self.columns

    def identity(self, deployment: Deployment) -> tuple[str, ...]:
        """Return the columns by which two rows of a day are the same."""
        columns = self.columns_with(Names.of(deployment))
        return self.same_by or tuple(column.name for column in columns if column.name != "day")

    def ddl(self, deployment: Deployment) -> str:
        """Return the columns of a deployment's table as Spark SQL declares them."""
        return ", ".join(f"{column.name} {column.type}" for column in self.columns_with(Names.of(deployment)))
