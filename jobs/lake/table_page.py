"""Write docs/tables.md from the catalog: every table, view and function that a query can name, with its columns.

Run it with `python -m jobs.lake.table_page`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from jobs.lake.catalog import ANSWERS, TABLES
from jobs.lake.sql.definitions import DEFINITIONS, INSTRUCTION_FUNCTIONS, SqlDefinition
from jobs.lake.table import Column, Names, Table
from model.atomic_write import atomic_write_text

PAGE = Path(__file__).parents[2] / "docs" / "tables.md"
PLACEHOLDERS = Names(
    sources=("<source>",), numbers=("<number>",), categories=("<category>",), scenarios=("<scenario>",)
)
HEAD = """# Tables
Every table of a lake, with its columns, and the views and functions that `instructue sql` and every Spark session of
the project define. `python -m jobs.lake.table_page` writes this page from `jobs/lake/catalog.py` and
`jobs/lake/sql/definitions.py`.

A table with `day` is partitioned by it. A job replaces a day's rows and never appends to them. `<source>`, `<number>`,
`<category>` and `<scenario>` are names from the deployment file: a table has such a column for each of them. The
company's own tables can be queried too, by their own names or by the name of their source.
"""


def page() -> str:
    """Return the text of docs/tables.md."""
    tables = (*TABLES.values(), ANSWERS)
    summary = _markdown(
        ("table", "one row is", "key", "written by", "read by", "personal data", "`maintain` removes"),
        [_summary(table) for table in tables],
    )
    parts = [HEAD, summary]
    parts += [f"## {table.name}\n{_columns(table.columns_with(PLACEHOLDERS))}" for table in tables]
    parts.append("# Views\n" + "\n".join(_section(view) for view in DEFINITIONS if view.parameters is None))
    functions = [*(function for function in DEFINITIONS if function.parameters is not None), *INSTRUCTION_FUNCTIONS]
    parts.append("# Functions\n" + "\n".join(map(_section, functions)))
    return "\n".join(parts)


def _summary(table: Table) -> tuple[str, ...]:
    maker = f"the company; `{table.made_by}` makes a made-up one" if table.company else f"`{table.made_by}`"
    return (
        f"[{table.name}](#{table.name})",
        table.description,
        _names(table.key) or "none",
        maker if table.made_by else "every job",
        _names(table.feeds) or "people",
        "yes" if table.personal else "no",
        table.retention.value,
    )


def _section(definition: SqlDefinition) -> str:
    if definition.parameters is None:
        heading = definition.name.replace("<", "\\<")
        return f"## {heading}\n{definition.description}\n\n{_columns(definition.columns)}"
    signature = ", ".join(f"{parameter.name} {parameter.type.upper()}" for parameter in definition.parameters)
    parameters = _columns(definition.parameters, "parameter")
    if definition.columns[0].name:
        returns = f"It returns rows:\n\n{_columns(definition.columns)}"
    else:
        returns = f"It returns a `{definition.columns[0].type}`: {definition.columns[0].description}\n"
    return (
        f"## {definition.name}\n`{definition.name}({signature})`\n\n{definition.description}\n\n{parameters}\n{returns}"
    )


def _columns(columns: Iterable[Column], head: str = "column") -> str:
    rows = [(f"`{column.name}`", f"`{column.type}`", column.description) for column in columns]
    return _markdown((head, "type", "values"), rows)


def _names(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    atomic_write_text(PAGE, page())
