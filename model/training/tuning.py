"""Instruction tuning: a scenario's instruction as vectors that are trained on a few labelled users (section 3.3.3).

    kv_cache = ProfileKVCache(network, tokenizers, profiles)
    rows = draw_shots(labels, shots=64, seed=0)
    tuned = tune(kv_cache, rows, labels[rows], start_vectors(network, tokenizers, "Predict food."), seed=0)
    vectors = kv_cache.embed(tuned.vectors)

The network is not changed. Tuning starts from the token vectors of the manual instruction and of `<USER>`.

Shapes: S shots, B users of a batch, I tokens of an instruction, H width of the backbone (and of an embedding, unless
there is a head).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from model.data.arrays import Floats, Ints
from model.data.text import Tokenizers
from model.network.inference import instruction_vectors
from model.network.kv_cache import ProfileKVCache
from model.network.network import InstructUE
from model.progress import Progress, no_progress
from model.training.prototypes import class_prototypes, prototype_loss
from model.training.shots import Bools, TuningError, class_numbers, held_out_shots, shot_batches

PROBE_C = 0.01
"""C of the regression that selects the step: about the value that the probe's own cross-validation selects."""


@dataclass(frozen=True, kw_only=True)
class TuningConfig:
    """How an instruction is tuned.

    Parameters
    ----------
    steps
        Steps of the optimiser, AdamW.
    learning_rate
        The rate of the first step, as a multiple of the root mean square of the start vectors, since a token table
        may have any scale. It falls to 0 by a cosine schedule.
    temperature
        tau of equation 6.
    batch_size
        The most users of a step, stratified by class; the prototypes of a step are those of its own users.
    held_out
        Share of the shots that is not trained on and selects the step.
    check_every
        Steps between two evaluations on the held-out shots.
    margin
        Standard errors by which the best step must be better than the manual instruction on the held-out shots;
        otherwise the manual instruction is kept. The best of several evaluations on few users is often chance.

    Raises
    ------
    TuningError
        A value out of its range.
    """

    steps: int = 40
    learning_rate: float = 0.05
    temperature: float = 0.07
    batch_size: int = 256
    held_out: float = 0.3
    check_every: int = 5
    margin: float = 1.0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "check_every", "learning_rate", "temperature"):
            if not getattr(self, name) > 0:
                raise TuningError(f"{name} is {getattr(self, name)!r}: use a number above 0")
        if not 0 < self.held_out < 1:
            raise TuningError(f"held_out is {self.held_out!r}: use a share between 0 and 1")
        if not self.margin >= 0:
            raise TuningError(f"margin is {self.margin!r}: use 0 or more")


@dataclass(frozen=True, kw_only=True)
class TuningCheck:
    """The losses after a step.

    Attributes
    ----------
    learned, held_out
        Equation 6 of the shots that are trained on and of those held out, both by the prototypes of the first.
    probe
        Log loss on the held-out shots of a logistic regression that is fitted on the others.
    """

    step: int
    learned: float
    held_out: float
    probe: float


@dataclass(frozen=True, kw_only=True, eq=False)
class TuningResult:
    """The tuned vectors, and the losses by which their step was selected.

    Attributes
    ----------
    vectors : numpy.ndarray
        float32 [I, H], `<USER>` last.
    step : int
        The step of the vectors: that of the least log loss of the probe, where it is better than the manual
        instruction's by the margin; otherwise 0, the manual instruction itself.
    curve : tuple of TuningCheck
        From step 0 to the last.
    learned, held_out : int
        Number of shots that are trained on, and that are held out.
    """

    vectors: Floats
    step: int
    curve: tuple[TuningCheck, ...]
    learned: int
    held_out: int


def tune(
    kv_cache: ProfileKVCache,
    users_S: Ints,
    labels_S: ArrayLike,
    start_IH: Floats,
    *,
    user_ids: Sequence[str] | NDArray[np.str_] | None = None,
    config: TuningConfig | None = None,
    seed: int = 0,
    progress: Progress = no_progress,
) -> TuningResult:
    """Tune instruction vectors so that users of one class are near each other and far from the others (equation 6).

    Parameters
    ----------
    kv_cache
        The users' profiles, read by the network; it serves any number of tunings.
    users_S, labels_S
        The shots, as rows of `kv_cache`, and their classes: two or more whole numbers.
    start_IH
        The vectors to start from; see `start_vectors`.
    user_ids
        The user of each shot, so that no user is on both sides of the division; None: each is another user.
    seed
        Decides the shots that are held out, and the batches.
    progress
        Receives the number of steps done and of all steps.

    Raises
    ------
    TuningError
        One class only, or a class of one shot.
    """
    config = config or TuningConfig()
    classes_S = class_numbers(labels_S, user_ids)
    rng = np.random.default_rng(seed)
    held_out_S = held_out_shots(classes_S, config.held_out, rng, user_ids)
    batches = shot_batches(np.flatnonzero(~held_out_S), classes_S, config.batch_size, rng)
    vectors_IH = torch.from_numpy(start_IH.copy()).requires_grad_(True)
    selection = _StepSelection(kv_cache, users_S, classes_S, held_out_S, config)
    selection.check(0, vectors_IH)
    # Weight decay would pull towards no instruction, not towards the manual one.
    scale = float(vectors_IH.detach().square().mean().sqrt())
    optimizer = torch.optim.AdamW([vectors_IH], lr=config.learning_rate * scale, weight_decay=0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    for step in range(1, config.steps + 1):
        batch = next(batches)
        embeddings_BH = kv_cache.read(users_S[batch], vectors_IH)
        classes_B = torch.from_numpy(classes_S[batch]).to(embeddings_BH.device)
        loss = prototype_loss(embeddings_BH, classes_B, temperature=config.temperature)
        optimizer.zero_grad()
        loss.backward(inputs=[vectors_IH])
        optimizer.step()
        schedule.step()
        progress(step, config.steps)
        if step % config.check_every == 0 or step == config.steps:
            selection.check(step, vectors_IH)
    return selection.result()


def start_vectors(network: InstructUE, tokenizers: Tokenizers, instruction: str | None) -> Floats:
    """Return float32 `[I, H]`: the vectors of an instruction's tokens and of `<USER>`; None: of `<USER>` alone."""
    vectors_1IH, _ = instruction_vectors(network, tokenizers, [instruction])
    return np.asarray(vectors_1IH[0].float().cpu().numpy(), np.float32)


class _StepSelection:
    """The evaluations of a tuning on its held-out shots, and the selection of the best step."""

    def __init__(
        self, kv_cache: ProfileKVCache, users_S: Ints, classes_S: Ints, held_out_S: Bools, config: TuningConfig
    ) -> None:
        self._kv_cache, self._users_S, self._config = kv_cache, users_S, config
        self._classes_S, self._held_out_S = classes_S, held_out_S
        self._curve: list[TuningCheck] = []
        self._vectors: list[Floats] = []
        self._probe_losses: list[NDArray[np.float64]] = []

    def check(self, step: int, vectors_IH: torch.Tensor) -> None:
        """Evaluate the vectors after a step."""
        self._vectors.append(vectors_IH.detach().numpy().copy())
        embeddings_SH = self._kv_cache.embed(self._vectors[-1], self._users_S)
        self._probe_losses.append(_probe_losses(embeddings_SH, self._classes_S, self._held_out_S))
        learned, held_out = _prototype_losses(
            embeddings_SH, self._classes_S, self._held_out_S, self._config.temperature
        )
        probe = float(self._probe_losses[-1].mean())
        self._curve.append(TuningCheck(step=step, learned=learned, held_out=held_out, probe=probe))

    def result(self) -> TuningResult:
        """Return the vectors of the best step.

        Equation 6 does not select it: it keeps falling on held-out shots after the probe has become worse.
        """
        best = min(range(len(self._curve)), key=lambda check: self._curve[check].probe)
        gains = self._probe_losses[0] - self._probe_losses[best]
        if gains.mean() <= self._config.margin * gains.std(ddof=1) / len(gains) ** 0.5:
            best = 0
        held_out = int(self._held_out_S.sum())
        return TuningResult(
            vectors=self._vectors[best],
            step=self._curve[best].step,
            curve=tuple(self._curve),
            learned=len(self._held_out_S) - held_out,
            held_out=held_out,
        )


def _prototype_losses(
    embeddings_SH: Floats, classes_S: Ints, held_out_S: Bools, temperature: float
) -> tuple[float, float]:
    """Return equation 6 of the shots trained on and of those held out, by the prototypes of the first."""
    embeddings, classes, held_out = map(torch.from_numpy, (embeddings_SH, classes_S, held_out_S))
    prototypes_KH = class_prototypes(embeddings[~held_out], classes[~held_out])
    learned_loss, held_out_loss = (
        float(prototype_loss(embeddings[shots], classes[shots], prototypes_KH, temperature=temperature))
        for shots in (~held_out, held_out)
    )
    return learned_loss, held_out_loss


def _probe_losses(embeddings_SH: Floats, classes_S: Ints, held_out_S: Bools) -> NDArray[np.float64]:
    """Return the log loss of each held-out shot, by a regression on the others."""
    regression = make_pipeline(StandardScaler(), LogisticRegression(C=PROBE_C, max_iter=300))
    regression.fit(embeddings_SH[~held_out_S], classes_S[~held_out_S])
    log_probabilities = regression.predict_log_proba(embeddings_SH[held_out_S])
    own_class = np.arange(len(log_probabilities)), classes_S[held_out_S]
    losses: NDArray[np.float64] = -log_probabilities[own_class].astype(np.float64)
    return losses
