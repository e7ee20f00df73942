"""The features of Delta tables, and the ones that the `deltalake` package does not read correctly.

A table with any of those is read by Spark alone. `READ_CORRECTLY` names the features that were tried with both readers.
Every other one counts as unsupported, because `deltalake` reads some of them wrongly without an error: a table with
column mapping and a renamed column has the values of another column.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import urlparse

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from jobs.config.location import local_path
from jobs.console.text import sql_command, sql_table
from jobs.lake.errors import TableError, translate_table_errors
from jobs.lake.repair import LOG, log_hint, rewrite_hint

READ_CORRECTLY = frozenset(
    {
        "allowColumnDefaults",
        "appendOnly",
        "changeDataFeed",
        "checkConstraints",
        "checkpointProtection",
        "clustering",
        "domainMetadata",
        "generatedColumns",
        "identityColumns",
        "inCommitTimestamp",
        "invariants",
        "materializePartitionColumns",
        "rowTracking",
        "timestampNtz",
    }
)
"""Features with which `deltalake` and Spark read the same rows."""
COLUMN_MAPPING, CATALOG_MANAGED, SHALLOW_CLONE = "columnMapping", "catalogManaged", "shallow clone"
DROPPABLE = frozenset(
    {
        COLUMN_MAPPING,
        "coordinatedCommits-preview",
        "deletionVectors",
        "typeWidening",
        "typeWidening-preview",
        "v2Checkpoint",
        "vacuumProtocolCheck",
    }
)
"""Features that `ALTER TABLE ... DROP FEATURE` removes while the rows stay as they are."""
REFUSED_AT_OPENING = re.compile(
    r"Feature '(?P<feature>[^']+)' is not supported|minimum reader version (?P<version>\d+)"
)
"""The message of `deltalake` about a feature or a version of the protocol with which it does not open a table."""


class UnsupportedTableError(TableError):
    """A table has features that `deltalake` does not read correctly."""


def open_supported(path: str) -> DeltaTable:
    """Open the Delta table at a path or URI with `deltalake`.

    Raises
    ------
    UnsupportedTableError
        The table has features that `deltalake` does not read correctly; names them and what to do.
    TableError
        There is no such table, or its log cannot be read.
    """
    with translate_table_errors(path):
        _require_whole_commits(path)
        try:
            table = DeltaTable(path)
            features = _unsupported(table)
        except DeltaError as error:
            if (refused := _refused_feature(str(error))) is None:
                raise
            features = (refused,)
    if features:
        raise UnsupportedTableError(
            f"the table at {path} has a feature that the deltalake package does not read correctly: "
            f"{', '.join(features)}; {_fix(path, features)}"
        )
    return table


def _require_whole_commits(path: str) -> None:
    """Raise TableError for an empty commit, which deltalake and Spark would read as one without changes."""
    folder = local_path(path)
    for commit in (folder / LOG).glob("*.json") if folder else ():
        if commit.stat().st_size == 0:
            raise TableError(
                f"the table at {path} has an empty commit, {commit.name}, as a full disk or a broken copy leaves "
                f"behind; {log_hint(path)}"
            )


def _unsupported(table: DeltaTable) -> tuple[str, ...]:
    protocol = table.protocol()
    reader, writer = protocol.reader_features or [], protocol.writer_features or []
    features = {*reader, *writer} - READ_CORRECTLY
    if table.metadata().configuration.get("delta.columnMapping.mode", "none") != "none":
        features.add(COLUMN_MAPPING)
    elif COLUMN_MAPPING not in reader:  # a table may have the feature and no mapping
        features.discard(COLUMN_MAPPING)
    paths = table.get_add_actions(flatten=True).column("path").to_pylist()
    if any(urlparse(file).scheme or file.startswith("/") for file in paths):
        features.add(SHALLOW_CLONE)
    return tuple(sorted(features))


def _refused_feature(message: str) -> str | None:
    """Return the feature for which `deltalake` did not open a table; None where it failed for another reason."""
    if "catalog-managed" in message:
        return CATALOG_MANAGED
    match = REFUSED_AT_OPENING.search(message)
    return match and (match["feature"] or f"reader version {match['version']}")


def _fix(path: str, features: Iterable[str]) -> str:
    """Return what to do about a table with unsupported features."""
    if not DROPPABLE.issuperset(features):
        variant = any(feature.startswith("variant") for feature in features)
        return rewrite_hint(path, "<its columns of other types than variant>" if variant else "*")
    alter = f"ALTER TABLE {sql_table(path)}"
    statements = []
    for feature in features:
        if feature == COLUMN_MAPPING:
            statements.append(f"{alter} SET TBLPROPERTIES ('delta.columnMapping.mode' = 'none')")
        statements.append(f"{alter} DROP FEATURE `{feature}`")
    return f"remove it: {', then '.join(map(sql_command, statements))}"
