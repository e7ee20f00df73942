"""Training: one explicit loop that can be killed at any step and goes on where it stopped.

The batches are a pure function of seed and step, so what a resumed run sees is what it would have seen.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from accelerate import Accelerator
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from model.checkpoint import CONFIG_FILE, METRICS_FILE, save_checkpoint
from model.config import NetworkConfig, TrainingConfig
from model.losses import Losses, contrastive_loss, joint_loss, language_loss
from model.network import InstructUE
from model.pairs import PairBatch, PairError, Pairs, pair_batch, read_pairs
from model.profiles import Ints, Profiles, fit_tabular, read_profiles
from model.text import TokenIds, Tokenizers

# Batches of profiles of like length are cut from this many batches' worth of shuffled profiles.
WINDOW = 16
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
    progress: bool | None = None,
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
    progress
        Whether to draw a bar on stderr; by default where that is a terminal.

    Returns
    -------
    Path
        `out`, with config.json, model.safetensors, event_tokenizer.json, language_tokenizer.json and
        metrics.json.

    Raises
    ------
    PairError, ProfileError, ConfigError
        When the tables or the settings cannot be trained on.
    """
    out = Path(out)
    config, tokenizers, examples, held_out = prepare(profiles, pairs, config, training)
    fingerprint = _fingerprint(config, training, seed, examples, held_out)
    if _finished(out, fingerprint):
        log(f"{out} holds this very training already: nothing to do")
        return out
    pairs_read = len(examples.pairs.answer_R)
    log(f"training on {len(examples.profiles)} profiles and {pairs_read} pairs, {_sizes(config)}")

    accelerator = Accelerator()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = InstructUE(config)
    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=training.learning_rate,
        betas=training.betas,
        weight_decay=training.weight_decay,
    )
    network, optimizer = accelerator.prepare(network, optimizer)
    history = _resume(accelerator, out, fingerprint, log)
    batches = _Batches(examples, training, seed)
    started, first = time.monotonic(), history.step

    with _bar(progress) as bar:
        task = bar.add_task("training", total=training.steps, completed=first)
        for step in range(first, training.steps):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, training)
            losses = _losses(network, examples, batches[step], training)
            optimizer.zero_grad()
            accelerator.backward(losses.total)
            accelerator.clip_grad_norm_(network.parameters(), training.max_grad_norm)
            optimizer.step()
            history.note(losses)
            bar.update(task, advance=1, description=f"loss {history.curve['loss'][-1]:.3f}")
            done = step + 1
            if done % training.validate_every == 0 or done == training.steps:
                history.validation.append({"step": done, **_validate(network, held_out, training, seed)})
                log(_line(history, training, (done - first) / (time.monotonic() - started)))
            if done % training.save_every == 0 and done < training.steps:
                _save_state(accelerator, out, fingerprint, history)

    seconds = time.monotonic() - started
    metrics = {
        "fingerprint": fingerprint,
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
    return train(profiles, pairs, config, untrained, out, seed=seed, log=log, progress=False)


@dataclass(frozen=True, kw_only=True)
class Examples:
    """A split as the network reads it: profiles, pairs and the tokens of all their distinct texts."""

    profiles: Profiles
    pairs: Pairs
    event_ids: tuple[TokenIds, ...]
    instruction_ids: TokenIds
    answer_ids: TokenIds

    def batch(self, users_B: Ints, training: TrainingConfig, rng: np.random.Generator) -> PairBatch:
        """Draw pairs for these profiles and lay them out."""
        row_Q, pair_Q = self.pairs.draw(
            users_B, instructed=training.instructed_pairs, general=training.general_pairs, rng=rng
        )
        return pair_batch(
            self.profiles, self.pairs, self.instruction_ids, self.answer_ids, users_B, row_Q, pair_Q
        )


def prepare(
    profiles: pa.Table, pairs: pa.Table, config: NetworkConfig, training: TrainingConfig
) -> tuple[NetworkConfig, Tokenizers, Examples, Examples]:
    """Fit tokenizers and statistics on the training split; return the whole config, them and both splits."""
    table, train_pairs = read_pairs(profiles, pairs, "train")
    if not len(table):
        raise PairError("no pair has the split 'train': write userqa again with a share for training")
    config = replace(config, tabular=fit_tabular(table, config.tabular, training.quantile_bins))
    train_profiles = read_profiles(table, config)
    tokenizers = Tokenizers.train(
        {text for source in train_profiles.sources for text in source.texts},
        {text for text in [*train_pairs.instructions, *train_pairs.answers] if text is not None},
        event_vocabulary=config.encoder.vocabulary,
        language_vocabulary=config.backbone.vocabulary,
    )
    config = replace(
        config,
        encoder=replace(config.encoder, vocabulary=tokenizers.event.get_vocab_size()),
        backbone=replace(config.backbone, vocabulary=tokenizers.language.get_vocab_size()),
    )
    held_out_table, held_out_pairs = read_pairs(profiles, pairs, "validation")
    held_out = read_profiles(held_out_table, config)

    def examples(some_profiles: Profiles, some_pairs: Pairs) -> Examples:
        return Examples(
            profiles=some_profiles,
            pairs=some_pairs,
            event_ids=tuple(
                tokenizers.event_ids(part.texts, source.max_tokens)
                for part, source in zip(some_profiles.sources, config.sources, strict=True)
            ),
            instruction_ids=tokenizers.instruction_ids(some_pairs.instructions),
            answer_ids=tokenizers.answer_ids(some_pairs.answers, training.max_answer_tokens),
        )

    return config, tokenizers, examples(train_profiles, train_pairs), examples(held_out, held_out_pairs)


def learning_rate(step: int, training: TrainingConfig) -> float:
    """Return the rate of a step, counted from 0: a linear warm-up, then a cosine down to 0."""
    if step < training.warmup_steps:
        return training.learning_rate * (step + 1) / training.warmup_steps
    along = (step - training.warmup_steps) / max(1, training.steps - training.warmup_steps)
    return training.learning_rate * 0.5 * (1 + math.cos(math.pi * along))


class _Batches:
    """The batch of any step. Every profile comes once an epoch, beside profiles of like length."""

    def __init__(self, examples: Examples, training: TrainingConfig, seed: int) -> None:
        self.size = min(training.profiles_per_step, len(examples.profiles))
        self._examples, self._training, self._seed = examples, training, seed
        self._lengths_U = examples.profiles.lengths_U
        self._epoch, self._order = -1, [np.zeros(0, dtype=np.int64)]

    def __getitem__(self, step: int) -> PairBatch:
        epoch, number = divmod(step, len(self._lengths_U) // self.size)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._shuffled(np.random.default_rng([self._seed, 0, epoch]))
        return self._examples.batch(
            self._order[number], self._training, np.random.default_rng([self._seed, 1, step])
        )

    def _shuffled(self, rng: np.random.Generator) -> list[Ints]:
        users = rng.permutation(len(self._lengths_U))
        users = users[: len(users) // self.size * self.size]  # the rest has its turn in another epoch
        batches = []
        for start in range(0, len(users), WINDOW * self.size):
            window = users[start : start + WINDOW * self.size]
            window = window[np.argsort(self._lengths_U[window], kind="stable")]
            batches += list(window.reshape(-1, self.size))
        return [batches[number] for number in rng.permutation(len(batches))]


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


def _losses(network: nn.Module, examples: Examples, batch: PairBatch, training: TrainingConfig) -> Losses:
    output = network(batch, examples.event_ids, examples.answer_ids)
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
    network: nn.Module, held_out: Examples, training: TrainingConfig, seed: int
) -> dict[str, float]:
    """The mean losses of the same profiles and pairs whenever it is asked."""
    rng = np.random.default_rng([seed, 2])
    users = rng.permutation(len(held_out.profiles))[: training.validation_profiles]
    users = users[np.argsort(held_out.profiles.lengths_U[users], kind="stable")]
    parts: list[dict[str, float]] = []
    weights: list[int] = []
    for start in range(0, len(users), training.profiles_per_step):
        batch = held_out.batch(users[start : start + training.profiles_per_step], training, rng)
        parts.append(_values(_losses(network, held_out, batch, training)))
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


def _save_state(accelerator: Accelerator, out: Path, fingerprint: str, history: _History) -> None:
    part = out / "state.part"
    shutil.rmtree(part, ignore_errors=True)
    accelerator.save_state(str(part))
    state = {"fingerprint": fingerprint, "history": asdict(history)}
    (part / "state.json").write_text(json.dumps(state), encoding="utf-8")
    # One rename makes it whole: a kill leaves the old state or the new one.
    part.rename(out / f"{STATE}{history.step}")
    for old in out.glob(f"{STATE}*"):
        if old.name != f"{STATE}{history.step}":
            shutil.rmtree(old)


def _resume(accelerator: Accelerator, out: Path, fingerprint: str, log: Callable[[str], None]) -> _History:
    states = sorted(out.glob(f"{STATE}*"), key=lambda path: int(path.name.removeprefix(STATE)))
    for path in reversed(states):
        state: dict[str, Any] = json.loads((path / "state.json").read_text(encoding="utf-8"))
        if state["fingerprint"] == fingerprint:
            accelerator.load_state(str(path))
            history = _History(**state["history"])
            log(f"going on after step {history.step}, from {path}")
            return history
        log(f"{path} is of other data or settings: starting afresh")
        shutil.rmtree(path)
    return _History()


def _finished(out: Path, fingerprint: str) -> bool:
    if not (out / CONFIG_FILE).exists():
        return False
    metrics = json.loads((out / METRICS_FILE).read_text(encoding="utf-8"))
    return bool(metrics.get("fingerprint") == fingerprint)


def _fingerprint(config: NetworkConfig, training: TrainingConfig, seed: int, *splits: Examples) -> str:
    digest = hashlib.sha256(json.dumps([config.to_json(), asdict(training), seed]).encode())
    for array in (array for split in splits for array in _arrays(split)):
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _arrays(split: Examples) -> Iterator[np.ndarray]:
    yield from (split.profiles.ages_SU, split.profiles.numbers_UF, split.profiles.categories_UC)
    yield from (split.pairs.instruction_R, split.pairs.answer_R, split.pairs.offsets_U1)
    for source in split.profiles.sources:
        yield from (source.text_E, source.gaps_E, source.offsets_U1)
    for tokens in (*split.event_ids, split.instruction_ids, split.answer_ids):
        yield from (tokens.ids, tokens.offsets)


def _bar(wanted: bool | None) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    shown = sys.stderr.isatty() if wanted is None else wanted
    return Progress(*columns, console=Console(stderr=True), disable=not shown)


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
