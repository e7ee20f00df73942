"""Locations in the deployment file: folders of this machine, URIs of remote stores, and names of tables.

A location without a scheme, or with `file:`, is local. Every other scheme is remote, whatever it is mounted as.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import urlparse

VARIABLE = re.compile(r"\$(?:\$|(?P<plain>[A-Za-z_]\w*)|\{(?P<braced>[^}]*)\})")
"""`$NAME`, `${NAME}` and `$$`; any other `$` is a part of a name."""
NAME_PART = re.compile(r"`(?P<quoted>(?:[^`]|``)+)`|(?P<plain>[^.`]+)")
"""A part of a name with dots, of a table in a catalog or of a field in a struct."""


def expand_variables(location: str) -> str:
    """Return a location with the environment variables `$NAME` and `${NAME}` replaced, and `$$` as `$`.

    Raises
    ------
    ValueError
        A variable is unset or empty, or the location starts with `~`.
    """

    def value(match: re.Match[str]) -> str:
        name = match["plain"] or match["braced"]
        if name is None:
            return "$"
        if not re.fullmatch(r"[A-Za-z_]\w*", name):
            raise ValueError(f"{match[0]} is not the name of a variable; write ${{NAME}}, or $$ for the character $")
        if not (text := os.environ.get(name)):
            state = "has no such variable" if text is None else "has it empty"
            raise ValueError(f"names ${name}, and the environment {state}; export it, or write $$ for the character $")
        return text

    if location.startswith("~"):
        raise ValueError("~ is not expanded; write $HOME, or the whole path")
    return VARIABLE.sub(value, location)


def scheme(location: str) -> str:
    """Return the scheme of a location, empty where it has none; ValueError where it does not parse."""
    return urlparse(location).scheme


def is_remote(location: str) -> bool:
    """Return whether files at a location are read through a remote store's client, not from a disk."""
    return scheme(location) not in ("", "file")


def is_path(table: str) -> bool:
    """Return whether a table is a path or URI: it has a slash or a scheme."""
    return "/" in table or bool(scheme(table))


def is_catalog_name(table: str) -> bool:
    """Return whether a table is a name of Spark's catalogs: it has a dot, and neither a slash nor a scheme."""
    return "." in table and not is_path(table)


def quote_catalog_name(table: str) -> str:
    """Return a name of Spark's catalogs with each part between backticks; a part may have them already.

    Raises
    ------
    ValueError
        A part is empty, or a backtick has no partner.
    """
    parts, position = [], 0
    while match := NAME_PART.match(table, position):
        parts.append(match["quoted"] or match["plain"])
        position = match.end() + 1
        if match.end() == len(table):
            return ".".join(f"`{part}`" for part in parts)
        if table[match.end()] != ".":
            break
    raise ValueError(
        "is neither a path nor `catalog.schema.table`; write ./ before a file's or folder's name, and a name of a "
        "catalog without empty parts"
    )


def name_parts(name: str) -> list[str]:
    """Return the parts of a name with dots; a part with a dot of its own stands between backticks."""
    return [quoted.replace("``", "`") or plain for quoted, plain in NAME_PART.findall(name)]


def local_path(location: str) -> Path | None:
    """Return a local location as a path, `file:` URIs too; None where it is remote."""
    if is_remote(location):
        return None
    return Path(urlparse(location).path if scheme(location) else location)
