"""What defines a network, as frozen data that survives JSON.

A caller states the sources, the tabular columns and a preset; training completes the rest (the vocabularies'
true sizes, the statistics of the tabular columns) and writes the result beside the weights as `config.json`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from model.errors import InstructUEError

Adapter = Literal["mlp", "linear"]
Pooling = Literal["cls", "mean"]
Reading = Literal["vectors", "tokens"]
Readout = Literal["user", "mean"]
# The columns of `user_profiles` that are not event sources.
RESERVED_NAMES = frozenset({"user_id", "as_of", "ages", "tabular", "profile_hash", "day"})


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


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Low-rank updates of frozen weights, by peft.

    Parameters
    ----------
    r, alpha, dropout
        Rank, scale (alpha / r multiplies the update) and dropout of an update's input.
    targets
        Ends of the names of the linear layers that get one; empty: all of them.
    """

    r: int = 64
    alpha: int = 32
    dropout: float = 0.1
    targets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", tuple(self.targets))  # JSON gives a list
        if self.r < 1 or self.alpha < 1:
            raise ConfigError(f"lora has r {self.r} and alpha {self.alpha}: use at least 1")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"lora.dropout is {self.dropout}: use 0 to below 1")


@dataclass(frozen=True, kw_only=True)
class _Transformer:
    """What an encoder and a backbone have in common.

    Parameters
    ----------
    width, layers, heads, feedforward, vocabulary
        Sizes of a fresh one; `vocabulary` is a ceiling until training sets the true size. Where `pretrained` is
        named, training reads them from there.
    pretrained
        A hub id, or a folder as `save_pretrained` writes it, whose weights and tokenizer training begins with.
    lora
        Freeze the weights and train updates of a low rank.
    architecture
        transformers' configuration of the pretrained one. Training fills it in, so that a checkpoint and a release
        need nothing but themselves.
    """

    width: int
    layers: int
    heads: int
    feedforward: int
    vocabulary: int
    pretrained: str | None = None
    lora: Lora | None = None
    architecture: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.lora, Mapping):  # JSON gives one
            object.__setattr__(self, "lora", Lora(**self.lora))
        if self.lora is not None and self.pretrained is None:
            raise ConfigError(
                "lora without a pretrained model would freeze random weights: name one under pretrained, "
                "or write lora: null"
            )
        for name, size in self._sizes().items():
            if size < 1:
                raise ConfigError(f"{name} is {size}: use at least 1")
        if self.width % self.heads:
            raise ConfigError(f"width {self.width} does not divide by {self.heads} heads: change one of them")

    def _sizes(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in ("width", "layers", "heads", "feedforward", "vocabulary")}


@dataclass(frozen=True, kw_only=True)
class EncoderConfig(_Transformer):
    """A BERT-class event-text encoder; a fresh one is a BERT.

    Parameters
    ----------
    pooling
        An event's vector: the hidden state of its first token (`cls`), or the mean over all its tokens (`mean`).
    """

    pooling: Pooling = "cls"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pooling not in ("cls", "mean"):
            raise ConfigError(f"pooling is {self.pooling!r}: use 'cls' or 'mean'")


@dataclass(frozen=True, kw_only=True)
class BackboneConfig(_Transformer):
    """A causal language model; a fresh one is a Qwen2.

    Parameters
    ----------
    kv_heads
        Heads of keys and values.
    new_tokens
        Rows of the token table that the pretrained model did not have, filled in by training: under `lora` they alone
        of the table learn.
    """

    kv_heads: int
    new_tokens: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "new_tokens", tuple(self.new_tokens))
        if self.heads % self.kv_heads:
            raise ConfigError(f"heads {self.heads} do not divide by {self.kv_heads} kv_heads: change one of them")

    def _sizes(self) -> dict[str, int]:
        return super()._sizes() | {"kv_heads": self.kv_heads}


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
    # The paper's models; rank, scale and targets are the follow-up's.
    "paper": Preset(
        encoder=EncoderConfig(
            pretrained="thenlper/gte-base",
            lora=Lora(targets=("query", "key", "value", "dense")),
            width=768,
            layers=12,
            heads=12,
            feedforward=3072,
            vocabulary=30522,
        ),
        backbone=BackboneConfig(
            pretrained="Qwen/Qwen2.5-0.5B-Instruct",
            lora=Lora(targets=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")),
            width=896,
            layers=24,
            heads=14,
            kv_heads=2,
            feedforward=4864,
            vocabulary=151936,
        ),
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
    readout
        The embedding: the final hidden state at `<USER>` (`user`), or the mean of those of all user and instruction
        tokens (`mean`, an ablation of the paper's).
    head
        Numbers of an embedding, by a Linear without bias behind the readout; None: the readout itself, as wide as the
        backbone. The follow-up's code has 128.
    reading
        Events as the encoders' vectors, or, an ablation of the paper's, as plain text: `tokens` takes one source of
        one text, the whole profile (`model.data.rendering`), whose tokens the backbone reads itself.

    Raises
    ------
    ConfigError
        When there is nothing to read, a name is taken twice or reserved, or switches do not go together.
    """

    sources: tuple[EventSource, ...]
    encoder: EncoderConfig
    backbone: BackboneConfig
    tabular: Tabular = field(default_factory=Tabular)
    shared_encoder: bool = False
    adapter: Adapter = "mlp"
    pooled_tokens: bool = True
    time_bands: bool = True
    readout: Readout = "user"
    head: int | None = None
    reading: Reading = "vectors"

    def __post_init__(self) -> None:
        if not self.sources and not self.has_tabular:
            raise ConfigError("the network has neither an event source nor a tabular column: name at least one")
        for name, times in Counter(source.name for source in self.sources).items():
            if times > 1:
                raise ConfigError(f"the source {name!r} is named {times} times: rename all but one")
            if name in RESERVED_NAMES:
                raise ConfigError(f"the source name {name!r} is a column of user_profiles already: rename the source")
        for source in self.sources:
            if source.max_events < 1 or source.max_tokens < 2:
                raise ConfigError(
                    f"source {source.name!r} has max_events {source.max_events} and max_tokens "
                    f"{source.max_tokens}: use at least 1 event and 2 tokens"
                )
        if self.adapter not in ("mlp", "linear"):
            raise ConfigError(f"adapter is {self.adapter!r}: use 'mlp' or 'linear'")
        if self.readout not in ("user", "mean"):
            raise ConfigError(f"readout is {self.readout!r}: use 'user' or 'mean'")
        if self.head is not None and self.head < 1:
            raise ConfigError(f"head is {self.head}: use at least 1 number, or leave it out")
        if self.reading not in ("vectors", "tokens"):
            raise ConfigError(f"reading is {self.reading!r}: use 'vectors' or 'tokens'")
        if self.reading == "tokens" and (
            len(self.sources) != 1 or self.sources[0].max_events != 1 or self.pooled_tokens or self.time_bands
        ):
            raise ConfigError(
                "reading 'tokens' takes one source with max_events 1, no pooled_tokens and no "
                "time_bands: render the profiles as one text each"
            )

    @classmethod
    def from_preset(
        cls, preset: str, *, sources: tuple[EventSource, ...], tabular: Tabular | None = None, **switches: Any
    ) -> NetworkConfig:
        """Return a network of the preset's models; `switches` are the fields from `shared_encoder` on."""
        if preset not in PRESETS:
            raise ConfigError(f"there is no preset {preset!r}: use one of {', '.join(sorted(PRESETS))}")
        sizes = PRESETS[preset]
        return cls(
            sources=sources, tabular=tabular or Tabular(), encoder=sizes.encoder, backbone=sizes.backbone, **switches
        )

    @property
    def encoder_names(self) -> tuple[str, ...]:
        """The sources that have an encoder of their own, or `("shared",)`."""
        return ("shared",) if self.shared_encoder else tuple(source.name for source in self.sources)

    @property
    def embedding_width(self) -> int:
        """Numbers of an embedding."""
        return self.backbone.width if self.head is None else self.head

    @property
    def has_tabular(self) -> bool:
        """Whether the profile ends with a tabular token."""
        return bool(self.tabular.numbers or self.tabular.categories)

    @property
    def has_pooled(self) -> bool:
        """Whether the profile begins with pooled tokens."""
        return self.pooled_tokens and bool(self.sources)

    @property
    def fixed_tokens(self) -> int:
        """Tokens of every profile beside its events: the pooled and the tabular ones, and the boundaries."""
        pooled = len(self.sources) + 1 if self.has_pooled else 0
        return pooled + 2 * len(self.sources) + 3 * self.has_tabular

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
                        numbers=tuple(Number(name=n["name"], edges=tuple(n["edges"])) for n in tabular["numbers"]),
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
