"""Training: one explicit loop that can be killed at any step and goes on where it stopped.

One process, or several that read a share of every batch each, started alike:

    torchrun --standalone --nproc-per-node 8 -m jobs train --config conf/yours.yaml
"""

from __future__ import annotations

import logging
import math
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from accelerate.utils import broadcast_object_list, gather_object
from transformers import PreTrainedModel

from model.data.batching import batches_of_size
from model.data.config import NetworkConfig
from model.data.pairs import PairError
from model.errors import ConfigError
from model.network.network import InstructUE
from model.progress import Progress, no_progress
from model.training.checkpoint import CONFIG_FILE, read_metrics, save_checkpoint
from model.training.dataset import Batches, fingerprint, prepare_dataset
from model.training.grad_cache import Reader, frozen_texts, processes, same_weights, trainable
from model.training.history import History, Journal, Line, values
from model.training.tracking import Tracking
from model.training.training_config import TrainingConfig
from model.training.training_state import State, copied, load_state, put, save_state, saved_states
from model.training.warm_start import warm_start

logger = logging.getLogger(__name__)

SETTING = 512
"""Profiles that fresh adapters are set by."""


def train(
    profiles: pa.Table,
    pairs: pa.Table,
    config: NetworkConfig,
    training: TrainingConfig,
    out: Path,
    *,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Path:
    """Train a network on question-answer pairs and write its checkpoint.

    Called alike in each of several processes (`torchrun`), it trains one network: the first process alone
    logs, tells and writes.

    Parameters
    ----------
    profiles
        Rows of `training_profiles`.
    pairs
        Rows of `userqa`: user_id, as_of, instruction, answer, split. Tokenizers and tabular statistics are
        fitted on the split `train` alone; the split `validation` may be empty.
    config
        The network; its vocabularies are ceilings, and its tabular columns are fitted here.
    training
        Steps, batches, optimiser and losses.
    out
        The checkpoint's folder. While training it also holds a saved state, from which a killed run goes on
        when the network, the training and the data are the same; otherwise training starts afresh. A finished
        checkpoint of the same fingerprint is left as it is.
    seed
        Decides the weights and the batches.
    progress
        Takes how many steps are done, and of how many.

    Returns
    -------
    Path
        `out`, with config.json, model.safetensors, event_tokenizer.json, language_tokenizer.json and
        metrics.json; after a step also metrics.jsonl and curve.png, which are written as training goes.

    Raises
    ------
    PairError, ProfileError, ConfigError
        When the tables or the settings cannot be trained on.
    CheckpointError
        When the folder holds a saved state or metrics that cannot be read.
    """
    out, state = Path(out), processes()
    if not state.is_main_process:
        progress = no_progress
        logging.getLogger("model").setLevel(logging.WARNING)
    config, tokenizers, examples, held_out = prepare_dataset(profiles, pairs, config, training)
    if training.patience is not None and training.steps and not len(held_out.profiles):
        raise ConfigError("patience waits for a validation loss, and no pair has the split 'validation': leave it out")
    mark = fingerprint(config, training, seed, examples, held_out)
    _agree(mark, "other tables or settings")
    if _finished(out, mark):
        logger.info(f"{out} holds this very training already: nothing to do")
        return out
    pairs_read = len(examples.pairs.answer_R)
    logger.info(f"training on {len(examples.profiles)} profiles and {pairs_read} pairs, {_sizes(config)}")

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = InstructUE(config, pretrained=True)
    batches = Batches(examples, training, seed)
    network.to(state.device)
    if training.warm_start:
        some = np.random.default_rng(seed).permutation(len(examples.profiles))[:SETTING]
        warm_start(network, examples, some, tabular_attention=training.tabular_attention, seed=seed)
    same_weights(network)
    frozen = training.encoder_rate == 0
    if frozen:
        network.encoders.requires_grad_(False)
    if training.gradient_checkpointing:
        _checkpoint_layers(network)
    weights = trainable(network)
    optimizer = torch.optim.AdamW(
        _groups(network, training), lr=training.learning_rate, betas=training.betas, weight_decay=training.weight_decay
    )
    run = State(weights=weights, optimizer=optimizer)
    _resume(out, mark, run)
    history = run.history
    _agree(history.step, f"another {out}")
    reader, held_out_reader = (
        Reader(
            network=network,
            examples=part,
            texts=frozen_texts(network, part) if frozen and config.reading == "vectors" else part.event_ids,
            training=training,
            seed=seed,
        )
        for part in (examples, held_out)
    )
    if state.is_main_process:
        tracking = Tracking(out.name, mark, asdict(training))
        journal = Journal(out, history, tracking)
    started, first = time.monotonic(), history.step

    progress(first, training.steps)
    for step in range(first, training.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, training) * group["rate"]
        losses = reader.backward(batches.drawn(step), step)
        torch.nn.utils.clip_grad_norm_(weights.values(), training.max_grad_norm)
        optimizer.step()
        history.note(losses)
        done = step + 1
        progress(done, training.steps)
        scored = done % training.validate_every == 0 or done == training.steps
        if scored:
            history.validation.append({"step": done, **_validate(held_out_reader)})
            if training.patience is not None and history.waited == 0:
                run.best = copied(weights)
        if state.is_main_process:
            journal.tell(history)
        if scored:
            logger.info(_line(history, training, (done - first) / (time.monotonic() - started)))
            if training.patience is not None and history.waited >= training.patience:
                logger.info(f"no lower validation loss in {training.patience} validations: stopping")
                break
        if done % training.save_every == 0 and done < training.steps and state.is_main_process:
            save_state(out, mark, run)

    if run.best:
        put(weights, run.best)
    seconds = time.monotonic() - started
    metrics = {
        "fingerprint": mark,
        "seed": seed,
        "training": asdict(training),
        "profiles": len(examples.profiles),
        "pairs": pairs_read,
        "device": str(state.device),
        "processes": state.num_processes,
        "seconds": round(seconds, 1),
        "profiles_per_second": round((history.step - first) * batches.size / max(seconds, 1e-9), 1),
        "curve": history.curve,
        "validation": history.validation,
        "checkpoint_step": history.best["step"] if run.best else history.step,
    }
    if state.is_main_process:
        save_checkpoint(out, network, tokenizers, metrics)
        for path in saved_states(out):
            shutil.rmtree(path)
        tracking.finish()
    state.wait_for_everyone()  # nobody reads a checkpoint that is not whole
    return out


def initialise(
    profiles: pa.Table,
    pairs: pa.Table,
    config: NetworkConfig,
    out: Path,
    *,
    training: TrainingConfig | None = None,
    seed: int = 0,
) -> Path:
    """Write the checkpoint that `train` begins with: fitted tokenizers and statistics, untrained weights."""
    untrained = replace(training or TrainingConfig(), steps=0)
    return train(profiles, pairs, config, untrained, out, seed=seed)


def learning_rate(step: int, training: TrainingConfig) -> float:
    """Return the rate of a step, counted from 0: a linear warm-up, then a cosine down to 0."""
    if step < training.warmup_steps:
        return training.learning_rate * (step + 1) / training.warmup_steps
    along = (step - training.warmup_steps) / max(1, training.steps - training.warmup_steps)
    return training.learning_rate * 0.5 * (1 + math.cos(math.pi * along))


def _agree(seen: str | int, what: str) -> None:
    """Refuse processes that would train different networks, each waiting for the others."""
    if len(set(gather_object([seen]))) > 1:
        raise PairError(f"one process sees {what} than the next: give all the same tables, settings and folders")


def _groups(network: InstructUE, training: TrainingConfig) -> list[dict[str, Any]]:
    """The event encoders' weights and all others that are trained, each with its share of the learning rate."""
    known = {id(weight) for weight in network.encoders.parameters()}
    weights = [*trainable(network).values()]
    encoders = [weight for weight in weights if id(weight) in known]
    others = [weight for weight in weights if id(weight) not in known]
    return [{"params": others, "rate": 1.0}, {"params": encoders, "rate": training.encoder_rate}]


def _checkpoint_layers(network: InstructUE) -> None:
    for part in network.modules():
        if isinstance(part, PreTrainedModel) and part.supports_gradient_checkpointing:
            part.config.use_cache = False
            part.activation_checkpointing_enable({"use_reentrant": False})


def _resume(out: Path, mark: str, run: State) -> None:
    """Go on from the newest saved state, if it is of this training; others are removed."""
    saved, others = saved_states(out), []
    for path in saved:
        if load_state(path, mark, run):
            logger.info(f"going on after step {run.history.step}, from {path}")
            break
        logger.info(f"{path} is of other data or settings: starting afresh")
        others.append(path)
    process = processes()
    process.wait_for_everyone()  # all have read what the first removes
    if process.is_main_process:
        for path in others:
            shutil.rmtree(path)


def _validate(reader: Reader) -> Line:
    """The mean losses of the same profiles and pairs whenever it is asked, as the first process finds them."""
    training, held_out = reader.training, reader.examples
    rng = np.random.default_rng([reader.seed, 2])
    users = rng.permutation(len(held_out.profiles))[: training.validation_profiles]
    parts: list[Line] = []
    weights: list[int] = []
    for batch_B in batches_of_size(held_out.profiles.lengths_U[users], training.profiles_per_step):
        drawn = held_out.draw(users[batch_B], training, rng)
        parts.append(values(reader.losses(drawn)))
        weights.append(len(drawn.users_B))
    names = parts[0] if parts else ()
    means = {name: float(np.average([part[name] for part in parts], weights=weights)) for name in names}
    # What stops one process must stop all.
    return dict(broadcast_object_list([means])[0])


def _finished(out: Path, mark: str) -> bool:
    return (out / CONFIG_FILE).exists() and bool(read_metrics(out).get("fingerprint") == mark)


def _line(history: History, training: TrainingConfig, steps_per_second: float) -> str:
    held_out = history.validation[-1]
    recent = {name: np.mean(values[-training.validate_every :]) for name, values in history.curve.items()}
    scores = [("trained", recent)] + ([("validation", held_out)] if "loss" in held_out else [])
    texts = [
        f"{name} {part['loss']:.3f} (language {part['language']:.3f}, contrastive {part['contrastive']:.3f})"
        for name, part in scores
    ]
    return f"step {history.step} of {training.steps}: {', '.join(texts)}, {steps_per_second:.2f} steps/s"


def _sizes(config: NetworkConfig) -> str:
    return (
        f"{config.encoder.vocabulary} event and {config.backbone.vocabulary} language tokens, "
        f"{len(config.tabular.numbers)} numbers and {len(config.tabular.categories)} categories"
    )
