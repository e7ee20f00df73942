"""A study: what every comparison over seeds stands on, labels and their profiles, and networks trained for it alone.

A network is trained as the deployment file says, or as a plan that changes it, under `checkpoints` of the releases'
folder: a finished one is not repeated, a killed one goes on. It embeds in torch, so that what cannot be exported can be
compared too. The checkpoint and the release that jobs use stay as they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.config.deployment import Deployment
from jobs.config.sections import Scenario
from jobs.evaluation import result_cache
from jobs.evaluation.result_cache import Cell
from jobs.evaluation.scores import Score, not_probed
from jobs.evaluation.studies.variants import Plan
from jobs.lake import delta
from jobs.lake.run_log import RunRecord
from jobs.training.labels import LabelledUsers, labelled_profiles, read_labels
from jobs.training.registry import releases_folder
from jobs.training.train import TABLES, check_training, checkpoint_folder
from model.errors import InstructUEError
from model.progress import Progress, no_progress

if TYPE_CHECKING:
    from model.data.text import Tokenizers
    from model.network.network import InstructUE

EVALUATIONS = "evaluations"
CELLS = "cells"
KEY = ("user_id", "as_of", "profile_hash")


class StudyError(InstructUEError):
    """A comparison that cannot be made of this deployment."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """A trained network and the labelled users' profiles as it reads them."""

    network: InstructUE
    tokenizers: Tokenizers
    profiles: pa.Table
    batch_size: int

    def embed(self, instructions: Sequence[str | None], profiles: pa.Table | None = None) -> NDArray[np.float32]:
        """Vectors `[U, K, H]` of the labelled users, or of other profiles, under these instructions."""
        from model.network.inference import embed

        return embed(
            self.network,
            self.tokenizers,
            self.profiles if profiles is None else profiles,
            instructions,
            batch_size=self.batch_size,
        )


@dataclass(kw_only=True)
class Study:
    """Labelled users, their profiles, and the seeds over which something is compared.

    `groups` has the labelled users of each of the `scenarios`; rows of `profiles` are theirs.
    """

    run: RunRecord
    tables: dict[str, str]
    """Ids of the Delta tables that training reads: a table made anew begins at version 0 again."""
    scenarios: tuple[Scenario, ...]
    groups: tuple[LabelledUsers, ...]
    profiles: pa.Table
    seeds: tuple[int, ...]
    steps: int | None
    progress: Progress
    _last: tuple[Path, Trained] | None = field(default=None, init=False)

    @classmethod
    @contextmanager
    def opened(
        cls,
        deployment: Deployment,
        name: str,
        *,
        seeds: int,
        steps: int | None = None,
        scenarios: Sequence[str] = (),
        progress: Progress = no_progress,
    ) -> Iterator[Study]:
        """Open the labels, their profiles and what training reads; the run stands in `job_runs` under this name.

        Raises
        ------
        StudyError
            No such scenario, or none that has labels.
        LabelError
            A table of labels is not what it must be, or no labelled user has a profile.
        ReleaseError
            The profiles were made as another file says.
        TableError
            A table is missing, or was left half replaced.
        """
        judged = _judged(deployment, scenarios)
        labels = read_labels(deployment, judged)
        as_of: date = max(pc.max(table["as_of"]).as_py() for table in labels.values()).date()
        with RunRecord.kept(deployment, name, as_of) as run:
            check_training(deployment)
            profiles, groups = labelled_profiles(deployment, run.open("user_profiles"), labels)
            tables = {name: str(run.open(name).metadata().id) for name in TABLES}
            run.rows_in = sum(len(table) for table in labels.values())
            missing = {group.scenario: len(labels[group.scenario]) - len(group.user_ids) for group in groups}
            run.left_out = {f"{scenario}: no profile": count for scenario, count in missing.items() if count}
            run.details = {"seeds": seeds, "steps": steps}
            yield cls(
                run=run,
                tables=tables,
                scenarios=judged,
                groups=tuple(groups),
                profiles=profiles,
                seeds=tuple(range(seeds)),
                steps=steps,
                progress=progress,
            )

    @property
    def deployment(self) -> Deployment:
        """The deployment that is studied."""
        return self.run.deployment

    @property
    def folder(self) -> Path:
        """Where its results are written."""
        return releases_folder(self.deployment) / EVALUATIONS

    @property
    def names(self) -> tuple[str, ...]:
        """The scenarios' names."""
        return tuple(scenario.name for scenario in self.scenarios)

    @cached_property
    def plan(self) -> Plan:
        """The network and training of the deployment file."""
        return Plan.of(self.deployment, self.steps)

    def cell(
        self,
        name: str,
        plan: Plan,
        seed: int,
        work: Callable[[], Any],
        *,
        groups: Sequence[LabelledUsers] = (),
        **more: Any,
    ) -> Cell:
        """A piece of work with one network; `more` is what else decides it beside that and the labels."""
        groups = groups or self.groups
        decides = {
            "trained": plan.inputs(self.deployment, self.run.versions, seed),
            "tables": self.tables,
            "profiles": self._profiles_hash,
            "labels": {group.scenario: self._labels_hash(group) for group in groups},
            **more,
        }
        return Cell(name=f"{name}, seed {seed}", decides=decides, work=work)

    def run_cells(self, wanted: Sequence[Cell]) -> list[Any]:
        """What every cell found; each is kept in a file of its own once it is done."""
        return result_cache.run(wanted, self.folder / CELLS, progress=self.progress)

    def trained(self, plan: Plan, seed: int) -> Trained:
        """The network of a plan and seed, trained now if it was not before."""
        from model.training.checkpoint import load_checkpoint
        from model.training.processes import processes
        from model.training.training import train as fit

        path = checkpoint_folder(self.deployment, plan.inputs(self.deployment, self.run.versions, seed))
        if self._last is None or self._last[0] != path:
            profiles, pairs = self._examples
            with delta.job_lock(self.deployment, "train"):
                fit(
                    plan.profiles(profiles), _without(pairs, plan.left_out), plan.config, plan.training, path, seed=seed
                )
            network, tokenizers, _ = load_checkpoint(path)
            self._last = (
                path,
                Trained(
                    network=network.to(processes().device),
                    tokenizers=tokenizers,
                    profiles=plan.profiles(self.profiles),
                    batch_size=plan.batch_size,
                ),
            )
        return self._last[1]

    def notes(self, scores: Sequence[Sequence[Score]]) -> tuple[str, ...]:
        """What a reader must know of any table of it.

        Raises
        ------
        StudyError
            No scenario could be probed.
        """
        failed = not_probed(score for some in scores for score in some)
        if len(failed) == len(self.groups):
            raise StudyError(
                "no scenario could be probed:\n" + "\n".join(f"  {name}: {why}" for name, why in failed.items())
            )
        self.run.details["not_probed"] = failed
        users = ", ".join(f"{group.scenario} {len(group.user_ids):,}" for group in self.groups)
        count = len(self.seeds)
        return (
            f"linear probe on five salted halves; mean over {count} seed{'s' * (count > 1)}"
            + (", ± standard deviation over them" if count > 1 else "")
            + f"; {self.plan.training.steps:,} steps of training each",
            f"labelled users: {users}",
            *(f"{name} was not probed: {why}" for name, why in failed.items()),
        )

    @cached_property
    def pairs(self) -> pa.Table:
        """What is asked in training, at the version that was opened."""
        return self._examples[1]

    @cached_property
    def _examples(self) -> tuple[pa.Table, pa.Table]:
        profiles, pairs = (delta.read_rows(self._at(name)) for name in TABLES)
        return profiles, pairs

    def _at(self, name: str) -> Any:
        table = delta.open_table(self.deployment, name)
        table.load_as_version(self.run.versions[name])
        return table

    @cached_property
    def _profiles_hash(self) -> str:
        rows = sorted(zip(*(map(str, self.profiles[name].to_pylist()) for name in KEY), strict=True))
        return hashlib.sha256(repr(rows).encode()).hexdigest()

    def _labels_hash(self, group: LabelledUsers) -> str:
        hashes = self.profiles["profile_hash"].take(group.row_U).to_pylist()
        rows = sorted(zip(group.user_ids, hashes, group.label_U.tolist(), strict=True))
        return hashlib.sha256(repr(rows).encode()).hexdigest()


def _judged(deployment: Deployment, wanted: Sequence[str]) -> tuple[Scenario, ...]:
    known = {scenario.name: scenario for scenario in deployment.scenarios if scenario.labels}
    if not known:
        raise StudyError(f"{deployment.path}: no scenario has labels; name a table under scenarios.*.labels")
    for name in wanted:
        if name not in known:
            raise StudyError(
                f"{deployment.path}: there is no scenario {name!r} with labels; use some of " + ", ".join(known)
            )
    return tuple(scenario for name, scenario in known.items() if not wanted or name in wanted)


def _without(pairs: pa.Table, instructions: Sequence[str]) -> pa.Table:
    """The pairs that ask something else."""
    if not instructions:
        return pairs
    asked = pc.is_in(pairs["instruction"], value_set=pa.array(instructions, pa.string()))
    return pairs.filter(pc.invert(asked))
