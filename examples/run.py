"""What the examples share: a publisher's tables into a lake, then the whole line, then every number it came to.

An example names its parts, a deployment each with the loader of its tables; labels whose inputs differ (no income
where income is probed) are parts of their own. The data sets belong to their publishers and stay where they are: each
part reads their files from a folder and writes Delta tables, which are all that the line ever sees.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pandas as pd
import pyarrow as pa
from deltalake import write_deltalake
from rich.console import RenderableType

from jobs.cli import pipeline
from jobs.cli.pages.evaluate import evaluation_page
from jobs.cli.pipeline import Steps
from jobs.config.deployment import Deployment
from jobs.console import terminal
from model.errors import InstructUEError

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"
DATA = ROOT.parent / "shared" / "data"
"""Where the data sets lie unless a folder is named, one folder each."""


class DataError(InstructUEError):
    """A data set's folder is not what its publisher ships."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One deployment of an example: its file, the labels' as_of, and what writes the tables that the file names."""

    config: Path
    as_of: date
    load: Callable[[Deployment, Path], dict[str, int]]


def run(name: str, parts: Iterable[Part], data: Path, *, steps: int | None, seeds: int) -> None:
    """Run an example's parts through the line, once for each seed of the training, and print what came of it.

    Parameters
    ----------
    data
        Folder of the publisher's tables; a default one (below `DATA`) that is missing skips the example.
    steps
        Training steps; None: the deployment files'.
    seeds
        How many trainings, with the seeds 0, 1, ...; what is not learned is made once.
    """
    if data.parent == DATA and not data.is_dir():
        terminal.out.print(f"skipped: no {name} data in {data}; name its folder with DATA=", style="yellow")
        return
    data = data.resolve()
    os.chdir(ROOT)
    with pipeline.library_output_to(ROOT / "logs" / f"{name}.log"):
        step = Steps()
        tables: list[RenderableType] = []
        for part in parts:
            deployment = Deployment.read(part.config)
            for place in (deployment.lake, deployment.store.folder):
                shutil.rmtree(deployment.resolve(place), ignore_errors=True)
            with step(f"{deployment.name}: load the publisher's tables"):
                part.load(deployment, data)
            found = [pipeline.first_day(deployment, part.as_of, step, train_steps=steps)]
            found += [pipeline.train_and_evaluate(deployment, step, steps, seed) for seed in range(1, seeds)]
            tables += [pipeline.accounts(deployment), *map(evaluation_page, found)]
        terminal.out.print()
        for table in (*tables, step.table()):
            terminal.out.print(table)


def read(data: Path, names: Iterable[str]) -> dict[str, pd.DataFrame]:
    """The publisher's tables `<name>.parquet` of a folder.

    Raises
    ------
    DataError
        A file is missing.
    """
    missing = [name for name in names if not (data / f"{name}.parquet").is_file()]
    if missing:
        raise DataError(f"{data}: no {', '.join(f'{name}.parquet' for name in missing)}; name the folder with DATA=")
    return {name: pd.read_parquet(data / f"{name}.parquet") for name in names}


def write(deployment: Deployment, tables: Mapping[str, pd.DataFrame]) -> dict[str, int]:
    """Write tables into the lake under their names; rows of each."""
    for name, frame in tables.items():
        write_deltalake(
            deployment.table(name),
            pa.Table.from_pandas(frame, preserve_index=False),
            mode="overwrite",
            schema_mode="overwrite",
        )
    return {name: len(frame) for name, frame in tables.items()}


def labelled(scenario: str, labels: Mapping[str, int], as_of: date) -> pd.DataFrame:
    """Rows of a label table: one per user of `labels`, in order."""
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
    """Local times and dates of the publisher, taken as UTC."""
    return pd.to_datetime(times).dt.tz_localize("UTC").astype("datetime64[us, UTC]")


def words(names: pd.Series) -> pd.Series:
    """`FRZN ICE` as `frzn ice`; what has no name is `other`."""
    return names.astype("string").str.lower().str.strip().fillna("other")
