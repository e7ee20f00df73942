"""The characters that a path on this machine must not have, because a library would read it as another path."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from jobs.config.location import is_path, local_path, scheme

if TYPE_CHECKING:
    from jobs.config.deployment import Deployment

CONTROL = r"[\x00-\x1f\x7f]"
TABLE = re.compile(rf"[\[\]^|\\]|%[0-9A-Fa-f]{{2}}|{CONTROL}")
"""In the path of a Delta table: the `deltalake` package fails on a bracket, decodes %41 and takes a backslash for /."""
STORE = re.compile(rf"\?|\$\w|\$\{{|{CONTROL}")
"""In the folder of the store: SQLite's address ends at a question mark, and Feast replaces $NAME by a variable."""
WAREHOUSE = re.compile(rf"{TABLE.pattern}|;")
"""In the folder of a metastore: Derby's address ends at a semicolon."""
URI = re.compile(r"[#?%]")
"""In a `file:` URI, which libraries decode in different ways; a path without `file:` may have these characters."""


def path_errors(deployment: Deployment) -> list[str]:
    """Return an error for each local path of a deployment with a character that a library cannot read in it."""
    named = [("lake", deployment.lake, TABLE), ("store.folder", deployment.store.folder, STORE)]
    named += [
        (f"{key}.table", table.table, TABLE)
        for key, table in deployment.company_tables
        if is_path(table.table) and table.format == "delta"
    ]
    if deployment.spark.metastore:
        named.append(("spark.metastore", deployment.spark.metastore, WAREHOUSE))
    errors = []
    for key, location, refused in named:
        path = deployment.resolve(location)
        if local_path(path) is None:
            continue
        if scheme(location) and (match := URI.search(location)):
            errors.append(f"{key} = {location!r}: has {match[0]!r} in a URI; write the path without `file:`")
        elif match := refused.search(path):
            errors.append(
                f"{key} = {location!r}: {path} has {match[0]!r}, which the libraries that open it read as something "
                "else; rename the folder, or name another"
            )
    return errors
