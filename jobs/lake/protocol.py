"""The features of Delta tables, and the ones that the `deltalake` package does not read correctly.

`unsupported_features(path)` returns them by name. It is empty where `deltalake` and Spark read the same rows; a table
with any is read by Spark alone. `READ_CORRECTLY` names the features that were tried with both readers. Every other one
counts as unsupported, because `deltalake` reads some of them wrongly without an error: a table with column mapping and
a renamed column has the values of another column.
"""

from __future__ import annotations

import re
from urllib.parse import urlparse

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from jobs.lake.errors import translate_table_errors

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
        "icebergCompatV1",
        "icebergCompatV2",
        "icebergCompatV3",
        "identityColumns",
        "inCommitTimestamp",
        "invariants",
        "materializePartitionColumns",
        "rowTracking",
        "timestampNtz",
    }
)
"""Features with which `deltalake` and Spark read the same rows; those of Iceberg need column mapping besides."""
COLUMN_MAPPING, CATALOG_MANAGED, SHALLOW_CLONE = "columnMapping", "catalogManaged", "shallow clone"
REFUSED_AT_OPENING = re.compile(
    r"Feature '(?P<feature>[^']+)' is not supported|minimum reader version (?P<version>\d+)"
)
"""The message of `deltalake` about a feature or a version of the protocol with which it does not open a table."""


def unsupported_features(path: str) -> tuple[str, ...]:
    """Return the features of the Delta table at a path or URI that `deltalake` does not read correctly, sorted.

    Raises
    ------
    TableError
        There is no such table, or its log cannot be read.
    """
    with translate_table_errors(path):
        try:
            table = DeltaTable(path)
        except DeltaError as error:
            if (feature := _refused_feature(str(error))) is None:
                raise
            return (feature,)
        return features_of(table)


def features_of(table: DeltaTable) -> tuple[str, ...]:
    """Return the features of an opened table that `deltalake` does not read correctly, sorted."""
    protocol = table.protocol()
    reader, writer = protocol.reader_features or [], protocol.writer_features or []
    unsupported = {*reader, *writer} - READ_CORRECTLY
    mode = table.metadata().configuration.get("delta.columnMapping.mode", "none")
    if mode != "none":
        unsupported.add(COLUMN_MAPPING)
    elif COLUMN_MAPPING not in reader:
        unsupported.discard(COLUMN_MAPPING)
    if any(urlparse(file).scheme or file.startswith("/") for file in _paths(table)):
        unsupported.add(SHALLOW_CLONE)
    return tuple(sorted(unsupported))


def _paths(table: DeltaTable) -> list[str]:
    """Return the paths of a table's files as its log has them: relative, except those of another table."""
    return [str(path) for path in table.get_add_actions(flatten=True).column("path").to_pylist()]


def _refused_feature(message: str) -> str | None:
    """Return the feature for which `deltalake` did not open a table; None where it failed for another reason."""
    if "catalog-managed" in message:
        return CATALOG_MANAGED
    match = REFUSED_AT_OPENING.search(message)
    return match and (match["feature"] or f"reader version {match['version']}")
