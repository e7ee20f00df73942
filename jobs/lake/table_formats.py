"""Tables of formats that no job reads, recognised by the files that describe them.

Their data files are Parquet, and only the table's own metadata says which of them count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from jobs.config.company_table import NO_ICEBERG

REPLACED = "whose files also hold replaced rows"
REWRITE = "write its present rows to a Delta or Parquet table"


class Files(NamedTuple):
    """A file system, by the path or URI of a file or folder."""

    exists: Callable[[str], bool]
    names: Callable[[str], Iterable[str]]
    """The names in a folder; none where there is no such folder."""


class TableFormat(NamedTuple):
    """A format, and how to tell that a folder holds a table of it."""

    name: str
    advice: str
    is_at: Callable[[Files, str], bool]


def _is_hudi(files: Files, folder: str) -> bool:
    return any(files.exists(f"{folder}/{sign}") for sign in (".hoodie", ".hoodie_partition_metadata"))


def _is_iceberg(files: Files, folder: str) -> bool:
    return any(name.endswith(".metadata.json") for name in files.names(f"{folder}/metadata"))


def _is_paimon(files: Files, folder: str) -> bool:
    return files.exists(f"{folder}/schema/schema-0") and files.exists(f"{folder}/snapshot")


FORMATS = (
    TableFormat("Apache Hudi", REWRITE, _is_hudi),
    TableFormat("Apache Iceberg", NO_ICEBERG, _is_iceberg),
    TableFormat("Apache Paimon", REWRITE, _is_paimon),
)


def find_table(files: Files, folder: str, parents: Iterable[str]) -> tuple[str, str] | None:
    """Return which table of these formats a folder is or belongs to, and what to do; None where there is none."""
    for place in (folder, *parents):
        for table_format in FORMATS:
            if table_format.is_at(files, place):
                kind = f"{table_format.name} table"
                what = f"an {kind}" if place == folder else f"a folder of the {kind} at {place}"
                return f"{what}, {REPLACED}", table_format.advice
    return None
