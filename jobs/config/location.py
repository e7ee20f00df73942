"""Locations in the deployment file: folders of this machine, and URIs of remote stores.

A location without a scheme, or with `file:`, is local. Every other scheme is remote, whatever it is mounted as.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlparse


def scheme(location: str) -> str:
    """Return the scheme of a location, empty where it has none; ValueError where it does not parse."""
    return urlparse(location).scheme


def is_remote(location: str) -> bool:
    """Return whether files at a location are read through a remote store's client, not from a disk."""
    return scheme(location) not in ("", "file")


def is_path(name: str) -> bool:
    """Return whether the name of a table is itself a path or URI, not a name in the lake."""
    return bool(scheme(name)) or name.startswith(("/", "./", "../"))


def local_path(location: str) -> Path | None:
    """Return a local location as a path, `file:` URIs too; None where it is remote."""
    if is_remote(location):
        return None
    return Path(urlparse(location).path if scheme(location) else location)
