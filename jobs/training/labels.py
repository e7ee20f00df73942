"""Labels of scenarios, and the profiles that belong to them; `evaluate` and `tune` read both.

The profile of a label is the user's latest one at or before the label's as_of, which production would have embedded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from numpy.typing import NDArray

from jobs.config.deployment import Deployment
from jobs.config.sections import Scenario
from jobs.console.text import list_errors
from jobs.lake import delta, run_log
from jobs.lake.errors import translate_table_errors
from jobs.training.registry import check_vector_spec
from model.errors import InstructUEError


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


COLUMNS: dict[str, tuple[Callable[[pa.DataType], bool], str]] = {
    "user_id": (_is_text, "texts"),
    "as_of": (lambda kind: pa.types.is_timestamp(kind) and kind.tz is not None, "UTC timestamps"),
    "scenario": (_is_text, "texts"),
    "label": (pa.types.is_integer, "whole numbers, 0 and 1"),
}
"""The columns of a table of labels: a test of the type, and the type in words."""


class LabelError(InstructUEError):
    """Labels that cannot be used, or labels of users without a profile."""


@dataclass(frozen=True, kw_only=True)
class LabelledUsers:
    """The labelled users of a scenario who have a profile."""

    scenario: str
    user_ids: list[str]
    row_U: NDArray[np.int64]
    """Their rows in the table of profiles."""
    label_U: NDArray[np.int64]


def read_labels(
    deployment: Deployment, scenarios: Sequence[Scenario], *, yes_or_no: bool = True
) -> dict[str, pa.Table]:
    """Return each scenario's labels.

    Parameters
    ----------
    scenarios : sequence of Scenario
        Each names a table of labels.
    yes_or_no : bool
        Whether labels must be 0 or 1; else any whole number is a label.

    Raises
    ------
    LabelError
        The columns or values of a table are wrong; the message has every mistake.
    TableError
        There is no such table.
    """
    tables: dict[str, pa.Table] = {}
    problems: list[str] = []
    for scenario in scenarios:
        name = scenario.labels.table if scenario.labels else ""
        key = f"scenarios.{scenario.name}.labels = {name}"
        labels = delta.open_table(deployment, name)
        with translate_table_errors(labels.table_uri):
            dataset = labels.to_pyarrow_dataset()
            wrong = _wrong_columns(dataset.schema)
            if not wrong:
                tables[scenario.name] = table = dataset.to_table(
                    columns=[*COLUMNS], filter=pc.field("scenario") == scenario.name
                )
                wrong = _wrong_rows(table, scenario.name, yes_or_no)
        problems += [f"  {key}: {problem}" for problem in wrong]
    if problems:
        raise LabelError(list_errors(deployment.path, problems))
    return tables


def labelled_profiles(
    deployment: Deployment, table: DeltaTable, labels: dict[str, pa.Table]
) -> tuple[pa.Table, list[LabelledUsers]]:
    """Return the rows of `user_profiles` that belong to the labels, and each scenario's users who have such a row.

    Raises
    ------
    LabelError
        No labelled user has a profile.
    ReleaseError
        The profiles were made with another deployment file.
    TableError
        A table is missing, or a day of profiles was left half replaced.
    """
    profiles, row = _profiles(deployment, table, labels)
    return profiles, [_labelled(name, table, row) for name, table in labels.items()]


def _wrong_columns(schema: pa.Schema) -> list[str]:
    missing = [
        f"there is no column {name}; write one of {kind}"
        for name, (_, kind) in COLUMNS.items()
        if name not in schema.names
    ]
    return missing + [
        f"column {name} is {schema.field(name).type}; write {kind}"
        for name, (fits, kind) in COLUMNS.items()
        if name in schema.names and not fits(schema.field(name).type)
    ]


def _wrong_rows(table: pa.Table, scenario: str, yes_or_no: bool) -> list[str]:
    if not len(table):
        return [f"there is no row of scenario {scenario!r}; name another table, or remove the key"]
    empty = [
        f"{table[name].null_count} rows of scenario {scenario!r} have no {name}; fill it, or remove the rows"
        for name in ("user_id", "as_of", "label")
        if table[name].null_count
    ]
    values = sorted({*pc.unique(table["label"]).to_pylist()} - {0, 1, None}) if yes_or_no else []
    return empty + [f"scenario {scenario!r} has labels such as {value}; write 0 and 1" for value in values[:1]]


def _profiles(
    deployment: Deployment, table: DeltaTable, labels: dict[str, pa.Table]
) -> tuple[pa.Table, dict[tuple[str, object], int]]:
    """Return the profiles that belong to the labels, and the row of each (user, as_of) that has one."""
    times = {as_of for table in labels.values() for as_of in pc.unique(table["as_of"]).to_pylist()}
    users = pa.concat_arrays([pc.unique(table["user_id"]) for table in labels.values()])
    last = max(times).date()
    check_assembled(deployment, table, last)
    stored = delta.read_rows(table, filters=(pc.field("day") <= last) & pc.field("user_id").isin(pc.unique(users)))
    user_ids, active = stored["user_id"].to_pylist(), stored["profile_hash"].is_valid().to_pylist()
    rows: dict[tuple[str, object], int] = {
        (user_ids[row], as_of): row
        for as_of in times
        for row in delta.latest_per_key(stored, ["user_id"], as_of)
        if active[row]
    }
    if not rows:
        raise LabelError(
            f"no labelled user has a profile at {min(times):%Y-%m-%d}: run "
            f"`instructue assemble --as-of {min(times):%Y-%m-%d}`"
        )
    kept = sorted(set(rows.values()))
    place = {row: position for position, row in enumerate(kept)}
    return stored.take(kept), {key: place[row] for key, row in rows.items()}


def check_assembled(deployment: Deployment, table: DeltaTable, last: date) -> None:
    """Check that the profiles up to a day are complete and were made with the deployment's vector spec.

    `table` is `user_profiles`.

    Raises
    ------
    TableError
        The run that made a day of the table did not succeed.
    ReleaseError
        The last successful run had another vector spec.
    """
    days = delta.table_days(table)
    assembled = run_log.read_runs(deployment, "assemble", last=last)
    for run in assembled:
        if run.day in days:
            run.require_ok()
    for run in [run for run in assembled if run.status == "ok"][-1:]:
        check_vector_spec(deployment, run)


def _labelled(scenario: str, labels: pa.Table, row: dict[tuple[str, object], int]) -> LabelledUsers:
    users = [
        (user, row[user, as_of], label)
        for user, as_of, label in zip(
            labels["user_id"].to_pylist(), labels["as_of"].to_pylist(), labels["label"].to_pylist(), strict=True
        )
        if (user, as_of) in row
    ]
    return LabelledUsers(
        scenario=scenario,
        user_ids=[user for user, _, _ in users],
        row_U=np.array([at for _, at, _ in users], np.int64),
        label_U=np.array([label for _, _, label in users], np.int64),
    )
