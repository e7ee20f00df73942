"""Instruction tuning: a scenario's instruction as vectors that learn from a few labelled users (paper, section 3.3.3).

    read = ReadProfiles(network, tokenizers, profiles)
    rows = draw_shots(labels, shots=64, seed=0)
    tuned = tune(read, rows, labels[rows], start_vectors(network, tokenizers, "Predict food."), seed=0)
    vectors = read.embed(tuned.vectors)

The network stays as it is. Learning starts from the manual instruction's token vectors, its `<USER>` at last.

Shapes: U users with a label, S shots, B users of a batch, K classes, I tokens of an instruction, H width of the
backbone (and of an embedding, unless there is a head).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from model.data.profiles import Floats, Ints
from model.data.text import Tokenizers
from model.errors import InstructUEError
from model.network.inference import instruction_vectors
from model.network.kv_cache import ProfileKVCache
from model.network.network import InstructUE
from model.progress import Progress, no_progress

Bools = NDArray[np.bool_]

LEAST = 2
"""Shots that a class needs: one to learn from, one to choose by."""
STRENGTH = 0.01
"""C of the regression that chooses the step: what the probe's own choice mostly comes to."""


class TuningError(InstructUEError):
    """Labels or settings that no instruction can be tuned with."""


@dataclass(frozen=True, kw_only=True)
class TuningConfig:
    """How an instruction learns.

    Parameters
    ----------
    steps
        Of the optimiser, AdamW.
    learning_rate
        The first step's, in root mean squares of the start vectors, for a token table may have any scale; it falls
        to 0 as a cosine does.
    temperature
        tau of equation 6.
    batch_size
        Users of a step at most, of every class as many as its share; a step has the prototypes of its own users.
    held_out
        Share of the shots that is not learned from and chooses the step.
    check_every
        Steps between two looks at the shots held out.
    margin
        Standard errors by which the best step must be better than the manual instruction on the shots held out, or
        that is kept: the best of several looks at few users is often luck.

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
class Look:
    """What was found after a step.

    `learned` and `held_out` are equation 6 of the two kinds of shots, both by the prototypes of the first; `probe` is
    the log loss on the second of a logistic regression fitted on the first.
    """

    step: int
    learned: float
    held_out: float
    probe: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Tuned:
    """What tuning made, and how it came to it.

    Attributes
    ----------
    vectors : numpy.ndarray
        float32 [I, H], `<USER>` at last.
    step : int
        The step they are of: the one with the least log loss of the probe, where that is better than the manual
        instruction's by the margin; else 0, the manual instruction itself.
    curve : tuple of Look
        From step 0 to the last.
    learned, held_out : int
        Shots of each kind.
    """

    vectors: Floats
    step: int
    curve: tuple[Look, ...]
    learned: int
    held_out: int


def tune(
    read: ProfileKVCache,
    users_S: Ints,
    labels_S: ArrayLike,
    start_IH: Floats,
    *,
    config: TuningConfig | None = None,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Tuned:
    """Tune instruction vectors until the users of a class lie together and apart from the others (equation 6).

    Parameters
    ----------
    read
        Profiles of the network that is tuned for, read once for any number of tunings.
    users_S
        The shots, as rows of `read`.
    labels_S
        Their classes: two or more whole numbers.
    start_IH
        Where to start; see `start_vectors`.
    config
        None: the defaults.
    seed
        Decides which shots are held out, and the batches.
    progress
        Takes how many steps are done, and of how many.

    Raises
    ------
    TuningError
        One class only, or a class of one shot.
    """
    config = config or TuningConfig()
    classes_S = _classes(labels_S)
    rng = np.random.default_rng(seed)
    held_S = _held_out(classes_S, config.held_out, rng)
    learned, held = np.flatnonzero(~held_S), np.flatnonzero(held_S)
    vectors_IH = torch.from_numpy(start_IH.copy()).requires_grad_(True)
    scale = float(vectors_IH.detach().square().mean().sqrt())
    # Weight decay would pull towards no instruction, not towards the manual one.
    optimizer = torch.optim.AdamW([vectors_IH], lr=config.learning_rate * scale, weight_decay=0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    batches = _batches(learned, classes_S, config.batch_size, rng)
    curve: list[Look] = []
    vectors: list[Floats] = []
    losses: list[NDArray[np.float64]] = []
    for step in range(config.steps + 1):
        if step % config.check_every == 0 or step == config.steps:
            vectors.append(vectors_IH.detach().numpy().copy())
            embeddings_SH = read.embed(vectors[-1], users_S)
            losses.append(_probe_losses(embeddings_SH, classes_S, held_S))
            learned_loss, held_loss = _losses(embeddings_SH, classes_S, held_S, config.temperature)
            curve.append(Look(step=step, learned=learned_loss, held_out=held_loss, probe=float(losses[-1].mean())))
        if step < config.steps:
            batch = next(batches)
            embeddings_BH = read.read(users_S[batch], vectors_IH)
            classes_B = torch.from_numpy(classes_S[batch]).to(embeddings_BH.device)
            loss = prototype_loss(embeddings_BH, classes_B, temperature=config.temperature)
            optimizer.zero_grad()
            loss.backward(inputs=[vectors_IH])
            optimizer.step()
            schedule.step()
            progress(step + 1, config.steps)
    # Not by equation 6: held out too it goes on falling where a probe has long begun to lose.
    best = min(range(len(curve)), key=lambda look: curve[look].probe)
    gains = losses[0] - losses[best]
    if gains.mean() <= config.margin * gains.std(ddof=1) / len(gains) ** 0.5:
        best = 0
    return Tuned(
        vectors=vectors[best], step=curve[best].step, curve=tuple(curve), learned=len(learned), held_out=len(held)
    )


def start_vectors(network: InstructUE, tokenizers: Tokenizers, instruction: str | None) -> Floats:
    """Return float32 `[I, H]`: the vectors of an instruction's tokens and of `<USER>`; None: of `<USER>` alone."""
    vectors_1IH, _ = instruction_vectors(network, tokenizers, [instruction])
    return np.asarray(vectors_1IH[0].float().cpu().numpy(), np.float32)


def draw_shots(labels_U: ArrayLike, shots: int | None, seed: int = 0) -> Ints:
    """Return which users to tune with: so many in all, of every class its share and at least two; None: all.

    More shots with the same seed are the same users and others.

    Raises
    ------
    TuningError
        One class only, a class of one user, or fewer shots than two of each class.
    """
    classes_U = _classes(labels_U)
    if shots is None or shots >= len(classes_U):
        return np.arange(len(classes_U))
    counts_K = np.bincount(classes_U)
    if shots < LEAST * len(counts_K):
        raise TuningError(
            f"{shots} shots are too few for {len(counts_K)} classes: take at least {LEAST} of each, "
            f"{LEAST * len(counts_K)} in all"
        )
    return _spread(classes_U, np.random.default_rng(seed))[:shots]


def prototype_loss(
    embeddings_BH: Tensor, classes_B: Tensor, prototypes_KH: Tensor | None = None, *, temperature: float = 0.07
) -> Tensor:
    """Return equation 6: the mean cross-entropy of each user's class, by the cosine to every class's prototype.

    Parameters
    ----------
    embeddings_BH
        L2-normalised.
    classes_B
        Whole numbers; without `prototypes_KH` any, with them the row of each user's class.
    prototypes_KH
        See `class_prototypes`; None: those of these users.
    temperature
        tau.
    """
    if prototypes_KH is None:
        classes_B = torch.unique(classes_B, return_inverse=True)[1]
        prototypes_KH = class_prototypes(embeddings_BH, classes_B)
    return F.cross_entropy(embeddings_BH @ prototypes_KH.T / temperature, classes_B)


def class_prototypes(embeddings_BH: Tensor, classes_B: Tensor) -> Tensor:
    """Return `prototypes_KH`, L2-normalised: the mean embedding of each of the classes 0 to K - 1."""
    sums_KH = embeddings_BH.new_zeros(int(classes_B.max()) + 1, embeddings_BH.shape[1])
    return F.normalize(sums_KH.index_add(0, classes_B, embeddings_BH), dim=-1)  # a mean is its sum, normalised


def _classes(labels: ArrayLike) -> Ints:
    """The classes as 0 to K - 1; every one has two users at least."""
    names, classes, counts = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise TuningError(f"the users to tune with have the labels {names.tolist()} alone: label some of another class")
    if counts.min() < LEAST:
        raise TuningError(f"only one user to tune with has the label {names[counts.argmin()]}: label more of them")
    return np.asarray(classes, np.int64)


def _spread(classes: Ints, rng: np.random.Generator) -> Ints:
    """All of them in an order whose every beginning has two of each class, and then each class's share."""
    place = np.empty(len(classes))
    for number, count in enumerate(np.bincount(classes)):
        rank = rng.permutation(count)
        place[classes == number] = np.where(rank < LEAST, rank - LEAST, (rank + rng.random()) / count)
    return np.argsort(place, kind="stable")


def _held_out(classes_S: Ints, share: float, rng: np.random.Generator) -> Bools:
    """True for the shots to choose by: of every class its share, and neither none nor all."""
    held_S = np.zeros(len(classes_S), bool)
    for number, count in enumerate(np.bincount(classes_S)):
        size = min(max(1, round(share * int(count))), int(count) - 1)
        held_S[rng.permutation(np.flatnonzero(classes_S == number))[:size]] = True
    return held_S


def _batches(users: Ints, classes_S: Ints, size: int, rng: np.random.Generator) -> Iterator[Ints]:
    """The users in batches without end, each pass in another order, of every class its share in each."""
    parts = -(-len(users) // size)
    while True:
        order = rng.permutation(len(users))
        order = order[np.argsort(classes_S[users[order]], kind="stable")]  # each class is dealt out
        yield from (users[order[part::parts]] for part in range(parts))


def _losses(embeddings_SH: Floats, classes_S: Ints, held_S: Bools, temperature: float) -> tuple[float, float]:
    """Equation 6 of the shots that are learned from and of those held out, by the prototypes of the first."""
    embeddings, classes, held = map(torch.from_numpy, (embeddings_SH, classes_S, held_S))
    prototypes_KH = class_prototypes(embeddings[~held], classes[~held])
    learned, held_out = (
        float(prototype_loss(embeddings[part], classes[part], prototypes_KH, temperature=temperature))
        for part in (~held, held)
    )
    return learned, held_out


def _probe_losses(embeddings_SH: Floats, classes_S: Ints, held_S: Bools) -> NDArray[np.float64]:
    """The log loss of each shot held out, by a regression on the others."""
    regression = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, max_iter=300))
    regression.fit(embeddings_SH[~held_S], classes_S[~held_S])
    predicted = regression.predict_log_proba(embeddings_SH[held_S])
    losses: NDArray[np.float64] = -predicted[np.arange(len(predicted)), classes_S[held_S]].astype(np.float64)
    return losses
