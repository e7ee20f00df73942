"""docs/tables.md: it is current, and it lists every table, view and function of a lake."""

from __future__ import annotations

from jobs.lake import table_page
from jobs.lake.catalog import TABLES
from jobs.lake.sql.definitions import INSTRUCTION_FUNCTIONS
from jobs.lake.sql.views import FOLDER


def test_the_page_is_current():
    written = table_page.PAGE.read_text(encoding="utf-8")
    assert written == table_page.page(), "run `python -m jobs.lake.table_page`"


def test_every_table_sql_file_and_function_has_a_section():
    sections = {line.removeprefix("## ") for line in table_page.page().splitlines() if line.startswith("## ")}
    files = {file.stem.replace("embeddings_scenario", r"embeddings_\<scenario>") for file in FOLDER.glob("*.sql")}
    functions = {function.name for function in INSTRUCTION_FUNCTIONS}
    assert sections == {*TABLES, "answers"} | files | functions
