"""What defines a network and its training, as frozen data that survives JSON.

A caller states the sources, the tabular columns and a preset; training completes the rest (the vocabularies'
true sizes, the statistics of the tabular columns) and writes the result beside the weights as `config.json`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Any, Literal

from model.errors import InstructUEError

Adapter = Literal["mlp", "linear"]
# The columns of `user_profiles` that are not event sources.
RESERVED_NAMES = frozenset({"user_id", "as_of", "ages", "tabular", "profile_hash", "day"})
# Bands of days are floor(log2(1 + days)); 15 is 90 years. Code 0 means none, so a band table has 17 rows.
LAST_BAND = 15
BAND_CODES = LAST_BAND + 2


class ConfigError(InstructUEError):
    """A network or training setting that cannot work."""


@dataclass(frozen=True, kw_only=True)
class EventSource:
    """One source of events: a column of `user_profiles`, named in the deployment's order.

    Parameters
    ----------
    name
        The profile's column, and the boundary tokens `<name>` and `</name>`.
    max_events
        How many of the user's last events are read.
    max_tokens
        How many tokens of an event's text are read, its `<cls>` included.
    """

    name: str
    max_events: int
    max_tokens: int


@dataclass(frozen=True, kw_only=True)
class Number:
    """A numeric tabular column and its increasing quantile edges over the training profiles (empty: not
    fitted).
    """

    name: str
    edges: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Category:
    """A categorical tabular column and its values in the training profiles (empty: not fitted)."""

    name: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Tabular:
    """The tabular columns of a profile, in the order of the network's inputs."""

    numbers: tuple[Number, ...] = ()
    categories: tuple[Category, ...] = ()

    @property
    def code_width(self) -> int:
        """P: a missing mark and the bins of the number that has most."""
        return 1 + max((len(number.edges) - 1 for number in self.numbers if number.edges), default=0)


def _check_sizes(part: EncoderConfig | BackboneConfig) -> None:
    for name, size in asdict(part).items():
        if size < 1:
            raise ConfigError(f"{name} is {size}: use at least 1")
    if part.width % part.heads:
        raise ConfigError(f"width {part.width} does not divide by {part.heads} heads: change one of them")


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Sizes of a BERT-class event-text encoder; `vocabulary` is a ceiling until training sets the true
    size.
    """

    width: int
    layers: int
    heads: int
    feedforward: int
    vocabulary: int

    def __post_init__(self) -> None:
        _check_sizes(self)


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """Sizes of a Qwen2-shaped language model; `vocabulary` is a ceiling until training sets the true size."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    feedforward: int
    vocabulary: int

    def __post_init__(self) -> None:
        _check_sizes(self)
        if self.heads % self.kv_heads:
            raise ConfigError(f"heads {self.heads} do not divide by {self.kv_heads} kv_heads: change one of them")


def initial_std(width: int) -> float:
    """Return the standard deviation of fresh weights: 0.027 at BERT's width of 768, more in narrower
    networks.

    The usual 0.02 leaves a width of 64 nearly blind to its text: after 75 steps on made-up users, the mean
    AUC of a probe of their six interests was .49 with it and .90 with this.
    """
    return 0.75 * width**-0.5


@dataclass(frozen=True, kw_only=True)
class Preset:
    """An encoder and a backbone that go together."""

    encoder: EncoderConfig
    backbone: BackboneConfig


PRESETS: Mapping[str, Preset] = {
    # Trained from scratch on a laptop's CPU in minutes.
    "tiny": Preset(
        encoder=EncoderConfig(width=64, layers=2, heads=4, feedforward=128, vocabulary=8192),
        backbone=BackboneConfig(width=128, layers=2, heads=4, kv_heads=4, feedforward=256, vocabulary=4096),
    ),
}


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Everything that decides the shape of a network.

    Parameters
    ----------
    sources
        The event sources, in the order in which the language model reads them.
    tabular
        The tabular columns; columns without statistics are fitted by training.
    encoder, backbone
        Sizes, usually a preset's.
    shared_encoder
        One event encoder for all sources instead of one for each.
    adapter
        `mlp` is LayerNorm, Linear, GELU, Linear; `linear` a single Linear.
    pooled_tokens
        Whether the profile begins with one token for each source and one for the user.
    time_bands
        Whether event tokens carry their gap and sources the age of their last event.

    Raises
    ------
    ConfigError
        When there is no source, or a name is taken twice or reserved.
    """

    sources: tuple[EventSource, ...]
    encoder: EncoderConfig
    backbone: BackboneConfig
    tabular: Tabular = field(default_factory=Tabular)
    shared_encoder: bool = False
    adapter: Adapter = "mlp"
    pooled_tokens: bool = True
    time_bands: bool = True

    def __post_init__(self) -> None:
        if not self.sources:
            raise ConfigError("the network has no event source: name at least one")
        for name, times in Counter(source.name for source in self.sources).items():
            if times > 1:
                raise ConfigError(f"the source {name!r} is named {times} times: rename all but one")
            if name in RESERVED_NAMES:
                raise ConfigError(
                    f"the source name {name!r} is a column of user_profiles already: rename the source"
                )
        for source in self.sources:
            if source.max_events < 1 or source.max_tokens < 2:
                raise ConfigError(
                    f"source {source.name!r} has max_events {source.max_events} and max_tokens "
                    f"{source.max_tokens}: use at least 1 event and 2 tokens"
                )
        if self.adapter not in ("mlp", "linear"):
            raise ConfigError(f"adapter is {self.adapter!r}: use 'mlp' or 'linear'")

    @classmethod
    def from_preset(
        cls, preset: str, *, sources: tuple[EventSource, ...], tabular: Tabular | None = None, **switches: Any
    ) -> NetworkConfig:
        """Return a network of the preset's sizes; `switches` are the fields `shared_encoder` to
        `time_bands`.
        """
        if preset not in PRESETS:
            raise ConfigError(f"there is no preset {preset!r}: use one of {', '.join(sorted(PRESETS))}")
        sizes = PRESETS[preset]
        return cls(
            sources=sources,
            tabular=tabular or Tabular(),
            encoder=sizes.encoder,
            backbone=sizes.backbone,
            **switches,
        )

    @property
    def encoder_names(self) -> tuple[str, ...]:
        """The sources that have an encoder of their own, or `("shared",)`."""
        return ("shared",) if self.shared_encoder else tuple(source.name for source in self.sources)

    @property
    def fixed_tokens(self) -> int:
        """Tokens of every profile beside its events: the pooled and the tabular ones, and the boundaries."""
        pooled = len(self.sources) + 1 if self.pooled_tokens else 0
        tabular = 3 if self.tabular.numbers or self.tabular.categories else 0
        return pooled + 2 * len(self.sources) + tabular

    def source(self, name: str) -> EventSource:
        """Return the source of that name."""
        for source in self.sources:
            if source.name == name:
                return source
        names = ", ".join(source.name for source in self.sources)
        raise ConfigError(f"the network has no source {name!r}: it has {names}")

    def to_json(self) -> str:
        """Return the config as JSON text."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> NetworkConfig:
        """Return the config that `to_json` wrote.

        Raises
        ------
        ConfigError
            When the text is no such JSON.
        """
        try:
            fields = json.loads(text)
            tabular = fields["tabular"]
            return cls(
                **fields
                | {
                    "sources": tuple(EventSource(**source) for source in fields["sources"]),
                    "encoder": EncoderConfig(**fields["encoder"]),
                    "backbone": BackboneConfig(**fields["backbone"]),
                    "tabular": Tabular(
                        numbers=tuple(
                            Number(name=n["name"], edges=tuple(n["edges"])) for n in tabular["numbers"]
                        ),
                        categories=tuple(
                            Category(name=c["name"], values=tuple(c["values"])) for c in tabular["categories"]
                        ),
                    ),
                }
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"this is no network configuration of this version ({error}): train or export it again"
            ) from error


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a network is trained.

    Parameters
    ----------
    steps
        Optimiser steps; 0 leaves the weights as they were initialised.
    profiles_per_step
        Profiles in a batch.
    instructed_pairs, general_pairs
        How many question-answer pairs with and without an instruction are drawn for each profile of a batch.
    learning_rate, betas, weight_decay, warmup_steps, max_grad_norm
        AdamW's, under a cosine schedule after a linear warm-up, with gradients clipped to that norm.
    encoder_rate
        The event encoders' learning rate as a share of the others'; 0 freezes them, and each distinct text is
        then encoded once and its vector kept in memory. AdamW makes whole steps of gradients however small and
        noisy, and theirs are: at 1, a few hundred steps undo what `warm_start` gave them.
    weight_lm, weight_cl
        a_lm and a_cl of eq. 5.
    temperature, margin
        tau of eq. 2 and the margin of eq. 4; cosines differ by 2 at most, so a margin of 2 turns eq. 4 off.
    warm_start
        Whether fresh weights begin as a network that hands on what words say (`model.start`).
    mask_same_answers
        Whether pairs with the same answer text are never each other's negatives.
    quantile_bins
        Bins of a number's piecewise-linear code, before equal edges fall together.
    max_answer_tokens
        How many tokens of an answer are read, its `<end>` included.
    validation_profiles, validate_every, save_every
        How many validation profiles are scored; how many steps lie between two scorings and two saved states.
    """

    steps: int = 1200
    profiles_per_step: int = 128
    instructed_pairs: int = 4
    general_pairs: int = 1
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.01
    warmup_steps: int = 50
    max_grad_norm: float = 1.0
    encoder_rate: float = 1.0
    weight_lm: float = 1.0
    weight_cl: float = 1.0
    temperature: float = 0.07
    margin: float = 0.1
    warm_start: bool = True
    mask_same_answers: bool = True
    quantile_bins: int = 12
    max_answer_tokens: int = 64
    validation_profiles: int = 512
    validate_every: int = 200
    save_every: int = 100

    def __post_init__(self) -> None:
        for name in (
            "profiles_per_step",
            "quantile_bins",
            "validation_profiles",
            "validate_every",
            "save_every",
        ):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}: use at least 1")
        if self.steps < 0 or self.instructed_pairs < 0 or self.general_pairs < 0:
            raise ConfigError("steps, instructed_pairs and general_pairs cannot be negative: use 0 or more")
        if self.instructed_pairs + self.general_pairs == 0:
            raise ConfigError(
                "a profile without pairs teaches nothing: raise instructed_pairs or general_pairs"
            )
        for name, value in asdict(self).items():
            if not all(isfinite(number) for number in (value if isinstance(value, tuple) else (value,))):
                raise ConfigError(f"{name} is {value}: use a finite number")
        if self.encoder_rate < 0:
            raise ConfigError(f"encoder_rate is {self.encoder_rate}: use 0 (frozen) or more")
        for name in ("weight_decay", "warmup_steps", "max_grad_norm", "weight_lm", "weight_cl"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}: use 0 or more")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"betas is {self.betas}: use two numbers from 0 to below 1, such as [0.9, 0.98]")
        if self.max_answer_tokens < 2:
            raise ConfigError(f"max_answer_tokens is {self.max_answer_tokens}: use at least 2")
        for name, usual in (("temperature", 0.07), ("learning_rate", 0.001)):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}: use a positive one, such as {usual}")
