"""Tables of the examples: read a publisher's files, write Delta tables, and convert columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path

import pandas as pd
import pyarrow as pa
from deltalake import write_deltalake

from jobs.config.deployment import Deployment
from model.errors import InstructUEError


class DataError(InstructUEError):
    """A file of a data set is missing."""


def read_tables(data: Path, names: Iterable[str]) -> dict[str, pd.DataFrame]:
    """Read the publisher's tables `<name>.parquet` of a folder.

    Raises
    ------
    DataError
        A file is missing.
    """
    missing = [name for name in names if not (data / f"{name}.parquet").is_file()]
    if missing:
        raise DataError(f"{data}: no {', '.join(f'{name}.parquet' for name in missing)}; name the folder with DATA=")
    return {name: pd.read_parquet(data / f"{name}.parquet") for name in names}


def write_tables(deployment: Deployment, tables: Mapping[str, pd.DataFrame]) -> dict[str, int]:
    """Write tables into the lake under their names and return the number of rows of each."""
    for name, frame in tables.items():
        write_deltalake(
            deployment.table(name),
            pa.Table.from_pandas(frame, preserve_index=False),
            mode="overwrite",
            schema_mode="overwrite",
        )
    return {name: len(frame) for name, frame in tables.items()}


def label_rows(scenario: str, labels: Mapping[str, int], as_of: date) -> pd.DataFrame:
    """Return the rows of a label table, one per user of `labels`, in the order of the user ids."""
    users = sorted(labels)
    return pd.DataFrame(
        {
            "user_id": users,
            "as_of": pd.Series(pd.Timestamp(as_of, tz="UTC"), index=range(len(users))).astype("datetime64[us, UTC]"),
            "scenario": scenario,
            "label": [labels[user] for user in users],
        }
    )


def utc(times: pd.Series) -> pd.Series:
    """Return the publisher's local times and dates as times in UTC."""
    return pd.to_datetime(times).dt.tz_localize("UTC").astype("datetime64[us, UTC]")


def lower_case(names: pd.Series) -> pd.Series:
    """Return `FRZN ICE` as `frzn ice`, and a missing name as `other`."""
    return names.astype("string").str.lower().str.strip().fillna("other")
