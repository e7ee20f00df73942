"""Training: one explicit loop, in one process, that can be killed at any step and goes on where it
stopped.
"""

from __future__ import annotations

import json
import logging
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from accelerate import Accelerator
from torch import nn

from model.checkpoint import CONFIG_FILE, CheckpointError, read_metrics, save_checkpoint
from model.config import NetworkConfig
from model.examples import Batches, Examples, fingerprint, prepare
from model.losses import Losses, contrastive_loss, joint_loss, language_loss
from model.network import InstructUE, Texts
from model.pairs import PairBatch
from model.recipe import TrainingConfig
from model.start import warm_start

STATE = "state-"


def train(
    profiles: pa.Table,
    pairs: pa.Table,
    config: NetworkConfig,
    training: TrainingConfig,
    out: Path,
    *,
    seed: int = 0,
    log: Callable[[str], None] = print,
    told: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Train a network on question-answer pairs and write its checkpoint.

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
    log
        Takes a line of text now and then.
    told
        Takes how many steps are done, and of how many.

    Returns
    -------
    Path
        `out`, with config.json, model.safetensors, event_tokenizer.json, language_tokenizer.json and
        metrics.json.

    Raises
    ------
    PairError, ProfileError, ConfigError
        When the tables or the settings cannot be trained on.
    CheckpointError
        When the folder holds a saved state or metrics that cannot be read.
    """
    out = Path(out)
    config, tokenizers, examples, held_out = prepare(profiles, pairs, config, training)
    mark = fingerprint(config, training, seed, examples, held_out)
    if _finished(out, mark):
        log(f"{out} holds this very training already: nothing to do")
        return out
    pairs_read = len(examples.pairs.answer_R)
    log(f"training on {len(examples.profiles)} profiles and {pairs_read} pairs, {_sizes(config)}")

    accelerator = Accelerator()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = InstructUE(config, pretrained=True)
    batches = Batches(examples, training, seed)
    if training.warm_start:
        warm_start(network, examples, batches[0], seed)
    frozen = training.encoder_rate == 0
    network.encoders.requires_grad_(not frozen)
    optimizer = torch.optim.AdamW(
        _groups(network, training),
        lr=training.learning_rate,
        betas=training.betas,
        weight_decay=training.weight_decay,
    )
    network, optimizer = accelerator.prepare(network, optimizer)
    history = _resume(accelerator, out, mark, log)
    texts, held_out_texts = (
        _texts(accelerator.unwrap_model(network), part, encoded=frozen) for part in (examples, held_out)
    )
    started, first = time.monotonic(), history.step

    told(first, training.steps)
    for step in range(first, training.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, training) * group["rate"]
        losses = _losses(network, examples, texts, batches[step], training)
        optimizer.zero_grad()
        accelerator.backward(losses.total)
        accelerator.clip_grad_norm_(network.parameters(), training.max_grad_norm)
        optimizer.step()
        history.note(losses)
        done = step + 1
        told(done, training.steps)
        if done % training.validate_every == 0 or done == training.steps:
            history.validation.append({"step": done, **_validate(network, held_out, held_out_texts, training, seed)})
            log(_line(history, training, (done - first) / (time.monotonic() - started)))
        if done % training.save_every == 0 and done < training.steps:
            _save_state(accelerator, out, mark, history)

    seconds = time.monotonic() - started
    metrics = {
        "fingerprint": mark,
        "seed": seed,
        "training": asdict(training),
        "profiles": len(examples.profiles),
        "pairs": pairs_read,
        "device": str(accelerator.device),
        "seconds": round(seconds, 1),
        "profiles_per_second": round((training.steps - first) * batches.size / max(seconds, 1e-9), 1),
        "curve": history.curve,
        "validation": history.validation,
    }
    save_checkpoint(out, accelerator.unwrap_model(network), tokenizers, metrics)
    for state in out.glob(f"{STATE}*"):
        shutil.rmtree(state)
    return out


def initialise(
    profiles: pa.Table,
    pairs: pa.Table,
    config: NetworkConfig,
    out: Path,
    *,
    training: TrainingConfig | None = None,
    seed: int = 0,
    log: Callable[[str], None] = print,
) -> Path:
    """Write the checkpoint that `train` begins with: fitted tokenizers and statistics, untrained weights."""
    untrained = replace(training or TrainingConfig(), steps=0)
    return train(profiles, pairs, config, untrained, out, seed=seed, log=log)


def learning_rate(step: int, training: TrainingConfig) -> float:
    """Return the rate of a step, counted from 0: a linear warm-up, then a cosine down to 0."""
    if step < training.warmup_steps:
        return training.learning_rate * (step + 1) / training.warmup_steps
    along = (step - training.warmup_steps) / max(1, training.steps - training.warmup_steps)
    return training.learning_rate * 0.5 * (1 + math.cos(math.pi * along))


def _groups(network: InstructUE, training: TrainingConfig) -> list[dict[str, Any]]:
    """The event encoders' weights and all others, each with its share of the learning rate."""
    encoders = [*network.encoders.parameters()]
    known = {id(weight) for weight in encoders}
    others = [weight for weight in network.parameters() if id(weight) not in known]
    return [{"params": others, "rate": 1.0}, {"params": encoders, "rate": training.encoder_rate}]


@torch.no_grad()
def _texts(network: InstructUE, examples: Examples, *, encoded: bool) -> Texts:
    """A split's event texts: their vectors, made once, where the encoders are frozen."""
    return network.encode_texts(examples.event_ids) if encoded else examples.event_ids


@dataclass
class _History:
    """What a run has measured so far; `curve` has every step's training loss."""

    curve: dict[str, list[float]] = field(
        default_factory=lambda: {"loss": [], "language": [], "contrastive": []}
    )
    validation: list[dict[str, float]] = field(default_factory=list)

    @property
    def step(self) -> int:
        return len(self.curve["loss"])

    def note(self, losses: Losses) -> None:
        for name, value in _values(losses).items():
            self.curve[name].append(value)


def _losses(
    network: nn.Module, examples: Examples, texts: Texts, batch: PairBatch, training: TrainingConfig
) -> Losses:
    output = network(batch, texts, examples.answer_ids)
    contrastive = contrastive_loss(
        output.users_QH,
        output.answers_QH,
        torch.from_numpy(batch.answer_Q).to(output.users_QH.device),
        temperature=training.temperature,
        margin=training.margin,
        mask_same_answers=training.mask_same_answers,
    )
    language = language_loss(output.logits_NV, output.tokens_N)
    return joint_loss(language, contrastive, weight_lm=training.weight_lm, weight_cl=training.weight_cl)


@torch.no_grad()
def _validate(
    network: nn.Module, held_out: Examples, texts: Texts, training: TrainingConfig, seed: int
) -> dict[str, float]:
    """The mean losses of the same profiles and pairs whenever it is asked."""
    rng = np.random.default_rng([seed, 2])
    users = rng.permutation(len(held_out.profiles))[: training.validation_profiles]
    users = users[np.argsort(held_out.profiles.lengths_U[users], kind="stable")]
    parts: list[dict[str, float]] = []
    weights: list[int] = []
    for start in range(0, len(users), training.profiles_per_step):
        batch = held_out.batch(users[start : start + training.profiles_per_step], training, rng)
        parts.append(_values(_losses(network, held_out, texts, batch, training)))
    weights = [
        min(training.profiles_per_step, len(users) - at * training.profiles_per_step)
        for at in range(len(parts))
    ]
    return (
        {name: float(np.average([part[name] for part in parts], weights=weights)) for name in parts[0]}
        if parts
        else {}
    )


def _values(losses: Losses) -> dict[str, float]:
    return {
        "loss": losses.total.item(),
        "language": losses.language.item(),
        "contrastive": losses.contrastive.item(),
    }


def _save_state(accelerator: Accelerator, out: Path, mark: str, history: _History) -> None:
    part = out / "state.part"
    shutil.rmtree(part, ignore_errors=True)
    # The head shares the token table's weights, which accelerate reports at every save as a surprise.
    logging.getLogger("accelerate.utils.other").setLevel(logging.ERROR)
    accelerator.save_state(str(part))
    state = {"fingerprint": mark, "history": asdict(history)}
    (part / "state.json").write_text(json.dumps(state), encoding="utf-8")
    # One rename makes it whole: a kill leaves the old state or the new one.
    part.rename(out / f"{STATE}{history.step}")
    for old in out.glob(f"{STATE}*"):
        if old.name != f"{STATE}{history.step}":
            shutil.rmtree(old)


def _resume(accelerator: Accelerator, out: Path, mark: str, log: Callable[[str], None]) -> _History:
    states = sorted(out.glob(f"{STATE}*"), key=lambda path: int(path.name.removeprefix(STATE)))
    for path in reversed(states):
        history = _loaded(accelerator, path, mark)
        if history is not None:
            log(f"going on after step {history.step}, from {path}")
            return history
        log(f"{path} is of other data or settings: starting afresh")
        shutil.rmtree(path)
    return _History()


def _loaded(accelerator: Accelerator, path: Path, mark: str) -> _History | None:
    """Put a saved state back; None where it is of other data or settings."""
    try:
        state: dict[str, Any] = json.loads((path / "state.json").read_text(encoding="utf-8"))
        if state["fingerprint"] != mark:
            return None
        accelerator.load_state(str(path))
        return _History(**state["history"])
    except Exception as error:  # whatever torch and safetensors make of broken bytes
        raise CheckpointError(
            f"the saved state {path} cannot be read ({error}): remove it, and training starts afresh"
        ) from error


def _finished(out: Path, mark: str) -> bool:
    return (out / CONFIG_FILE).exists() and bool(read_metrics(out).get("fingerprint") == mark)


def _line(history: _History, training: TrainingConfig, steps_per_second: float) -> str:
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
