"""A study: labelled users and their profiles, networks trained for the study alone, and cached results over seeds.

A network is trained as the deployment file says, or as a plan that changes it, under `checkpoints` of the releases'
folder. A finished training is not repeated and a killed one continues. Networks embed in torch, so that variants that
cannot be exported can be compared too. The current checkpoint and release do not change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
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
from jobs.evaluation.labelled_data import EvaluationError, LabelledData, open_labelled_data
from jobs.evaluation.result_cache import Cell
from jobs.evaluation.scores import Score, not_probed, unconverged
from jobs.evaluation.studies.variants import Plan
from jobs.lake import delta
from jobs.lake.run_log import RunRecord
from jobs.training.labels import LabelledUsers
from jobs.training.registry import releases_folder
from jobs.training.train import check_training
from jobs.training.training_inputs import TABLES, checkpoint_folder
from model.progress import Progress, no_progress
from model.training.probe import SPLITS

if TYPE_CHECKING:
    from model.data.text import Tokenizers
    from model.network.network import InstructUE

EVALUATIONS = "evaluations"
CELLS = "cells"
PROFILE_KEY = ("user_id", "as_of", "profile_hash")


class StudyError(EvaluationError):
    """A comparison that cannot be made for this deployment."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedNetwork:
    """A trained network, and the labelled users' profiles in the form that it reads."""

    network: InstructUE
    tokenizers: Tokenizers
    profiles: pa.Table
    batch_size: int

    def embed(self, instructions: Sequence[str | None], profiles: pa.Table | None = None) -> NDArray[np.float32]:
        """Return vectors `[U, K, H]` of the labelled users, or of other profiles, under these instructions."""
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
    """Labelled users, the tables that are read beside them, and the seeds of a comparison.

    `table_ids` are the ids of the Delta tables that were opened: a table that is created again starts at version 0.
    """

    data: LabelledData
    table_ids: dict[str, str]
    seeds: tuple[int, ...]
    steps: int | None
    progress: Progress
    _last: tuple[Path, TrainedNetwork] | None = field(default=None, init=False)
    _tables: dict[str, pa.Table] = field(default_factory=dict, init=False)

    @classmethod
    @contextmanager
    def open(
        cls,
        deployment: Deployment,
        name: str,
        *,
        seeds: int,
        steps: int | None = None,
        scenarios: Sequence[str] = (),
        reads: Sequence[str] = TABLES,
        progress: Progress = no_progress,
    ) -> Iterator[Study]:
        """Read the labels and their profiles, and open the tables in `reads`; the block is a run in `job_runs`.

        Raises
        ------
        EvaluationError
            No scenario has labels, or a named one has none.
        LabelError
            A table of labels is malformed, or no labelled user has a profile.
        ReleaseError
            Another deployment file made the profiles.
        TableError
            A table is missing, or a day of it is half replaced.
        """
        with open_labelled_data(deployment, name, scenarios) as data:
            check_training(deployment)
            table_ids = {table: str(data.run.open(table).metadata().id) for table in reads}
            data.run.details = {"seeds": seeds, "steps": steps}
            yield cls(data=data, table_ids=table_ids, seeds=tuple(range(seeds)), steps=steps, progress=progress)

    @property
    def run(self) -> RunRecord:
        """Return the record of this study in `job_runs`."""
        return self.data.run

    @property
    def deployment(self) -> Deployment:
        """Return the deployment that is studied."""
        return self.run.deployment

    @property
    def folder(self) -> Path:
        """Return the folder of the results."""
        return releases_folder(self.deployment) / EVALUATIONS

    @property
    def scenarios(self) -> tuple[Scenario, ...]:
        """Return the scenarios that are studied."""
        return self.data.scenarios

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the scenarios."""
        return tuple(scenario.name for scenario in self.scenarios)

    @property
    def groups(self) -> tuple[LabelledUsers, ...]:
        """Return the labelled users of each scenario."""
        return self.data.groups

    @property
    def profiles(self) -> pa.Table:
        """Return the labelled users' profiles."""
        return self.data.profiles

    @cached_property
    def plan(self) -> Plan:
        """Return the network and training of the deployment file."""
        return Plan.of(self.deployment, self.steps)

    def cell(self, name: str, work: Callable[[], Any], *, groups: Sequence[LabelledUsers] = (), **inputs: Any) -> Cell:
        """Return a cacheable piece of work; its inputs are these, the tables, the profiles and the groups' labels."""
        return Cell(
            name=name,
            inputs={
                "tables": self.table_ids,
                "profiles": self._profiles_hash,
                "labels": {group.scenario: self._labels_hash(group) for group in groups or self.groups},
                **inputs,
            },
            work=work,
        )

    def network_cell(
        self,
        name: str,
        plan: Plan,
        seed: int,
        work: Callable[[], Any],
        *,
        groups: Sequence[LabelledUsers] = (),
        **inputs: Any,
    ) -> Cell:
        """Return a cacheable piece of work with the network of this plan and seed."""
        trained = plan.inputs(self.deployment, self.run.versions, seed)
        return self.cell(f"{name}, seed {seed}", work, groups=groups, trained=trained, **inputs)

    def run_cells(self, cells: Sequence[Cell], *, before: int = 0, total: int | None = None) -> list[Any]:
        """Return the result of every cell, and keep each in a file; `before` of `total` cells are done already."""
        count = len(cells) if total is None else total
        return result_cache.run(
            cells, self.folder / CELLS, progress=lambda done, _: self.progress(before + done, count)
        )

    def read_cells(self, cells: Sequence[Cell]) -> list[Any] | None:
        """Return the kept result of every cell; None when one is missing."""
        results = [cell.read(self.folder / CELLS) for cell in cells]
        return None if any(result is None for result in results) else results

    def trained(self, plan: Plan, seed: int) -> TrainedNetwork:
        """Return the network of a plan and seed; train it when it was not trained before."""
        from model.training.checkpoint import load_checkpoint
        from model.training.processes import processes
        from model.training.training import train as fit

        path = checkpoint_folder(self.deployment, plan.inputs(self.deployment, self.run.versions, seed))
        if self._last is None or self._last[0] != path:
            profiles, pairs = self.read_table("training_profiles"), _without(self.pairs, plan.left_out)
            with delta.job_lock(self.deployment, "train"):
                fit(plan.profiles(profiles), pairs, plan.config, plan.training, path, seed=seed)
            network, tokenizers, _ = load_checkpoint(path)
            self._last = (
                path,
                TrainedNetwork(
                    network=network.to(processes().device),
                    tokenizers=tokenizers,
                    profiles=plan.profiles(self.profiles),
                    batch_size=plan.batch_size,
                ),
            )
        return self._last[1]

    def notes(self, scores: Sequence[Sequence[Score]], *, trained: bool = True) -> tuple[str, ...]:
        """Return the notes that every table has: splits, seeds, users, and scenarios without scores.

        Raises
        ------
        EvaluationError
            No scenario could be probed.
        """
        failed = not_probed(one for some in scores for one in some)
        self.data.record_failures(failed)
        users = ", ".join(f"{group.scenario} {len(group.user_ids):,}" for group in self.groups)
        count = len(self.seeds)
        seeds = f"linear probe on {SPLITS} splits of the users; mean over {count} seed{'s' * (count > 1)}"
        if trained:
            seeds += ", ± standard deviation over them" * (count > 1)
            seeds += f"; {self.plan.training.steps:,} steps of training each"
        return (
            seeds,
            f"labelled users: {users}",
            *(f"{name} was not probed: {why}" for name, why in failed.items()),
            *filter(None, [unconverged(one for some in scores for one in some)]),
        )

    @cached_property
    def pairs(self) -> pa.Table:
        """Return the question-answer pairs of training."""
        return self.read_table("userqa")

    def read_table(self, name: str) -> pa.Table:
        """Read a table at the version that was opened; each is read once."""
        if name not in self._tables:
            table = delta.open_table(self.deployment, name)
            table.load_as_version(self.run.versions[name])
            self._tables[name] = delta.read_rows(table)
        return self._tables[name]

    @cached_property
    def _profiles_hash(self) -> str:
        rows = sorted(zip(*(map(str, self.profiles[name].to_pylist()) for name in PROFILE_KEY), strict=True))
        return hashlib.sha256(repr(rows).encode()).hexdigest()

    def _labels_hash(self, group: LabelledUsers) -> str:
        hashes = self.profiles["profile_hash"].take(group.row_U).to_pylist()
        rows = sorted(zip(group.user_ids, hashes, group.label_U.tolist(), strict=True))
        return hashlib.sha256(repr(rows).encode()).hexdigest()


def _without(pairs: pa.Table, instructions: Sequence[str]) -> pa.Table:
    """Return the pairs with other instructions."""
    if not instructions:
        return pairs
    selected = pc.is_in(pairs["instruction"], value_set=pa.array(instructions, pa.string()))
    return pairs.filter(pc.invert(selected))
