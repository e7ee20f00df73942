"""Labels of scenarios, and the profiles that belong to them; `evaluate` and `tune` read both.

The labels of a scenario are a set: one for each user and as_of. The profile of a label is the user's latest one at or
before the label's as_of, which production would have embedded.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from numpy.typing import NDArray

from jobs.config.company_table import Labels
from jobs.config.deployment import Deployment
from jobs.config.sections import Scenario
from jobs.console.text import count, list_errors
from jobs.lake import delta, run_log
from jobs.lake.errors import TableError
from jobs.training.label_tables import LATEST_BY, LabelError, LabelTable, read_label_table
from jobs.training.registry import check_vector_spec

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

KEY = ("user_id", "as_of")


@dataclass(frozen=True, kw_only=True)
class LabelSet:
    """The labels of a scenario, one for each user and as_of.

    Attributes
    ----------
    rows : pa.Table
        `user_id`, `as_of` and `label`, ordered by the first two.
    table : str
        The name of the table in the deployment file.
    version : int, optional
        Its version; None where it has none.
    rows_in : int
        The scenario's rows in the table.
    repeated : int
        Rows that repeat another one.
    superseded : int
        Rows with a later one by the column `latest_by`.
    """

    rows: pa.Table
    table: str
    version: int | None
    rows_in: int
    repeated: int
    superseded: int


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """What is left out of a scenario's labels.

    Attributes
    ----------
    repeated, superseded : int
        Rows that repeat another one, and rows with a later one.
    no_profile : int
        Labels of users who have no profile at or before the as_of: they have too few events.
    deactivated : int
        Labels of users who had a profile and are no longer eligible at the as_of.
    users : int
        Labelled users of whom every label is left out.
    """

    repeated: int
    superseded: int
    no_profile: int
    deactivated: int
    users: int

    def reasons(self, scenario: str) -> dict[str, int]:
        """Return the rows by reason, as `job_runs` records them."""
        rows = {name.replace("_", " "): number for name, number in asdict(self).items() if name != "users"}
        return {f"{scenario}: {reason}": number for reason, number in rows.items() if number}

    def __str__(self) -> str:
        """Return the labelled users and the rows that are left out, in words; empty where there is none."""
        labels = {
            "without a profile": self.no_profile,
            "of deactivated users": self.deactivated,
            "repeated": self.repeated,
            "superseded by a later one": self.superseded,
        }
        parts = [f"{count(self.users, 'labelled user')} left out"] if self.users else []
        return "; ".join([*parts, *(f"{count(number, 'label')} {why}" for why, number in labels.items() if number)])


@dataclass(frozen=True, kw_only=True)
class LabelledUsers:
    """The labels of a scenario whose users have a profile; a user may have labels at several times."""

    scenario: str
    user_ids: list[str]
    """The user of each label."""
    row_U: NDArray[np.int64]
    """Their rows in the table of profiles."""
    label_U: NDArray[np.int64]

    @property
    def users(self) -> int:
        """The number of different users."""
        return len(set(self.user_ids))


def read_labels(
    deployment: Deployment, scenarios: Sequence[Scenario], *, yes_or_no: bool = True
) -> dict[str, LabelSet]:
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
        The columns or values of a table are wrong, or labels contradict each other; the message has every error.
    TableError
        There is no such table.
    """
    tables: dict[str, LabelTable | LabelError] = {}
    labels: dict[str, LabelSet] = {}
    problems: list[str] = []
    for scenario in scenarios:
        section = scenario.labels
        if section is None:
            raise ValueError(f"scenario {scenario.name} has no labels")
        if repr(section) not in tables:
            tables[repr(section)] = _read(deployment, section)
        table = tables[repr(section)]
        if isinstance(table, LabelError):
            wrong = str(table).splitlines()
        elif not (wrong := _wrong_rows(table, scenario.name, yes_or_no)):
            labels[scenario.name] = _label_set(table, scenario.name, section)
            wrong = _contradictions(labels[scenario.name].rows, scenario.name, section)
        problems += [f"  scenarios.{scenario.name}.labels = {section.table}: {problem}" for problem in wrong]
    if problems:
        raise LabelError(list_errors(deployment.path, problems))
    return labels


def first_as_of(
    deployment: Deployment, section: Labels, spark: SparkSession | None = None
) -> tuple[datetime | None, int | None]:
    """Return the earliest as_of of a table of labels, None without rows, and the table's version.

    Raises
    ------
    LabelError
        The columns are wrong, or a row's as_of is no time; the message has a line for each error.
    TableError
        There is no such table.
    """
    table = read_label_table(deployment, section, spark)
    if wrong := table.problems(pa.chunked_array([pa.repeat(True, len(table.rows))]), "", ["as_of"]):
        raise LabelError("\n".join(wrong))
    return pc.min(table.rows["as_of"]).as_py(), table.version


def labelled_profiles(
    deployment: Deployment, table: DeltaTable, labels: Mapping[str, LabelSet]
) -> tuple[pa.Table, list[LabelledUsers], dict[str, LeftOut]]:
    """Return the rows of `user_profiles` that belong to the labels, the labels that have one, and what is left out.

    Raises
    ------
    LabelError
        No labelled user has a profile.
    ReleaseError
        The profiles were made with another deployment file.
    TableError
        A table is missing, or a day of profiles was left half replaced.
    """
    times = pa.concat_tables([one.rows.select(["as_of"]) for one in labels.values()])["as_of"]
    users = pa.concat_tables([one.rows.select(["user_id"]) for one in labels.values()])["user_id"]
    last = pc.max(times).as_py().date()
    check_assembled(deployment, table, last)
    stored = delta.read_rows(table, filters=(pc.field("day") <= last) & pc.field("user_id").isin(pc.unique(users)))
    row_by_scenario = {name: _latest_rows(stored, one.rows) for name, one in labels.items()}
    active = np.append(stored["profile_hash"].is_valid().to_numpy(zero_copy_only=False), False)
    rows = np.concatenate([*row_by_scenario.values()])
    kept = np.unique(rows[active[rows]])
    if not len(kept):
        first = pc.min(times).as_py()
        raise LabelError(
            f"no labelled user has a profile at {first:%Y-%m-%d}: run `instructue assemble --as-of {first:%Y-%m-%d}`"
        )
    groups, left_out = [], {}
    for name, row_L in row_by_scenario.items():
        used_L = active[row_L]
        user_ids, label_L = labels[name].rows["user_id"].to_pylist(), labels[name].rows["label"].to_numpy()
        group = LabelledUsers(
            scenario=name,
            user_ids=[user_ids[label] for label in np.flatnonzero(used_L)],
            row_U=np.searchsorted(kept, row_L[used_L]),
            label_U=label_L[used_L],
        )
        groups.append(group)
        left_out[name] = LeftOut(
            repeated=labels[name].repeated,
            superseded=labels[name].superseded,
            no_profile=int((row_L < 0).sum()),
            deactivated=int((~used_L & (row_L >= 0)).sum()),
            users=len(set(user_ids)) - group.users,
        )
    return stored.take(kept), groups, left_out


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


def _read(deployment: Deployment, section: Labels) -> LabelTable | LabelError:
    try:
        return read_label_table(deployment, section)
    except LabelError as error:  # reported with those of the other scenarios
        return error
    except TableError as error:
        if str(deployment.path) in str(error):  # it names the file and the key
            raise
        return LabelError(str(error))


def _wrong_rows(table: LabelTable, scenario: str, yes_or_no: bool) -> list[str]:
    selected = _rows_of(table, scenario)
    labels = table.rows["label"].filter(selected)
    if not len(labels):
        return [f"there is no row of scenario {scenario!r}; name another table, or remove the key"]
    columns = [name for name in table.rows.column_names if name != "scenario"]
    wrong = table.problems(selected, f" of scenario {scenario!r}", columns)
    values = sorted({*pc.unique(labels).to_pylist()} - {0, 1, None}) if yes_or_no else []
    return wrong + [f"scenario {scenario!r} has labels such as {value}; write 0 and 1" for value in values[:1]]


def _rows_of(table: LabelTable, scenario: str) -> pa.ChunkedArray:
    return pc.fill_null(pc.equal(table.rows["scenario"], scenario), False)


def _label_set(table: LabelTable, scenario: str, section: Labels) -> LabelSet:
    rows = all_rows = table.rows.filter(_rows_of(table, scenario)).drop_columns(["scenario"])
    if section.latest_by:
        newest = rows.group_by([*KEY]).aggregate([(LATEST_BY, "max")])
        rows = rows.join(newest, [*KEY])
        rows = rows.filter(pc.equal(rows[LATEST_BY], rows[f"{LATEST_BY}_max"]))
    distinct = rows.group_by([*KEY, "label"]).aggregate([])
    return LabelSet(
        # In one order, because the folds of a probe and the drawn shots follow from the positions.
        rows=distinct.sort_by([(name, "ascending") for name in distinct.column_names]),
        table=section.table,
        version=table.version,
        rows_in=len(all_rows),
        repeated=len(rows) - len(distinct),
        superseded=len(all_rows) - len(rows),
    )


def _contradictions(rows: pa.Table, scenario: str, section: Labels) -> list[str]:
    """Return how many users have several labels at one time, with an example; empty without one."""
    counts = rows.group_by([*KEY]).aggregate([("label", "count"), ("label", "min"), ("label", "max")])
    several = counts.filter(pc.greater(counts["label_count"], 1)).sort_by([(name, "ascending") for name in KEY])
    if not len(several):
        return []
    users = pc.count_distinct(several["user_id"]).as_py()
    [first] = several.slice(0, 1).to_pylist()
    fix = (
        f"two rows have the same {section.latest_by}; correct one"
        if section.latest_by
        else f"keep one, or name the column that orders them: labels: {{table: {section.table}, latest_by: <column>}}"
    )
    return [
        f"{count(users, 'user')} of scenario {scenario!r} with labels that contradict each other at one as_of, such as "
        f"{first['user_id']!r} at {first['as_of']:%Y-%m-%dT%H:%M:%SZ}: {first['label_min']} and {first['label_max']}; "
        f"{fix}"
    ]


def _latest_rows(stored: pa.Table, labels: pa.Table) -> NDArray[np.int64]:
    """Return for each label the user's latest row of `stored` at or before its as_of, -1 where there is none."""
    order = stored.select(["user_id", "as_of"]).append_column("row", pa.array(np.arange(len(stored))))
    history: dict[str, tuple[list[datetime], list[int]]] = {}
    for user, as_of, row in zip(*order.sort_by("as_of").to_pydict().values(), strict=True):
        times, rows = history.setdefault(user, ([], []))
        times.append(as_of)
        rows.append(row)
    result = np.full(len(labels), -1, np.int64)
    for label, (user, as_of) in enumerate(zip(labels["user_id"].to_pylist(), labels["as_of"].to_pylist(), strict=True)):
        times, rows = history.get(user, ([], []))
        if place := bisect_right(times, as_of):
            result[label] = rows[place - 1]
    return result
