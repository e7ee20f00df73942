"""What is at a path that has no Delta table, and what to do about it where that is known to work."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from jobs.config.location import local_path
from jobs.lake.repair import ACCESS, LOG
from jobs.lake.table_formats import Files, find_table

FILES_READ = 10_000
"""Files of a folder that are looked at."""
UNREAD = {".orc": "ORC", ".avro": "Avro", ".json": "JSON", ".jsonl": "JSON", ".txt": "text"}
"""Formats that no job reads, by the end of a file's name."""
LOCAL = Files(
    exists=lambda path: Path(path).exists(), names=lambda folder: [path.name for path in Path(folder).glob("*")]
)


class Contents(NamedTuple):
    """What is at a path, and what to do about it."""

    what: str = ""
    """The end of a clause; empty where nothing is there, or that is not known."""
    advice: str = "create it or name another"


def contents(path: str) -> Contents:
    """Return what is at a path that has no Delta table."""
    folder = local_path(path)
    try:
        if folder is None or not folder.exists():
            return Contents()
        what, *advice = _folder(folder) if folder.is_dir() else ("a file",)
    except PermissionError:
        return Contents(" that may be read", ACCESS)
    return Contents(f", only {what}", *advice)


def _folder(folder: Path) -> tuple[str, ...]:
    """Return what a folder holds, and what to do about it if not to create a table."""
    if (folder / LOG).is_dir():
        return f"a log, {LOG}, without its first commits", "put it back from a copy, or write the table anew"
    if table := find_table(LOCAL, str(folder), map(str, folder.parents)):
        return table
    if (folder / "_temporary").is_dir():
        return "a write that did not finish (it has a folder _temporary)", "write it again"
    if delta := next((parent for parent in folder.parents if (parent / LOG).is_dir()), None):
        return f"a folder of the Delta table at {delta}", "name that table"
    if tables := sorted(log.parent.name for log in islice(folder.glob(f"*/{LOG}"), 20)):
        return f"a folder of Delta tables: {', '.join(tables)}", "name one of them"
    return _files(folder)


def _files(folder: Path) -> tuple[str, ...]:
    suffixes = {file.suffix for file in islice(_data_files(folder), FILES_READ)}
    if not suffixes:
        return ("an empty folder",)
    if ".parquet" in suffixes:
        return "Parquet files without a log", "add `format: parquet` to a table of the company, or name another"
    if ".csv" in suffixes:
        return "CSV files", "add `format: csv` and `schema` to a table of the company, or name another"
    if names := sorted({UNREAD[suffix] for suffix in suffixes & UNREAD.keys()}):
        return f"files of {', '.join(names)}, which no job reads", "write their rows to a Delta or Parquet table"
    return ("files of another format",)


def _data_files(folder: Path) -> Iterator[Path]:
    """Yield the files that may hold rows: neither they nor a folder above them begin with . or _."""
    for file in folder.rglob("*"):
        if not any(part.startswith((".", "_")) for part in file.relative_to(folder).parts) and file.is_file():
            yield file
