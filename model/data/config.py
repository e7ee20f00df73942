"""The configuration of a network, as frozen data that JSON can hold.

A caller gives the sources, the tabular columns and a preset. Training completes the rest (the vocabularies' true sizes,
the statistics of the tabular columns) and writes the result beside the weights as `config.json`.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from model.data.presets import PRESETS
from model.data.transformer_config import BackboneConfig, EncoderConfig
from model.errors import ConfigError

Adapter = Literal["mlp", "linear"]
Reading = Literal["vectors", "tokens"]
Readout = Literal["user", "mean"]
Focus = Literal["suffix", "universal"]
LATER_SWITCHES = ("focus", "instruction_encoder")
# The columns of `user_profiles` that are not event sources.
RESERVED_NAMES = frozenset({"user_id", "as_of", "ages", "tabular", "profile_hash", "day"})


@dataclass(frozen=True, kw_only=True)
class EventSource:
    """One source of events: a column of `user_profiles`, named in the deployment's order.

    Parameters
    ----------
    name
        The profile's column, and the boundary tokens `<name>` and `</name>`.
    max_events
        The most events of a user; the last ones are read.
    max_tokens
        The most tokens of an event's text, its `<cls>` included.
    """

    name: str
    max_events: int
    max_tokens: int


@dataclass(frozen=True, kw_only=True)
class Number:
    """A numeric tabular column and its increasing quantile edges over the training profiles; empty until fitted."""

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
        """Width P of a number's code: a missing mark, and the bins of the number with the most bins."""
        return 1 + max((len(number.edges) - 1 for number in self.numbers if number.edges), default=0)


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """The configuration of a network.

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
        `vectors`: events as the encoders' vectors. `tokens`, an ablation of the paper's: the whole profile as one text
        (`model.data.rendering`) in one source, whose tokens the backbone reads itself.
    focus
        Centre an embedding on the training users and stretch it along its instruction's own text embedding
        (`model.network.focus`): the embedding that is read at the instruction's `<USER>` (`suffix`), or the universal
        one (`universal`), which no instruction has to be read behind. None: off, as in the paper.
    instruction_encoder
        A pretrained sentence encoder that reads the instructions of a network with focus in place of the backbone
        (`model.data.known_texts`), so that an instruction may be about a subject that no question of the training
        names. None: the backbone reads them.

    Raises
    ------
    ConfigError
        When there is no input, a name is used twice or reserved, or switches do not go together.
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
    focus: Focus | None = None
    instruction_encoder: EncoderConfig | None = None

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
        if self.focus not in (None, "suffix", "universal"):
            raise ConfigError(f"focus is {self.focus!r}: use 'suffix' or 'universal', or leave it out")
        if self.instruction_encoder is not None and self.focus is None:
            raise ConfigError("instruction_encoder reads instructions for focus, which is off: set focus: universal")
        if self.instruction_encoder is not None and self.instruction_encoder.pretrained is None:
            raise ConfigError(
                "instruction_encoder names no pretrained model: name a folder or a hub id under its pretrained"
            )
        if self.instruction_encoder is not None and self.instruction_encoder.lora is not None:
            raise ConfigError("instruction_encoder is not trained, so it takes no lora: leave lora out")
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
        """Return the config as JSON text; without later switches that are off: earlier hashes lack them."""
        fields = {key: value for key, value in asdict(self).items() if key not in LATER_SWITCHES or value is not None}
        return json.dumps(fields, indent=2, ensure_ascii=False)

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
                    "instruction_encoder": _optional_encoder(fields.get("instruction_encoder")),
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


def _optional_encoder(fields: dict[str, Any] | None) -> EncoderConfig | None:
    return None if fields is None else EncoderConfig(**fields)
