"""The loop over the steps of a training: gradients, optimiser, validation, early stopping and saved states.

Shapes: U profiles of a split, B profiles of a batch.
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate.utils import broadcast_object_list

from model.data.batching import batches_of_size
from model.progress import Progress
from model.training.dataset import Batches
from model.training.grad_cache import GradCache
from model.training.history import History, Metrics, MetricsWriter, loss_values
from model.training.training_config import TrainingConfig
from model.training.training_state import TrainingState, cpu_copies, save_state

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """A training in a folder: its state, the losses of its two splits, and, in the first process, its writer."""

    out: Path
    fingerprint: str
    state: TrainingState
    loss: GradCache
    validation_loss: GradCache
    writer: MetricsWriter | None


def run_steps(run: TrainingRun, progress: Progress) -> Metrics:
    """Run the steps that are left, to the last one or to early stopping; return seconds and profiles per second."""
    training, state, history = run.loss.training, run.state, run.state.history
    batches = Batches(run.loss.dataset, training, run.loss.seed)
    start_time, first = time.monotonic(), history.step
    progress(first, training.steps)
    for step in range(first, training.steps):
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(step, training) * group["rate"]
        losses = run.loss.backward(batches.batch(step), step)
        torch.nn.utils.clip_grad_norm_(state.weights.values(), training.max_grad_norm)
        state.optimizer.step()
        history.add(losses)
        done = step + 1
        progress(done, training.steps)
        is_validated = done % training.validate_every == 0 or done == training.steps
        if is_validated:
            history.validation.append({"step": done, **_validate(run.validation_loss)})
            if training.patience is not None and history.validations_since_best == 0:
                state.best = cpu_copies(state.weights)
        if run.writer is not None:
            run.writer.write(history)
        if is_validated:
            logger.info(_step_line(history, training, (done - first) / (time.monotonic() - start_time)))
            if training.patience is not None and history.validations_since_best >= training.patience:
                logger.info(f"no lower validation loss in {training.patience} validations: stopping")
                break
        if done % training.save_every == 0 and done < training.steps and run.writer is not None:
            save_state(run.out, run.fingerprint, state)
    seconds = time.monotonic() - start_time
    rate = (history.step - first) * batches.size / max(seconds, 1e-9)
    return {"seconds": round(seconds, 1), "profiles_per_second": round(rate, 1)}


def learning_rate(step: int, training: TrainingConfig) -> float:
    """Return the rate of a step, counted from 0: a linear warm-up, then a cosine down to 0."""
    if step < training.warmup_steps:
        return training.learning_rate * (step + 1) / training.warmup_steps
    share = (step - training.warmup_steps) / max(1, training.steps - training.warmup_steps)
    return training.learning_rate * 0.5 * (1 + math.cos(math.pi * share))


def _validate(loss: GradCache) -> Metrics:
    """Return the mean losses of the held-out profiles, always the same profiles and pairs.

    Every process gets the result of the first one, so that all stop at the same step.
    """
    training, held_out = loss.training, loss.dataset
    rng = np.random.default_rng([loss.seed, 2])
    users = rng.permutation(len(held_out.profiles))[: training.validation_profiles]
    losses: list[Metrics] = []
    weights: list[int] = []
    for batch_B in batches_of_size(held_out.profiles.lengths_U[users], training.profiles_per_step):
        batch = held_out.sample(users[batch_B], training, rng)
        losses.append(loss_values(loss.losses(batch)))
        weights.append(len(batch.users_B))
    names = losses[0] if losses else ()
    means = {name: float(np.average([part[name] for part in losses], weights=weights)) for name in names}
    return dict(broadcast_object_list([means])[0])


def _step_line(history: History, training: TrainingConfig, steps_per_second: float) -> str:
    held_out = history.validation[-1]
    recent = {name: float(np.mean(values[-training.validate_every :])) for name, values in history.curve.items()}
    splits = [("trained", recent)] + ([("validation", held_out)] if "loss" in held_out else [])
    texts = [
        f"{split} {losses['loss']:.3f} ({', '.join(f'{name} {losses[name]:.3f}' for name in training.loss_weights)})"
        for split, losses in splits
    ]
    return f"step {history.step} of {training.steps}: {', '.join(texts)}, {steps_per_second:.2f} steps/s"
