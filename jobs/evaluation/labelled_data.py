"""Read the labels of scenarios and the profiles of the labelled users, for an evaluation that `job_runs` records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime

import pyarrow as pa
import pyarrow.compute as pc

from jobs.config.deployment import Deployment
from jobs.config.sections import Scenario
from jobs.lake.run_log import RunRecord
from jobs.training.labels import LabelledUsers, LeftOut, labelled_profiles, read_labels
from model.errors import InstructUEError


class EvaluationError(InstructUEError):
    """A deployment or labels that cannot be evaluated."""


@dataclass(frozen=True, kw_only=True)
class LabelledData:
    """Labelled users and their profiles.

    Attributes
    ----------
    run : RunRecord
        The record of this evaluation.
    scenarios : tuple of Scenario
        The evaluated scenarios, all with labels.
    groups : tuple of LabelledUsers
        The labelled users of each scenario; their rows are rows of `profiles`.
    profiles : pa.Table
        Each user's latest row of `user_profiles` at or before the label's as_of.
    left_out : dict
        What is left out of the labels, by scenario.
    first_as_of : datetime
        The earliest as_of of a label.
    last_as_of : date
        The latest as_of of a label.
    """

    run: RunRecord
    scenarios: tuple[Scenario, ...]
    groups: tuple[LabelledUsers, ...]
    profiles: pa.Table
    left_out: dict[str, LeftOut]
    first_as_of: datetime
    last_as_of: date

    def record_failures(self, failed: Mapping[str, str]) -> None:
        """Record the scenarios that could not be probed, with their reasons.

        Raises
        ------
        EvaluationError
            No scenario could be probed.
        """
        self.run.details["not_probed"] = dict(failed)
        self.run.left_out |= {
            f"{group.scenario}: not probed": len(group.user_ids) for group in self.groups if group.scenario in failed
        }
        if len(failed) == len(self.groups):
            raise EvaluationError(
                "no scenario could be probed:\n" + "\n".join(f"  {name}: {why}" for name, why in failed.items())
            )


@contextmanager
def open_labelled_data(deployment: Deployment, job: str, names: Sequence[str] = ()) -> Iterator[LabelledData]:
    """Read the labels and profiles of the scenarios with these names, or of all that have labels.

    The block is one run of `job` in `job_runs`.

    Raises
    ------
    EvaluationError
        No scenario has labels, or a named one has none.
    LabelError
        A table of labels is malformed, labels contradict each other, or no labelled user has a profile.
    ReleaseError
        Another deployment file made the profiles.
    TableError
        A table is missing, or a day of profiles is half replaced.
    """
    scenarios = labelled_scenarios(deployment, names)
    labels = read_labels(deployment, scenarios)
    times = [time for one in labels.values() for time in pc.unique(one.rows["as_of"]).to_pylist()]
    with RunRecord.kept(deployment, job, max(times).date()) as run:
        profiles, groups, left_out = labelled_profiles(deployment, run.open("user_profiles"), labels)
        run.versions |= {one.table: one.version for one in labels.values() if one.version is not None}
        run.rows_in = sum(one.rows_in for one in labels.values())
        run.left_out = {reason: n for name, of in left_out.items() for reason, n in of.reasons(name).items()}
        yield LabelledData(
            run=run,
            scenarios=scenarios,
            groups=tuple(groups),
            profiles=profiles,
            left_out=left_out,
            first_as_of=min(times),
            last_as_of=max(times).date(),
        )


def labelled_scenarios(deployment: Deployment, names: Sequence[str] = ()) -> tuple[Scenario, ...]:
    """Return the scenarios with these names, or all that have labels.

    Raises
    ------
    EvaluationError
        No scenario has labels, or a named one has none.
    """
    known = {scenario.name: scenario for scenario in deployment.scenarios if scenario.labels}
    if not known:
        raise EvaluationError(f"{deployment.path}: no scenario has labels; name a table under scenarios.*.labels")
    for name in names:
        if name not in known:
            raise EvaluationError(
                f"{deployment.path}: there is no scenario {name!r} with labels; use some of " + ", ".join(known)
            )
    return tuple(scenario for name, scenario in known.items() if not names or name in names)
