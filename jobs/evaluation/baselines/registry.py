"""The baselines, one entry each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.evaluation.baselines import event_sequences, hand_made, language_model, pooled_events, text_embedder
from jobs.evaluation.baselines.inputs import BaselineInputs, BaselineOptions

Vectors = NDArray[np.floating[Any]] | Mapping[str, NDArray[np.floating[Any]]]
"""`[U, D]` of the labelled profiles; by scenario where they differ."""
MakeVectors = Callable[[BaselineInputs, int, bool], Mapping[str, Vectors]]
"""Takes the inputs, a seed and whether the network is trained or has fresh weights; returns vectors by method."""


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A way to make vectors, whose methods are rows of the result.

    Attributes
    ----------
    methods : tuple of str
        The names of the rows.
    make : callable
        Makes the vectors, see `MakeVectors`.
    needs_labels : bool
        Whether the classifier reads features directly, so that there is no vector without labels.
    settings : callable
        Takes the options and returns the settings that decide the vectors.
    classifier : str
        A key of `scores.CLASSIFIERS`.
    has_untrained : bool
        Whether the same network with fresh weights is compared too.
    trained_seeds : int, optional
        The number of trained versions, where the seed of the study does not decide it; None: one for each seed.
    """

    methods: tuple[str, ...]
    make: MakeVectors
    needs_labels: bool = False
    settings: Callable[[BaselineOptions], Mapping[str, Any]] = lambda options: {}
    classifier: str = "regression"
    has_untrained: bool = True
    trained_seeds: int | None = None


def _hand_made_regression(inputs: BaselineInputs, seed: int, trained: bool) -> Mapping[str, Vectors]:
    return {hand_made.REGRESSION: inputs.hand_made.filled}


def _hand_made_lightgbm(inputs: BaselineInputs, seed: int, trained: bool) -> Mapping[str, Vectors]:
    return {hand_made.LIGHTGBM: inputs.hand_made.values}


OWN_LANGUAGE_MODEL = ("language model, our own", "language model, our own, mean")


def _own_language_model(inputs: BaselineInputs, seed: int, trained: bool) -> Mapping[str, Vectors]:
    settings = language_model.LanguageSettings()
    states_U2H = language_model.own_vectors(inputs.training_texts, inputs.texts, settings, seed=seed, trained=trained)
    return {method: states_U2H[:, column] for column, method in enumerate(OWN_LANGUAGE_MODEL)}


def _pretrained_language_model(inputs: BaselineInputs, seed: int, trained: bool) -> Mapping[str, Vectors]:
    name = str(inputs.options.language_model)
    states_U2H = language_model.pretrained_vectors(inputs.texts, name, seed=seed, trained=trained)
    return {"language model, pretrained": states_U2H[:, 0]}


def _text_embedder(inputs: BaselineInputs, seed: int, trained: bool) -> Mapping[str, Vectors]:
    folder = inputs.options.text_embedder or text_embedder.minilm()
    return {"text embedder": text_embedder.vectors(inputs.texts, folder, seed=seed, trained=trained)}


def _pooled_events(inputs: BaselineInputs, seed: int, trained: bool) -> Mapping[str, Vectors]:
    settings = pooled_events.PooledSettings()
    vectors_UH = pooled_events.vectors(
        inputs.training, inputs.profiles, inputs.config, settings, seed=seed, trained=trained
    )
    return {"MLP on pooled events": vectors_UH}


def _event_sequences(name: str) -> Baseline:
    def make(inputs: BaselineInputs, seed: int, trained: bool) -> Mapping[str, Vectors]:
        vectors_UH = event_sequences.vectors(
            inputs.training,
            inputs.profiles,
            inputs.config,
            event_sequences.SequenceSettings(),
            method=name.lower(),
            python=inputs.options.lifestream,
            seed=seed,
            trained=trained,
        )
        return {name: vectors_UH}

    return Baseline(methods=(name,), make=make, settings=lambda options: asdict(event_sequences.SequenceSettings()))


BASELINES: tuple[Baseline, ...] = (
    Baseline(
        methods=(hand_made.REGRESSION,),
        make=_hand_made_regression,
        needs_labels=True,
        has_untrained=False,
        trained_seeds=1,
    ),
    Baseline(
        methods=(hand_made.LIGHTGBM,),
        make=_hand_made_lightgbm,
        needs_labels=True,
        classifier="LightGBM",
        has_untrained=False,
        trained_seeds=1,
    ),
    Baseline(
        methods=OWN_LANGUAGE_MODEL,
        make=_own_language_model,
        settings=lambda options: asdict(language_model.LanguageSettings()),
    ),
    Baseline(
        methods=("text embedder",),
        make=_text_embedder,
        settings=lambda options: {"model": options.text_embedder or "MiniLM"},
        trained_seeds=1,
    ),
    _event_sequences("CPC"),
    _event_sequences("CoLES"),
    Baseline(
        methods=("MLP on pooled events",),
        make=_pooled_events,
        settings=lambda options: asdict(pooled_events.PooledSettings()),
    ),
    Baseline(
        methods=("language model, pretrained",),
        make=_pretrained_language_model,
        settings=lambda options: {"model": options.language_model},
        trained_seeds=1,
    ),
)
