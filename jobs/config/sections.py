"""The blocks of a deployment file, and what may stand under their keys.

A block is frozen, and everything that is wrong within one is told by itself; what is wrong between two of them is told
by `jobs.config.deployment`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict
from datetime import date
from functools import cached_property
from string import Formatter
from typing import Annotated, Any, Literal, Self, TypeVar
from urllib.parse import urlparse

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    WrapValidator,
    field_validator,
    model_validator,
)

from model.data.config import Adapter, Readout
from model.data.presets import PRESETS
from model.data.transformer_config import BackboneConfig, EncoderConfig
from model.errors import ConfigError
from model.training.training_config import TrainingConfig

TEMPLATE_FILTERS = ("text", "amount_band", "weekday", "hour", "daypart", "month")
FIRST_DAY, LAST_DAY = date(1970, 1, 1), date(2099, 12, 31)
"""A day or an event's time before the first or after the last is a mistake, not a time."""


def _text(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty; write one, or remove the key where it may be left out")
    return text


def _location(location: str) -> str:
    urlparse(location)  # ValueError where its scheme or host cannot be told
    return location


TRUE_OR_FALSE = "write a number; YAML reads yes and on as true, no and off as false"


def _number(value: Any) -> Any:
    """To Python, true and false are 1 and 0."""
    if isinstance(value, bool):
        raise ValueError(TRUE_OR_FALSE)
    return value


def _written_day(value: Any) -> Any:
    """A number would count as seconds since 1970."""
    if isinstance(value, int | float):
        raise ValueError("write a day as 2025-01-31")
    return value


def _day(day: date) -> date:
    if not FIRST_DAY <= day <= LAST_DAY:
        raise ValueError(f"name a day from {FIRST_DAY} to {LAST_DAY}")
    return day


def require_items(items: tuple[Any, ...]) -> tuple[Any, ...]:
    """The items; ValueError where there is none."""
    # A minimal length would also be missed by items that are wrong themselves, and told beside them.
    if not items:
        raise ValueError("is empty; write at least one")
    return items


NAME = r"^[a-z][a-z0-9_]{0,40}$"
Name = Annotated[str, StringConstraints(pattern=NAME)]
Text = Annotated[str, AfterValidator(_text)]
Location = Annotated[Text, AfterValidator(_location)]
Integer = Annotated[int, BeforeValidator(_number)]
Share = Annotated[float, BeforeValidator(_number)]
Days = Annotated[Integer, Field(ge=1, le=3650)]
Day = Annotated[date, BeforeValidator(_written_day), AfterValidator(_day)]


def _mapped(column: Any) -> Any:
    """A plain name stands for the column of that name."""
    if not isinstance(column, str):
        return column
    if not re.fullmatch(NAME, column):
        raise ValueError(
            "a profile's column has lower-case letters, digits and _, starting with a letter; write "
            f"{{name: <such a name>, column: {column}}}"
        )
    return {"name": column, "column": column}


def _checked(value: Any, validated: Callable[[Any], Any]) -> Any:
    try:
        made = validated(value)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    for key, given in value.items() if isinstance(value, dict) else ():
        if isinstance(given, bool) and not isinstance(getattr(made, key), bool):
            raise ValueError(f"{key} is {given}: {TRUE_OR_FALSE}")
    return made


Setting = TypeVar("Setting")
Checked = Annotated[Setting, WrapValidator(_checked)]
"""A dataclass of `model.data.config`, whose own checks are told with the others."""


class Section(BaseModel):
    """A block of the deployment file: frozen, and unknown keys are mistakes."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=False)


def template_parts(template: str) -> tuple[tuple[str, str | None, str], ...]:
    """Split a template into (literal text, column or None, filter); ValueError where it does not parse."""
    parts = []
    for literal, column, kind, conversion in Formatter().parse(template):
        if conversion is not None:
            raise ValueError(f"conversion '!{conversion}'")
        if column == "":
            raise ValueError("an empty field {}")
        parts.append((literal, column, kind or "text"))
    return tuple(parts)


class EventSource(Section):
    """One table of events and how an event becomes a text."""

    name: Name
    table: Location
    user: Text = "user_id"
    time: Text
    id: Text | None = None
    """Column with the event's own id; rows that repeat an id are counted as repeated. None: no repeats."""
    template: str
    """`{column}` or `{column:filter}` in plain text, e.g. `paid {merchant} {amount:amount_band}`."""
    max_events: Integer = Field(default=64, ge=1, le=10_000)
    max_tokens: Integer = Field(default=24, ge=4, le=512)
    window_days: Days = 365

    @field_validator("template")
    @classmethod
    def _template_parses(cls, template: str) -> str:
        try:
            parts = template_parts(template)
        except ValueError as error:
            raise ValueError(f"template does not parse ({error}); write {{column}} or {{column:filter}}") from None
        fields = [(column, kind) for _, column, kind in parts if column is not None]
        if not fields:
            raise ValueError("template names no column; write at least one {column}")
        for column, kind in fields:
            if not re.fullmatch(r"[A-Za-z_]\w*", column):
                raise ValueError(f"template field {column!r} is not a column name; use letters, digits and _")
            if kind not in TEMPLATE_FILTERS:
                raise ValueError(f"template filter {kind!r} is unknown; use one of {', '.join(TEMPLATE_FILTERS)}")
        return template

    @cached_property
    def parts(self) -> tuple[tuple[str, str | None, str], ...]:
        """The template as (literal text, column or None, filter) in order."""
        return template_parts(self.template)

    @property
    def fields(self) -> tuple[tuple[str, str], ...]:
        return tuple((column, kind) for _, column, kind in self.parts if column is not None)


class Aggregate(Section):
    """A number computed over a source's events before as_of: count, sum, mean, distinct or days_since_last."""

    name: Name
    source: Name
    function: Literal["count", "sum", "mean", "distinct", "days_since_last"]
    column: Text | None = None
    window_days: Days = 365

    @model_validator(mode="after")
    def _column_fits(self) -> Self:
        if self.function in ("sum", "mean", "distinct") and self.column is None:
            raise ValueError(f"function {self.function} needs a column; add `column: <name>`")
        if self.function in ("count", "days_since_last") and self.column is not None:
            raise ValueError(f"function {self.function} takes no column; remove `column`")
        return self


class Column(Section):
    """A column of a profile, and the column of the company's table that it comes from."""

    name: Name
    column: Text


Columns = tuple[Annotated[Column, BeforeValidator(_mapped)], ...]
"""Each `{name, column}`, or a plain name where the two are the same."""


class Attributes(Section):
    """The table of tabular attributes, one row per user, or several with a valid-from time."""

    table: Location
    user: Text = "user_id"
    valid_from: Text | None = None
    static: bool = False
    """True: rows carry no time and hold for every as_of; each run says so."""
    numbers: Columns = ()
    categories: Columns = ()

    @model_validator(mode="after")
    def _time_declared(self) -> Self:
        if (self.valid_from is None) != self.static:
            raise ValueError("name the valid_from column, or declare `static: true` (one of the two)")
        if not self.numbers and not self.categories:
            raise ValueError("no column named; list `numbers` and/or `categories`, or remove the block")
        return self


class Scenario(Section):
    """A use of the vectors: its name and its instruction, and the table of labels if there is one."""

    name: Name
    instruction: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]
    labels: Location | None = None


class UserQA(Section):
    """Which questions, asked at which cut-offs."""

    questions: Location
    as_of: Annotated[tuple[Day, ...], AfterValidator(require_items)]
    validation_share: Share = Field(default=0.05, gt=0, lt=0.5)


class Eligible(Section):
    min_events: Integer = Field(default=1, ge=1)


def _not_trained(part: EncoderConfig | BackboneConfig) -> EncoderConfig | BackboneConfig:
    if part.architecture is not None or (isinstance(part, BackboneConfig) and part.new_tokens):
        raise ValueError("architecture and new_tokens are filled in by training; remove them")
    return part


class Network(Section):
    """The sizes and switches of a network, as `model.data.config.NetworkConfig` explains them."""

    encoder: Annotated[Checked[EncoderConfig], AfterValidator(_not_trained)]
    backbone: Annotated[Checked[BackboneConfig], AfterValidator(_not_trained)]
    shared_encoder: bool = False
    adapter: Adapter = "mlp"
    pooled_tokens: bool = True
    time_bands: bool = True
    readout: Readout = "user"
    head: Integer | None = Field(default=None, ge=1)


class Model(Section):
    preset: Literal["tiny", "paper"] = "tiny"
    network: Network = Field(default={}, validate_default=True)
    """In the file, what differs from the preset."""
    training: Checked[TrainingConfig] = TrainingConfig()
    precision: Literal["fp32"] = "fp32"
    providers: Annotated[tuple[Text, ...], AfterValidator(require_items)] = ("CPUExecutionProvider",)

    @field_validator("network", mode="before")
    @classmethod
    def _on_top_of_the_preset(cls, given: Any, info: ValidationInfo) -> Any:
        if not isinstance(given, dict):
            return given
        preset = PRESETS[info.data.get("preset", "tiny")]  # an unknown one is told by itself
        sizes = {part: asdict(getattr(preset, part)) for part in ("encoder", "backbone")}
        return given | {
            part: size | given.get(part, {}) for part, size in sizes.items() if isinstance(given.get(part, {}), dict)
        }


class Spark(Section):
    master: Text | None = "local[2]"
    """None: whatever spark-submit says."""
    metastore: Location | None = None
    """Folder or URI of a warehouse in which tables, views and functions of sql/ are kept; None: per session."""
    conf: dict[str, str] = {}


class Store(Section):
    """Feast's online store and registry."""

    project: Name = "instructue"
    online: dict[str, Any] = {"type": "sqlite"}
    registry: Text | None = None
    """SQLAlchemy URL; None: a SQLite file in `folder`."""
    folder: Location

    @field_validator("online")
    @classmethod
    def _has_a_type(cls, online: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(online.get("type"), str):
            raise ValueError("has no type; add one, such as `type: sqlite` or `type: redis`")
        return online

    @field_validator("folder")
    @classmethod
    def _is_a_folder(cls, folder: str) -> str:
        location = urlparse(folder)
        if location.scheme not in ("", "file"):
            raise ValueError("Feast's files are read as files; name a folder of this machine, or a mounted one")
        return location.path if location.scheme else folder


class Retention(Section):
    """How many days back `instructue maintain` keeps what."""

    rows: Integer | None = Field(default=None, ge=30)
    """Days that a profile or vector can be asked for as of, and be made again; None: every day."""
    rejected: Integer = Field(default=90, ge=1)
    """Refused rows."""
    files: Integer = Field(default=7, ge=7)
    """Former versions of a table, which running jobs and readers still use."""
