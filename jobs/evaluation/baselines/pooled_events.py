"""A multi-layer perceptron on mean-pooled event vectors (after U-MLP One4all), trained to predict the next events.

An event's vector is the TF-IDF of its words, reduced to a few factors over the distinct texts of the training profiles.
A user's input is the mean event vector and the logarithm of the count of each source, and the tabular columns with
InstructUE's codes. The network reads a user at one cut-off and predicts the words of the events up to the next cut-off;
the loss is the cross-entropy with their distribution. The last hidden layer is the user's vector.

Shapes: U users, E events, T distinct texts, V words, F factors, D inputs, B users of a batch.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from torch import nn
from torch.nn import functional

from jobs.evaluation.baselines.inputs import BaselineError
from jobs.evaluation.profile_arrays import event_counts, whole_column
from model.data.arrays import Floats
from model.data.config import NetworkConfig
from model.data.profiles import read_profiles
from model.data.tabular import fit_tabular, piecewise_codes
from model.data.text import WORD

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PooledSettings:
    """Sizes of the network, and its training.

    A word of fewer than `min_texts` texts is not predicted.
    """

    factors: int = 64
    bins: int = 10
    width: int = 256
    vector: int = 128
    min_texts: int = 2
    steps: int = 600
    users_per_step: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.01


def vectors(
    training: pa.Table, profiles: pa.Table, config: NetworkConfig, settings: PooledSettings, *, seed: int, trained: bool
) -> Floats:
    """Return `[U, vector]` of the profiles by a network trained on the training profiles, or by its fresh weights.

    Raises
    ------
    BaselineError
        No user has profiles at two cut-offs with an event between them.
    """
    inputs = Inputs.fit(training, config, settings, seed)
    torch.manual_seed(seed)
    first_UD = torch.from_numpy(inputs(training))
    body = nn.Sequential(
        nn.Linear(first_UD.shape[1], settings.width), nn.GELU(), nn.Linear(settings.width, settings.vector), nn.GELU()
    )
    if trained:
        row_P, next_PV = following(training, [source.name for source in config.sources], settings.min_texts)
        _train(body, first_UD[torch.from_numpy(row_P)], next_PV, settings, seed)
    with torch.inference_mode():
        return np.asarray(body(torch.from_numpy(inputs(profiles))).numpy(), dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """A transformation of profiles into standardised inputs `[U, D]`, fitted on the training profiles."""

    config: NetworkConfig
    words: TfidfVectorizer
    svd: TruncatedSVD
    mean_D: Floats
    scale_D: Floats

    @classmethod
    def fit(cls, training: pa.Table, config: NetworkConfig, settings: PooledSettings, seed: int) -> Inputs:
        """Fit words, factors, tabular bins and scales."""
        config = replace(config, tabular=fit_tabular(training, config.tabular, bins=settings.bins))
        texts = sorted({text for part in read_profiles(training, config).sources for text in part.texts})
        words = TfidfVectorizer(token_pattern=WORD.pattern, sublinear_tf=True)
        words_TV = words.fit_transform(texts)
        factors = min(settings.factors, min(words_TV.shape) - 1)
        svd = TruncatedSVD(factors, random_state=seed).fit(words_TV)
        unscaled = cls(
            config=config, words=words, svd=svd, mean_D=np.zeros(1, np.float32), scale_D=np.ones(1, np.float32)
        )
        raw_UD = unscaled(training)
        return replace(unscaled, mean_D=raw_UD.mean(0), scale_D=np.maximum(raw_UD.std(0), 1e-3))

    def __call__(self, profiles: pa.Table) -> Floats:
        """Return the inputs `[U, D]` of these profiles."""
        read = read_profiles(profiles, self.config)
        parts = []
        for events in read.sources:
            count_U = np.diff(events.offsets_U1)
            user_E = np.repeat(np.arange(len(count_U)), count_U)
            shape = (len(read), max(1, len(events.texts)))
            share_UT = csr_matrix((1 / count_U[user_E], (user_E, events.text_E)), shape)
            factors_TF = self.svd.transform(self.words.transform(events.texts or [""]))
            parts += [share_UT @ factors_TF, np.log1p(count_U)[:, None]]
        tabular = self.config.tabular
        parts.append(piecewise_codes(read.numbers_UF, tabular).reshape(len(read), -1))
        for column, category in enumerate(tabular.categories):
            parts.append(np.eye(1 + len(category.values))[read.categories_UC[:, column]])
        raw_UD = np.hstack(parts).astype(np.float32)
        return np.asarray((raw_UD - self.mean_D) / self.scale_D, dtype=np.float32)


def following(training: pa.Table, sources: Sequence[str], min_texts: int) -> tuple[NDArray[np.int64], csr_matrix]:
    """Return `row_P`, the profiles that events follow, and `next_PV`, the words of those events; each row sums to 1.

    The events that follow a profile are those at or after its cut-off in the same user's next profile.

    Raises
    ------
    BaselineError
        There is no such row.
    """
    keys = zip(training["user_id"].to_pylist(), training["as_of"].to_pylist(), strict=True)
    order = sorted((user, as_of, row) for row, (user, as_of) in enumerate(keys))
    after = {later[2]: (row, as_of) for (user, as_of, row), later in pairwise(order) if user == later[0]}
    texts: dict[int, list[str]] = {}
    for source in sources:
        column = whole_column(training, source)
        count_U = event_counts(column)
        events = pc.list_flatten(column)
        for row, time, text in zip(
            np.repeat(np.arange(len(count_U)), count_U).tolist(),
            pc.struct_field(events, "event_time").to_pylist(),
            pc.struct_field(events, "text").to_pylist(),
            strict=True,
        ):
            if row in after and time >= after[row][1]:
                texts.setdefault(after[row][0], []).append(text)
    if not texts:
        raise BaselineError(
            "no user has profiles at two cut-offs with an event between them: give userqa.as_of two days or more"
        )
    row_P = np.array(sorted(texts), dtype=np.int64)
    words = CountVectorizer(token_pattern=WORD.pattern, min_df=min_texts)
    counts_PV = words.fit_transform([" ".join(texts[row]) for row in row_P.tolist()]).astype(np.float32)
    some_P = np.asarray(counts_PV.sum(1)).ravel() > 0
    counts_PV = counts_PV[some_P]
    return row_P[some_P], csr_matrix(counts_PV.multiply(1 / counts_PV.sum(1)))


def _train(
    body: nn.Sequential, input_PD: torch.Tensor, next_PV: csr_matrix, settings: PooledSettings, seed: int
) -> None:
    """Train the network in place."""
    rng = np.random.default_rng(seed)
    head = nn.Linear(settings.vector, next_PV.shape[1])
    optimizer = torch.optim.AdamW(
        [*body.parameters(), *head.parameters()], lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    for step in range(settings.steps):
        drawn_B = rng.choice(len(input_PD), min(settings.users_per_step, len(input_PD)), replace=False)
        logits_BV = head(body(input_PD[torch.from_numpy(drawn_B)]))
        loss = functional.cross_entropy(logits_BV, torch.from_numpy(next_PV[drawn_B].toarray()).float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == settings.steps - 1:
            logger.info(f"pooled events: step {step}, loss {loss.item():.3f}")
