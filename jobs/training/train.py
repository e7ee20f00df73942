"""Train: `training_profiles` and `userqa` -> a checkpoint, without Spark.

The folder of a checkpoint is named after a hash of the training's inputs. So a killed run continues where it stopped, a
finished run is not repeated, and a run with other inputs leaves the earlier checkpoints.

Several processes train one network, each on a GPU of its own or together on a CPU:

    torchrun --standalone --nproc-per-node 8 -m jobs train --config conf/yours.yaml

The first process alone holds the lock, records the run and writes. Every process must see the lake and the folder of
checkpoints.
"""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from jobs.config.deployment import Deployment
from jobs.lake import delta, run_log
from jobs.lake.run_log import RunRecord
from jobs.training.registry import check_vector_spec, set_current_checkpoint
from jobs.training.training_inputs import TABLES, checkpoint_folder, network_config, training_config, training_inputs
from model.progress import Progress, no_progress


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """The result of one run of train."""

    as_of: date
    """The last cut-off trained on."""
    checkpoint: Path
    profiles: int
    pairs: int
    steps: int
    loss: float | None
    """Loss of the last step; None without steps."""
    validation: dict[str, float]
    """Losses of the checkpoint's weights on the validation split; empty without steps."""
    seconds: float


def train(
    deployment: Deployment, *, steps: int | None = None, seed: int = 0, progress: Progress = no_progress
) -> TrainResult:
    """Train a network as the deployment file says, or continue where a killed run stopped.

    Parameters
    ----------
    steps : int, optional
        Instead of `model.training.steps`.
    seed : int
        Decides the weights and the batches.
    progress : callable
        Called with the steps done and their number.

    Raises
    ------
    TableError
        `training_profiles` or `userqa` is missing, or the last userqa did not succeed.
    ReleaseError
        The last userqa was run with a deployment file that makes other profiles.
    """
    # torch and transformers take seconds to import.
    from model.training.processes import processes
    from model.training.training import train as fit

    config, training = network_config(deployment), training_config(deployment, steps)
    as_of = delta.last_day(delta.open_table(deployment, "userqa"))
    is_first = processes().is_main_process
    with _record(deployment, as_of, kept=is_first) as run:
        check_training(deployment)
        tables = {name: run.open(name) for name in TABLES}
        inputs = training_inputs(deployment, config, training, run.versions, seed)
        folder = checkpoint_folder(deployment, inputs, write=is_first)
        profiles, pairs = (delta.read_rows(tables[name]) for name in TABLES)
        fit(profiles, pairs, config, training, folder, seed=seed, progress=progress)
        if is_first:
            set_current_checkpoint(deployment, folder)
        return _result(run, folder)


def check_training(deployment: Deployment) -> None:
    """Check that the last userqa succeeded and had the deployment's vector spec.

    Raises
    ------
    TableError
        The last userqa did not succeed.
    ReleaseError
        Its vector spec differs from the deployment's.
    """
    last = max(run_log.read_runs(deployment, "userqa"), key=lambda run: run.started_at, default=None)
    if last is not None:
        last.require_ok()
        check_vector_spec(deployment, last)


def _record(deployment: Deployment, as_of: date, *, kept: bool) -> AbstractContextManager[RunRecord]:
    """Return the record of this run; if it is `kept`, the block holds the lock and leaves a row in `job_runs`."""
    if kept:
        return RunRecord.kept(deployment, "train", as_of)
    return nullcontext(RunRecord(deployment=deployment, job="train", as_of=as_of))


def _result(run: RunRecord, checkpoint: Path) -> TrainResult:
    """Return what the training did, and note it in the run."""
    metrics = json.loads((checkpoint / "metrics.json").read_text(encoding="utf-8"))
    losses = metrics["curve"]["loss"]
    of_checkpoint = [scores for scores in metrics["validation"] if scores["step"] == metrics["checkpoint_step"]]
    result = TrainResult(
        as_of=run.as_of,
        checkpoint=checkpoint,
        profiles=metrics["profiles"],
        pairs=metrics["pairs"],
        steps=len(losses),
        loss=losses[-1] if losses else None,
        validation=of_checkpoint[-1] if of_checkpoint else {},
        seconds=run.seconds(),
    )
    run.rows_in = result.pairs
    run.details = {
        "checkpoint": checkpoint.name,
        "steps": result.steps,
        "loss": result.loss,
        "validation": result.validation,
    }
    return result
