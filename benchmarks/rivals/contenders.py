"""Who is compared, each with its untrained self where it has one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.rivals import embedder, language, pooled, sequences
from benchmarks.rivals.errors import RivalError
from benchmarks.rivals.material import Material
from jobs.config.deployment import UNIVERSAL
from jobs.evaluation.baselines import hand_made_features
from jobs.training.registry import current_checkpoint, open_release
from model.network.inference import embed
from model.network.network import InstructUE
from model.serving.onnx_runtime import Runtime
from model.training.checkpoint import load_checkpoint
from model.training.probe import ProbeResult, probe, probe_baseline

Vectors = NDArray[np.floating[Any]] | Mapping[str, NDArray[np.floating[Any]]]
"""`[U, D]` of the labelled profiles' rows; by scenario where they differ."""
Log = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One line of the table, or two: trained and untrained.

    Attributes
    ----------
    name : str
        As the table has it.
    make : callable
        Takes the material, the seed, whether trained, and a log; returns `Vectors`.
    settings : mapping
        What else decides the figures: a finished cell of other settings is done again.
    fit : callable
        The probe, or LightGBM.
    untrained : bool
        Whether it has an untrained self.
    seeds : sequence of int, optional
        Of the trained self; None: as asked for. One where nothing is drawn.
    """

    name: str
    make: Callable[[Material, int, bool, Log], Vectors]
    settings: Mapping[str, Any] = field(default_factory=dict)
    fit: Callable[..., ProbeResult] = probe
    untrained: bool = True
    seeds: Sequence[int] | None = None


def contenders(
    material: Material, *, releases: Sequence[Path], lm: str | None, text_embedder: str | None, python: Path
) -> list[Contender]:
    """Return all, InstructUE first.

    Parameters
    ----------
    releases : sequence of Path
        InstructUE's, one for each seed; none: the current one.
    lm : str, optional
        A pretrained causal language model to compare beside our own.
    text_embedder : str, optional
        A folder; None: MiniLM's.
    python : Path
        The interpreter of an environment with pytorch-lifestream.
    """
    own, mlp, events = language.LanguageSettings(), pooled.PooledSettings(), sequences.SequenceSettings()
    found = [open_release(material.deployment, path) for path in releases or (None,)]
    ours: dict[str, Any] = {"settings": {"releases": [release.name for release in found]}, "seeds": range(len(found))}
    paths = [release.path for release in found]

    @cache  # both of its rows are made of one training
    def own_states(seed: int, trained: bool, log: Log) -> language.Floats:
        return language.own_vectors(material.training_texts, material.texts, own, seed=seed, trained=trained, log=log)

    listed = [
        Contender(
            name="InstructUE, universal",
            **ours,
            make=lambda m, seed, trained, log: _instructue(m, paths, seed, trained)[UNIVERSAL],
        ),
        Contender(
            name="InstructUE, instructed",
            **ours,
            make=lambda m, seed, trained, log: _instructue(m, paths, seed, trained),
        ),
        Contender(
            name="by hand, regression",
            untrained=False,
            seeds=(0,),
            make=lambda m, seed, trained, log: _by_hand(m).filled,
        ),
        Contender(
            name="by hand, LightGBM",
            untrained=False,
            seeds=(0,),
            fit=probe_baseline,
            make=lambda m, seed, trained, log: _by_hand(m).values,
        ),
        Contender(
            name="language model, our own",
            settings=asdict(own),
            make=lambda m, seed, trained, log: own_states(seed, trained, log)[:, 0],
        ),
        Contender(
            name="language model, our own, mean",
            settings=asdict(own),
            make=lambda m, seed, trained, log: own_states(seed, trained, log)[:, 1],
        ),
        Contender(
            name="text embedder",
            settings={"model": text_embedder or "MiniLM"},
            seeds=(0,),
            make=lambda m, seed, trained, log: embedder.vectors(
                m.texts, text_embedder or embedder.minilm(), seed=seed, trained=trained, log=log
            ),
        ),
        *(
            Contender(name=name, settings=asdict(events), make=_sequences(method, events, python))
            for name, method in (("CPC", "cpc"), ("CoLES", "coles"))
        ),
        Contender(
            name="MLP on pooled events",
            settings=asdict(mlp),
            make=lambda m, seed, trained, log: pooled.vectors(
                m.training, m.profiles, m.config, mlp, seed=seed, trained=trained, log=log
            ),
        ),
    ]
    if lm:
        listed.append(
            Contender(
                name="language model, pretrained",
                settings={"model": lm},
                seeds=(0,),
                make=lambda m, seed, trained, log: language.pretrained_vectors(m.texts, lm, seed=seed, trained=trained)[
                    :, 0
                ],
            )
        )
    return listed


def chosen(listed: Sequence[Contender], names: Sequence[str]) -> list[Contender]:
    """Return those whose names hold one of the words; all where no word is given.

    Raises
    ------
    RivalError
        A word is in no name.
    """
    for word in names:
        if not any(word.lower() in contender.name.lower() for contender in listed):
            raise RivalError(
                f"there is no rival {word!r}: name one of " + ", ".join(repr(contender.name) for contender in listed)
            )
    return [
        contender for contender in listed if not names or any(word.lower() in contender.name.lower() for word in names)
    ]


def _instructue(
    material: Material, releases: Sequence[Path], seed: int, trained: bool
) -> dict[str, NDArray[np.float32]]:
    """The universal vectors and each scenario's: of a release, or of fresh weights of the same network."""
    scenarios = [scenario for scenario in material.deployment.scenarios if scenario.labels]
    names = [UNIVERSAL, *(scenario.name for scenario in scenarios)]
    if trained:
        runtime = Runtime(
            open_release(material.deployment, releases[seed]), providers=material.deployment.model.providers
        )
        vectors_UKH = runtime.embed(material.profiles, names)
    else:
        _, tokenizers, config = load_checkpoint(current_checkpoint(material.deployment))
        torch.manual_seed(seed)
        network = InstructUE(config).eval()
        vectors_UKH = embed(
            network, tokenizers, material.profiles, [None, *(scenario.instruction for scenario in scenarios)]
        )
    return {name: vectors_UKH[:, number] for number, name in enumerate(names)}


def _by_hand(material: Material) -> Any:
    deployment = material.deployment
    return hand_made_features(
        material.profiles, [source.name for source in deployment.sources], deployment.numbers, deployment.categories
    )


def _sequences(
    method: str, settings: sequences.SequenceSettings, python: Path
) -> Callable[[Material, int, bool, Log], Vectors]:
    return lambda m, seed, trained, log: sequences.vectors(
        m.training, m.profiles, m.config, settings, method=method, python=python, seed=seed, trained=trained
    )
