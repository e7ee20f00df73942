"""Train: `training_profiles` and `userqa` -> a checkpoint, without Spark.

A checkpoint's folder is named after what it is trained on and how, so that a run that was killed goes on where it
stopped, a run that is finished is not repeated, and another one takes nothing away from the releases made before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from jobs import lake
from jobs.deployment import Deployment, DeploymentError
from jobs.releases import checkpoints, set_checkpoint
from model.config import Category, ConfigError, EventSource, NetworkConfig, Number, Tabular, TrainingConfig

INPUTS = "inputs.json"
"""What a checkpoint was trained on: the shaping part of the deployment, the tables' versions, the settings."""


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
    """Losses on the validation split at the end."""
    seconds: float


def train(deployment: Deployment, *, steps: int | None = None, seed: int = 0, log: Callable[[str], None] = print,
          progress: bool | None = None) -> Trained:
    """Train a network as the deployment file says, or go on where a killed run stopped.

    Parameters
    ----------
    steps : int, optional
        Instead of `model.training.steps`.
    seed : int
        Decides the weights and the batches.
    log : callable
        Takes a line of text now and then.
    progress : bool, optional
        Whether to draw a bar on stderr; None: where that is a terminal.

    Raises
    ------
    TableError
        `training_profiles` or `userqa` is missing.
    DeploymentError
        `model.network` or `model.training` has an unknown or impossible setting.
    """
    from model.training import train as fit  # torch and transformers: seconds that the command line need not wait

    config, training = network(deployment), settings(deployment, steps)
    as_of = lake.last_day(lake.opened(deployment, "userqa"))
    with lake.recorded(deployment, "train", as_of) as run:
        tables = {name: run.open(name) for name in ("training_profiles", "userqa")}
        inputs: dict[str, Any] = {"shaping": deployment.shaping(), "versions": run.versions, "seed": seed,
                                  "network": json.loads(config.to_json()), "training": asdict(training)}
        text = json.dumps(inputs, indent=2, ensure_ascii=False)
        folder = checkpoints(deployment) / hashlib.sha256(text.encode()).hexdigest()[:12]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / INPUTS).write_text(text + "\n", encoding="utf-8")
        fit(tables["training_profiles"].to_pyarrow_table(), tables["userqa"].to_pyarrow_table(), config, training,
            folder, seed=seed, log=log, progress=progress)
        set_checkpoint(deployment, folder)
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        curve = metrics["curve"]["loss"]
        done = Trained(as_of=as_of, checkpoint=folder, profiles=metrics["profiles"], pairs=metrics["pairs"],
                       steps=training.steps, loss=curve[-1] if curve else None,
                       validation=metrics["validation"][-1] if metrics["validation"] else {}, seconds=run.seconds())
        run.rows_in, run.rows_out = done.pairs, None
        run.details = {"checkpoint": folder.name, "steps": done.steps, "loss": done.loss,
                       "validation": done.validation}
        return done


def network(deployment: Deployment) -> NetworkConfig:
    """The network of a deployment: its sources and columns, its preset, and `model.network` on top.

    `model.network` takes the switches of `model.config.NetworkConfig`, and sizes as mappings under `encoder` and
    `backbone`.
    """
    given = dict(deployment.model.network)
    sizes = {part: given.pop(part, {}) for part in ("encoder", "backbone")}
    sources = tuple(EventSource(name=source.name, max_events=source.max_events, max_tokens=source.max_tokens)
                    for source in deployment.sources)
    tabular = Tabular(numbers=tuple(Number(name=name) for name in deployment.numbers),
                      categories=tuple(Category(name=name) for name in deployment.categories))
    try:
        config = NetworkConfig.from_preset(deployment.model.preset, sources=sources, tabular=tabular, **given)
        return replace(config, encoder=replace(config.encoder, **sizes["encoder"]),
                       backbone=replace(config.backbone, **sizes["backbone"]))
    except (TypeError, ConfigError) as error:
        raise DeploymentError(f"{deployment.path}: model.network = {deployment.model.network}: {error}") from None


def settings(deployment: Deployment, steps: int | None = None) -> TrainingConfig:
    """The settings of a deployment's training: the defaults, and `model.training` on top."""
    given: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value
                             for name, value in deployment.model.training.items()}
    if steps is not None:
        given["steps"] = steps
    try:
        return TrainingConfig(**given)
    except (TypeError, ConfigError) as error:
        raise DeploymentError(f"{deployment.path}: model.training = {deployment.model.training}: {error}") from None
