"""Train: `training_profiles` and `userqa` -> a checkpoint, without Spark.

A checkpoint's folder is named after what it is trained on and how, so that a run that was killed goes on where it
stopped, a run that is finished is not repeated, and another one takes nothing away from the releases made before.

Several processes train one network, each on a GPU of its own or together on a CPU:

    torchrun --standalone --nproc-per-node 8 -m jobs train --config conf/yours.yaml

The first alone holds the lock, records the run, writes and speaks. All must see the lake and the checkpoint's folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

from jobs.config.deployment import Deployment
from jobs.lake import delta, run_log
from jobs.lake.run_log import RunRecord
from jobs.training.registry import check_vector_spec, checkpoints_folder, set_current_checkpoint
from model.atomic_write import atomic_write_text
from model.data.config import Category, EventSource, NetworkConfig, Number, Tabular
from model.data.transformer_config import BackboneConfig, EncoderConfig
from model.progress import Progress, no_progress
from model.serving.vector_spec import VECTOR_SPEC_KEY
from model.training.training_config import TrainingConfig

Part = TypeVar("Part", EncoderConfig, BackboneConfig)

TABLES = ("training_profiles", "userqa")
"""What a training reads."""
INPUTS = "inputs.json"
"""What a checkpoint was trained on: the vector spec of the deployment, the tables' versions, the settings."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What one run of train did."""

    as_of: date
    """The last cut-off trained on."""
    checkpoint: Path
    profiles: int
    pairs: int
    steps: int
    loss: float | None
    """Of the last step; None without steps."""
    validation: dict[str, float]
    """Losses of the checkpoint's weights on the validation split; empty without steps."""
    seconds: float


def train(
    deployment: Deployment, *, steps: int | None = None, seed: int = 0, progress: Progress = no_progress
) -> Trained:
    """Train a network as the deployment file says, or go on where a killed run stopped.

    Parameters
    ----------
    steps : int, optional
        Instead of `model.training.steps`.
    seed : int
        Decides the weights and the batches.
    progress : callable
        Takes how many steps are done, and of how many.

    Raises
    ------
    TableError
        `training_profiles` or `userqa` is missing, or the last userqa did not succeed.
    ReleaseError
        The last userqa was run with a deployment file that makes other profiles.
    """
    from model.training.processes import processes
    from model.training.training import train as fit

    config, training = network_config(deployment), training_config(deployment, steps)
    as_of = delta.last_day(delta.open_table(deployment, "userqa"))
    first = processes().is_main_process
    record = RunRecord(deployment=deployment, job="train", as_of=as_of)
    with RunRecord.kept(deployment, "train", as_of) if first else nullcontext(record) as run:
        check_training(deployment)
        tables = {name: run.open(name) for name in TABLES}
        folder = checkpoint_folder(
            deployment, training_inputs(deployment, config, training, run.versions, seed), write=first
        )
        fit(
            delta.read_rows(tables["training_profiles"]),
            delta.read_rows(tables["userqa"]),
            config,
            training,
            folder,
            seed=seed,
            progress=progress,
        )
        if first:
            set_current_checkpoint(deployment, folder)
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        curve = metrics["curve"]["loss"]
        kept = [scored for scored in metrics["validation"] if scored["step"] == metrics["checkpoint_step"]]
        done = Trained(
            as_of=as_of,
            checkpoint=folder,
            profiles=metrics["profiles"],
            pairs=metrics["pairs"],
            steps=len(curve),
            loss=curve[-1] if curve else None,
            validation=kept[-1] if kept else {},
            seconds=run.seconds(),
        )
        run.rows_in, run.rows_out = done.pairs, None
        run.details = {"checkpoint": folder.name, "steps": done.steps, "loss": done.loss, "validation": done.validation}
        return done


def training_inputs(
    deployment: Deployment, config: NetworkConfig, training: TrainingConfig, versions: Mapping[str, int], seed: int
) -> dict[str, Any]:
    """Everything that decides a training, as JSON knows it."""
    decides = {
        VECTOR_SPEC_KEY: deployment.vector_spec(),
        "versions": {name: versions[name] for name in TABLES},
        "seed": seed,
        "network": json.loads(config.to_json()),
        "training": asdict(training),
    }
    if config.encoder.pretrained or config.backbone.pretrained:
        from model.network.pretrained import pretrained_identities  # transformers, which fresh models need not wait for

        decides["pretrained"] = pretrained_identities(config)
    return decides


def checkpoint_folder(deployment: Deployment, inputs: Mapping[str, Any], *, write: bool = True) -> Path:
    """The folder of the training that these inputs decide; `write`: made where there is none, the inputs in it."""
    text = json.dumps(inputs, indent=2, ensure_ascii=False)
    folder = checkpoints_folder(deployment) / hashlib.sha256(text.encode()).hexdigest()[:12]
    if write:
        atomic_write_text(folder / INPUTS, text + "\n")
    return folder


def check_training(deployment: Deployment) -> None:
    """Refuse what the last userqa left where it did not succeed, or asked as another deployment file says."""
    asked = max(run_log.read_runs(deployment, "userqa"), key=lambda run: run.started_at, default=None)
    if asked is not None:
        asked.require_ok()
        check_vector_spec(deployment, asked)


def network_config(deployment: Deployment) -> NetworkConfig:
    """The network of a deployment: its sources and columns, and the sizes and switches of `model.network`."""
    chosen = deployment.model.network
    sources = tuple(
        EventSource(name=source.name, max_events=source.max_events, max_tokens=source.max_tokens)
        for source in deployment.sources
    )
    tabular = Tabular(
        numbers=tuple(Number(name=name) for name in deployment.numbers),
        categories=tuple(Category(name=name) for name in deployment.categories),
    )
    return NetworkConfig(
        sources=sources,
        tabular=tabular,
        encoder=_located(chosen.encoder, deployment),
        backbone=_located(chosen.backbone, deployment),
        shared_encoder=chosen.shared_encoder,
        adapter=chosen.adapter,
        pooled_tokens=chosen.pooled_tokens,
        time_bands=chosen.time_bands,
        readout=chosen.readout,
        head=chosen.head,
    )


def _located(part: Part, deployment: Deployment) -> Part:
    """A pretrained model's folder starts at the deployment file's own; what begins with no point is as it stands."""
    if part.pretrained is None or not part.pretrained.startswith("."):
        return part
    return replace(part, pretrained=str((deployment.path.parent / part.pretrained).resolve()))


def training_config(deployment: Deployment, steps: int | None = None) -> TrainingConfig:
    """The settings of a deployment's training, its steps replaced where others are named."""
    return deployment.model.training if steps is None else replace(deployment.model.training, steps=steps)
