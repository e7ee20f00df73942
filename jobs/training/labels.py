"""Labels of scenarios, and the profiles that production would have embedded for them: what `evaluate` and `tune` read.

A labelled user is judged by the latest profile at or before the label's as_of.
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

COLUMNS: dict[str, tuple[Callable[[pa.DataType], bool], str]] = {
    "user_id": (lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind), "texts"),
    "as_of": (lambda kind: pa.types.is_timestamp(kind) and kind.tz is not None, "UTC timestamps"),
    "scenario": (lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind), "texts"),
    "label": (pa.types.is_integer, "whole numbers, 0 and 1"),
}
"""The columns of a table of labels."""


class LabelError(InstructUEError):
    """Labels that are none, or that nobody has a profile for."""


@dataclass(frozen=True, kw_only=True)
class LabelledUsers:
    """The users of a scenario: `row_U` are their rows in the table of profiles."""

    scenario: str
    user_ids: list[str]
    row_U: NDArray[np.int64]
    label_U: NDArray[np.int64]


def read_labels(
    deployment: Deployment, scenarios: Sequence[Scenario], *, yes_or_no: bool = True
) -> dict[str, pa.Table]:
    """Each scenario's labels, every scenario one that names a table of them; 0 and 1 alone, or any whole numbers.

    Raises
    ------
    LabelError
        A table that is not what it must be; all mistakes at once.
    TableError
        There is no such table.
    """
    tables: dict[str, pa.Table] = {}
    mistakes: list[str] = []
    for scenario in scenarios:
        key = f"scenarios.{scenario.name}.labels = {scenario.labels}"
        labels = delta.open_table(deployment, str(scenario.labels))
        with translate_table_errors(labels.table_uri):
            whole = labels.to_pyarrow_dataset()
            wrong = _wrong_columns(whole.schema)
            if not wrong:
                tables[scenario.name] = table = whole.to_table(
                    columns=[*COLUMNS], filter=pc.field("scenario") == scenario.name
                )
                wrong = _wrong_rows(table, scenario.name, yes_or_no)
        mistakes += [f"  {key}: {words}" for words in wrong]
    if mistakes:
        raise LabelError(list_errors(deployment.path, mistakes))
    return tables


def labelled_profiles(
    deployment: Deployment, table: DeltaTable, labels: dict[str, pa.Table]
) -> tuple[pa.Table, list[LabelledUsers]]:
    """The rows of `user_profiles` that the labels need, and each scenario's users who have one.

    Raises
    ------
    LabelError
        No labelled user has a profile.
    ReleaseError
        The profiles were made as another file says.
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
    """The profiles that the labels need, and the row of each (user, as_of) that has one."""
    wanted = {as_of for table in labels.values() for as_of in pc.unique(table["as_of"]).to_pylist()}
    users = pa.concat_arrays([pc.unique(table["user_id"]) for table in labels.values()])
    last = max(wanted).date()
    check_assembled(deployment, {day for day in delta.table_days(table) if day <= last}, last)
    there = delta.read_rows(table, filters=(pc.field("day") <= last) & pc.field("user_id").isin(pc.unique(users)))
    user_ids, active = there["user_id"].to_pylist(), there["profile_hash"].is_valid().to_pylist()
    rows: dict[tuple[str, object], int] = {
        (user_ids[row], as_of): row
        for as_of in wanted
        for row in delta.latest_per_key(there, ["user_id"], as_of)
        if active[row]
    }
    if not rows:
        raise LabelError(
            f"no labelled user has a profile at {min(wanted):%Y-%m-%d}: run "
            f"`instructue assemble --as-of {min(wanted):%Y-%m-%d}`"
        )
    kept = sorted(set(rows.values()))
    place = {row: position for position, row in enumerate(kept)}
    return there.take(kept), {key: place[row] for key, row in rows.items()}


def check_assembled(deployment: Deployment, days: set[date], last: date) -> None:
    """Refuse days of profiles that were left half replaced, and profiles that another deployment file made."""
    assembled = run_log.read_runs(deployment, "assemble", last=last)
    for run in assembled:
        if run.day in days:
            run.require_ok()
    for run in [run for run in assembled if run.status == "ok"][-1:]:
        check_vector_spec(deployment, run)


def _labelled(scenario: str, labels: pa.Table, row: dict[tuple[str, object], int]) -> LabelledUsers:
    found = [
        (user, row[user, as_of], label)
        for user, as_of, label in zip(
            labels["user_id"].to_pylist(), labels["as_of"].to_pylist(), labels["label"].to_pylist(), strict=True
        )
        if (user, as_of) in row
    ]
    return LabelledUsers(
        scenario=scenario,
        user_ids=[user for user, _, _ in found],
        row_U=np.array([at for _, at, _ in found], np.int64),
        label_U=np.array([label for _, _, label in found], np.int64),
    )
