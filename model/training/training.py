"""Training: one explicit loop that can be interrupted at any step and resumes where it stopped.

One process, or several that encode a share of every batch each, started alike:

    torchrun --standalone --nproc-per-node 8 -m jobs train --config conf/yours.yaml

Shapes: B profiles, R question-answer pairs of a split.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from safetensors.numpy import save_file
from transformers import PreTrainedModel

from model.data.config import NetworkConfig
from model.data.text import Tokenizers
from model.errors import ConfigError
from model.network.network import InstructUE
from model.progress import Progress, no_progress
from model.training.checkpoint import CONFIG_FILE, read_metrics, save_checkpoint
from model.training.dataset import TrainingDataset, fingerprint, prepare_dataset
from model.training.focus import QUESTIONS_FILE, fit_focus, require_instructions
from model.training.grad_cache import GradCache, frozen_text_vectors, trainable
from model.training.history import Metrics, MetricsWriter
from model.training.known_texts import KNOWN_TEXTS_FILE, fit_known_texts
from model.training.processes import check_same, processes, same_weights
from model.training.question_scores import score_questions
from model.training.tracking import Tracking
from model.training.training_config import TrainingConfig
from model.training.training_loop import TrainingRun, run_steps
from model.training.training_state import TrainingState, load_state, saved_states, set_weights
from model.training.warm_start import warm_start

logger = logging.getLogger(__name__)
WARM_START_PROFILES = 512
"""Profiles by which fresh adapters are initialised."""


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

    Several processes (`torchrun`) that call it alike train one network; the first one logs, reports and writes.

    Parameters
    ----------
    profiles
        Rows of `training_profiles`.
    pairs
        Rows of `userqa`: user_id, as_of, instruction, answer, split (`train` or `validation`, which may be empty).
    config
        The network; its vocabularies are ceilings, and its tabular columns are fitted on the split `train`.
    out
        The checkpoint's folder. A saved state in it is resumed when the network, the settings and the data are the
        same. A finished checkpoint of the same fingerprint is left unchanged.
    seed
        Decides the weights and the batches.
    progress
        Receives the number of steps done and of all steps.

    Returns
    -------
    Path
        `out`, with the checkpoint's files (`model.training.checkpoint`), metrics.jsonl and curve.png.

    Raises
    ------
    PairError, ProfileError, ConfigError
        When the tables or the settings cannot be trained on.
    CheckpointError
        When a saved state or metrics cannot be read.
    """
    out = Path(out)
    if not processes().is_main_process:
        progress = no_progress
        logging.getLogger("model").setLevel(logging.WARNING)
    config, tokenizers, dataset, held_out = prepare_dataset(profiles, pairs, config, training)
    if training.patience is not None and training.steps and not len(held_out.profiles):
        raise ConfigError("patience waits for a validation loss, and no pair has the split 'validation': leave it out")
    digest = fingerprint(config, training, seed, dataset, held_out)
    check_same(digest, "other tables or settings")
    if _is_finished(out, digest):
        logger.info(f"{out} holds this very training already: nothing to do")
        return out
    logger.info(f"training on {_sizes(dataset, config)}")
    network = _initial_network(config, dataset, training, seed)
    run = _open_run(out, digest, network, (dataset, held_out), training, seed)
    _finish(run, tokenizers, run_steps(run, progress))
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


def _initial_network(
    config: NetworkConfig, dataset: TrainingDataset, training: TrainingConfig, seed: int
) -> InstructUE:
    """Return the network before the first step, on this process's device."""
    if config.focus:
        require_instructions(dataset)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = InstructUE(config, pretrained=True)
    network.to(processes().device)
    if training.warm_start:
        users_B = np.random.default_rng(seed).permutation(len(dataset.profiles))[:WARM_START_PROFILES]
        warm_start(
            network,
            dataset,
            users_B,
            of_questions=training.warm_start == "questions",
            tabular_attention=training.tabular_attention,
            seed=seed,
        )
    same_weights(network)
    if training.encoder_rate == 0:
        network.encoders.requires_grad_(False)
    if training.gradient_checkpointing:
        _checkpoint_layers(network)
    return network


def _open_run(
    out: Path,
    fingerprint: str,
    network: InstructUE,
    splits: tuple[TrainingDataset, TrainingDataset],
    training: TrainingConfig,
    seed: int,
) -> TrainingRun:
    """Return the training at its first step, or at the step of its saved state."""
    state = TrainingState(weights=trainable(network), optimizer=_optimizer(network, training))
    _resume(out, fingerprint, state)
    loss, validation_loss = (_grad_cache(network, split, training, seed) for split in splits)
    writer = None
    if processes().is_main_process:
        writer = MetricsWriter(out, state.history, Tracking(out.name, fingerprint, asdict(training)))
    return TrainingRun(
        out=out, fingerprint=fingerprint, state=state, loss=loss, validation_loss=validation_loss, writer=writer
    )


def _grad_cache(network: InstructUE, dataset: TrainingDataset, training: TrainingConfig, seed: int) -> GradCache:
    """Return the losses of a split; frozen encoders encode its texts now, and not again."""
    is_frozen = training.encoder_rate == 0 and network.config.reading == "vectors"
    texts = frozen_text_vectors(network, dataset) if is_frozen else dataset.event_ids
    return GradCache(network=network, dataset=dataset, texts=texts, training=training, seed=seed)


def _optimizer(network: InstructUE, training: TrainingConfig) -> torch.optim.AdamW:
    """Return AdamW over two groups, the event encoders and the rest; `rate` is a group's share of the learning rate."""
    encoder_ids = {id(weight) for weight in network.encoders.parameters()}
    weights = [*trainable(network).values()]
    groups: list[dict[str, Any]] = [
        {"params": [weight for weight in weights if id(weight) not in encoder_ids], "rate": 1.0},
        {"params": [weight for weight in weights if id(weight) in encoder_ids], "rate": training.encoder_rate},
    ]
    return torch.optim.AdamW(
        groups, lr=training.learning_rate, betas=training.betas, weight_decay=training.weight_decay
    )


def _checkpoint_layers(network: InstructUE) -> None:
    for part in network.modules():
        if isinstance(part, PreTrainedModel) and part.supports_gradient_checkpointing:
            part.config.use_cache = False
            part.activation_checkpointing_enable({"use_reentrant": False})


def _resume(out: Path, fingerprint: str, state: TrainingState) -> None:
    """Read the newest saved state of this training into `state`; remove those of other trainings."""
    others = []
    for path in saved_states(out):
        if load_state(path, fingerprint, state):
            logger.info(f"going on after step {state.history.step}, from {path}")
            break
        logger.info(f"{path} is of other data or settings: starting afresh")
        others.append(path)
    process = processes()
    process.wait_for_everyone()  # all have read the states before the first process removes some
    if process.is_main_process:
        for path in others:
            shutil.rmtree(path)
    check_same(state.history.step, f"another {out}")


def _finish(run: TrainingRun, tokenizers: Tokenizers, figures: Metrics) -> None:
    """Write the checkpoint, with the weights of the lowest validation loss where they were kept."""
    if run.state.best:
        set_weights(run.state.weights, run.state.best)
    if run.writer is not None:
        if run.loss.network.focus is not None:
            _fit_instructions(run, tokenizers)
        held_out = run.validation_loss
        scores = score_questions(held_out.network, held_out.dataset, held_out.texts, tokenizers, held_out.seed)
        save_checkpoint(run.out, run.loss.network, tokenizers, _metrics(run, figures) | {"questions": scores})
        for path in saved_states(run.out):
            shutil.rmtree(path)
        run.writer.finish()
    processes().wait_for_everyone()  # no process reads an incomplete checkpoint


def _fit_instructions(run: TrainingRun, tokenizers: Tokenizers) -> None:
    """Set the constants of the focus, and write what an instruction is compared with."""
    network, dataset, texts, seed = run.loss.network, run.loss.dataset, run.loss.texts, run.loss.seed
    questions = fit_focus(network, dataset, texts, tokenizers, seed)
    save_file(questions, run.out / QUESTIONS_FILE)
    if network.instruction_encoder is not None:
        fit_known_texts(network, dataset, texts, tokenizers, questions, seed).write(run.out / KNOWN_TEXTS_FILE)


def _is_finished(out: Path, fingerprint: str) -> bool:
    return (out / CONFIG_FILE).exists() and bool(read_metrics(out).get("fingerprint") == fingerprint)


def _metrics(run: TrainingRun, figures: Metrics) -> dict[str, Any]:
    """Return the content of metrics.json."""
    process, dataset, history = processes(), run.loss.dataset, run.state.history
    return {
        "fingerprint": run.fingerprint,
        "seed": run.loss.seed,
        "training": asdict(run.loss.training),
        "profiles": len(dataset.profiles),
        "pairs": len(dataset.pairs.answer_R),
        "device": str(process.device),
        "processes": process.num_processes,
        **figures,
        "curve": history.curve,
        "validation": history.validation,
        "checkpoint_step": history.best["step"] if run.state.best else history.step,
    }


def _sizes(dataset: TrainingDataset, config: NetworkConfig) -> str:
    return (
        f"{len(dataset.profiles)} profiles and {len(dataset.pairs.answer_R)} pairs, "
        f"{config.encoder.vocabulary} event and {config.backbone.vocabulary} language tokens, "
        f"{len(config.tabular.numbers)} numbers and {len(config.tabular.categories)} categories"
    )
