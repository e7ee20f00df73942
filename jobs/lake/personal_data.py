"""The tables of a deployment that hold personal data, and the statement that removes a user from each.

    python -m jobs.lake.personal_data conf/demo.yaml u0000001

prints the statements, one a line. It changes nothing.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass

from jobs.config.deployment import Deployment
from jobs.config.location import is_catalog_name, name_parts
from jobs.console.text import sql_name, sql_table, sql_text
from jobs.lake import catalog
from jobs.lake.delta import open_path, table_exists
from jobs.lake.handoff import AskHandoff
from jobs.lake.protocol import UnsupportedTableError
from jobs.lake.run_log import read_runs
from jobs.lake.user_ids import user_id as canonical_id
from jobs.lake.user_ids import user_id_of_json_sql, user_id_sql


@dataclass(frozen=True, kw_only=True)
class PersonalTable:
    """A table that holds personal data."""

    name: str
    path: str
    """Path or URI, or the name in Spark's catalogs."""
    source: str | None
    """The table in SQL; None for files, from which no statement removes rows."""
    user: str
    """The SQL expression of a row's user id."""
    company: bool
    """True: the company writes it, and the project never changes it."""

    def delete_statement(self, user: object) -> str:
        """Return the SQL statement that removes a user's rows; for files, a comment that says what to do."""
        if self.source is None:
            return f"-- {self.path}: write these files anew without the rows of the user"
        return f"DELETE FROM {self.source} WHERE {self.user} = {sql_text(canonical_id(user))}"


def personal_tables(deployment: Deployment) -> list[PersonalTable]:
    """Return the existing tables with personal data: the company's first, then the project's, those of `ask` last.

    `ask --all --table NAME` writes to a table that the user names; the runs of `ask` in `job_runs` record the names.
    """
    company = {source.table: source.user for source in deployment.sources}
    if deployment.attributes:
        company[deployment.attributes.table] = deployment.attributes.user
    company |= {scenario.labels.table: "user_id" for scenario in deployment.scenarios if scenario.labels}
    own = [table.name for table in catalog.TABLES.values() if table.personal and not table.company]
    answers = {name for run in read_runs(deployment, "ask") for name in run.handoff(AskHandoff).tables}
    rejected = _user_of_rejected_row(deployment)
    users = {table: user_id_sql(_column_in_sql(deployment, table, column)) for table, column in company.items()}
    users |= {name: rejected if name == "rejected_rows" else "user_id" for name in (*own, *sorted(answers))}
    tables = [
        PersonalTable(
            name=name, path=deployment.table(name), source=_in_sql(deployment, name), user=user, company=name in company
        )
        for name, user in users.items()
    ]
    return [table for table in tables if not deployment.is_delta_path(table.name) or table_exists(table.path)]


def _in_sql(deployment: Deployment, name: str) -> str | None:
    """Return a table as SQL names it; None for files."""
    if is_catalog_name(name):
        return deployment.table(name)
    return sql_table(deployment.table(name)) if deployment.is_delta_path(name) else None


def _column_in_sql(deployment: Deployment, table: str, name: str) -> str:
    """Return a column of the company as SQL names it: a column of that name, or else a path into structs."""
    parts = name_parts(name)
    if parts == [name]:
        return sql_name(name)
    path, columns = deployment.table(table), []
    if deployment.is_delta_path(table) and table_exists(path):
        with suppress(UnsupportedTableError):
            columns = [field.name for field in open_path(path).schema().fields]
    return sql_name(name) if name in columns else ".".join(map(sql_name, parts))


def _user_of_rejected_row(deployment: Deployment) -> str:
    """Return the SQL expression of the user id in `rejected_rows`, whose JSON has the source's own column names."""
    columns = {source.name: source.user for source in deployment.sources}
    if deployment.attributes:
        columns["attributes"] = deployment.attributes.user
    cases = [f"WHEN '{source}' THEN {user_id_of_json_sql('row', column)}" for source, column in columns.items()]
    return f"CASE source {' '.join(cases)} END"


def main(path: str, user_id: str) -> None:
    """Print the statements that remove a user, those for the company's tables as comments."""
    for table in personal_tables(Deployment.read(path)):
        print(f"{'-- the company: ' if table.company else ''}{table.delete_statement(user_id)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
