"""What every rival is given: the training profiles, the labels' profiles, and who is labelled."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.rivals.errors import RivalError
from jobs.config.deployment import Deployment
from jobs.lake import delta
from jobs.training.labels import LabelledUsers, labelled_profiles, read_labels
from jobs.training.train import network_config
from model.data.config import NetworkConfig
from model.data.rendering import render


@dataclass(frozen=True, kw_only=True)
class Material:
    """Profiles and labels of a deployment.

    Attributes
    ----------
    config : NetworkConfig
        The deployment's sources and tabular columns, without statistics.
    training : pa.Table
        Rows of `training_profiles` at the cut-offs before every label's as_of; no label.
    profiles : pa.Table
        The labelled users' latest rows of `user_profiles` at or before their label's as_of, as `evaluate` reads them.
    groups : tuple of Labelled
        Each scenario's users, as rows of `profiles`, and labels.
    key : str
        Hash of the tables' versions and of what shapes a profile: other figures belong to another key.
    """

    deployment: Deployment
    config: NetworkConfig
    training: pa.Table
    profiles: pa.Table
    groups: tuple[LabelledUsers, ...]
    key: str

    @classmethod
    def read(cls, path: Path) -> Material:
        """Read the lake of a deployment file.

        Raises
        ------
        RivalError
            No scenario has labels, or no training profile is older than they are.
        """
        deployment = Deployment.read(path)
        judged = [scenario for scenario in deployment.scenarios if scenario.labels]
        if not judged:
            raise RivalError(f"{path}: no scenario has labels; name a table under scenarios.*.labels")
        labels = read_labels(deployment, judged)
        tables = {name: delta.open_table(deployment, name) for name in ("user_profiles", "training_profiles")}
        profiles, groups = labelled_profiles(deployment, tables["user_profiles"], labels)
        earliest = min(pc.min(table["as_of"]).as_py() for table in labels.values())
        training = delta.read_rows(tables["training_profiles"], filters=pc.field("as_of") < earliest)
        if not len(training):
            raise RivalError(
                f"{path}: no training profile is older than the labels of {earliest:%Y-%m-%d}: name "
                "earlier days under userqa.as_of, and run `instructue userqa`"
            )
        tables |= {
            scenario.labels: delta.open_table(deployment, scenario.labels) for scenario in judged if scenario.labels
        }
        # A table's own id too: made afresh, it counts its versions from 0 again.
        made_of = {name: (str(table.metadata().id), table.version()) for name, table in sorted(tables.items())}
        text = json.dumps([made_of, deployment.vector_spec()], sort_keys=True, default=str)
        return cls(
            deployment=deployment,
            config=network_config(deployment),
            training=training,
            profiles=profiles,
            groups=tuple(groups),
            key=hashlib.sha256(text.encode()).hexdigest()[:16],
        )

    @cached_property
    def training_texts(self) -> list[str]:
        """The training profiles rendered as text."""
        return render(self.training, self.config)

    @cached_property
    def texts(self) -> list[str]:
        """The labelled profiles rendered as text."""
        return render(self.profiles, self.config)
