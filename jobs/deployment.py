"""The deployment file: one YAML file names a company's tables, scenarios, model, Spark and store.

`Deployment.read(path)` gives a frozen, validated `Deployment`, or raises `DeploymentError` with every
mistake at once: the key, the value found and what to write instead. Relative paths in the file are
relative to the file, so that a job may be started from anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, fields
from datetime import date
from functools import cached_property
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal, Self, TypeVar
from urllib.parse import urlparse

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    WrapValidator,
    field_validator,
    model_validator,
)

from jobs.mistakes import mistake
from model.config import PRESETS, RESERVED_NAMES, Adapter, BackboneConfig, ConfigError, EncoderConfig, TrainingConfig
from model.errors import InstructUEError

UNIVERSAL = "universal"
JOBS_NAMES = frozenset({"attributes", "scenarios", "wanted"})
"""What jobs put beside the sources under a name of their own."""
TEMPLATE_FILTERS = ("text", "amount_band", "weekday", "hour", "daypart", "month")

NAME = r"^[a-z][a-z0-9_]{0,40}$"
Name = Annotated[str, StringConstraints(pattern=NAME)]
Days = Annotated[int, Field(ge=1, le=3650)]


def _mapped(column: Any) -> Any:
    """A plain name stands for the column of that name."""
    if not isinstance(column, str):
        return column
    if not re.fullmatch(NAME, column):
        raise ValueError("a profile's column has lower-case letters, digits and _, starting with a letter; write "
                         f"{{name: <such a name>, column: {column}}}")
    return {"name": column, "column": column}


def _checked(value: Any, validated: Callable[[Any], Any]) -> Any:
    try:
        return validated(value)
    except ConfigError as error:
        raise ValueError(str(error)) from None


Setting = TypeVar("Setting")
Checked = Annotated[Setting, WrapValidator(_checked)]
"""A dataclass of `model.config`, whose own checks are told with the others."""


class DeploymentError(InstructUEError):
    """A deployment file that cannot be used; the message lists every mistake in it."""


class Part(BaseModel):
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


class EventSource(Part):
    """One table of events and how an event becomes a text."""

    name: Name
    table: str
    user: str = "user_id"
    time: str
    id: str | None = None
    """Column with the event's own id; rows that repeat an id are counted as repeated. None: no repeats."""
    template: str
    """`{column}` or `{column:filter}` in plain text, e.g. `paid {merchant} {amount:amount_band}`."""
    max_events: int = Field(default=64, ge=1, le=10_000)
    max_tokens: int = Field(default=24, ge=4, le=512)
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


class Aggregate(Part):
    """A number computed over a source's events before as_of: count, sum, mean, distinct or days_since_last."""

    name: Name
    source: Name
    function: Literal["count", "sum", "mean", "distinct", "days_since_last"]
    column: str | None = None
    window_days: Days = 365

    @model_validator(mode="after")
    def _column_fits(self) -> Self:
        if self.function in ("sum", "mean", "distinct") and self.column is None:
            raise ValueError(f"function {self.function} needs a column; add `column: <name>`")
        if self.function in ("count", "days_since_last") and self.column is not None:
            raise ValueError(f"function {self.function} takes no column; remove `column`")
        return self


class Column(Part):
    """A column of a profile, and the column of the company's table that it comes from."""

    name: Name
    column: str


Columns = tuple[Annotated[Column, BeforeValidator(_mapped)], ...]
"""Each `{name, column}`, or a plain name where the two are the same."""


class Attributes(Part):
    """The table of tabular attributes, one row per user, or several with a valid-from time."""

    table: str
    user: str = "user_id"
    valid_from: str | None = None
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


class Scenario(Part):
    """A use of the vectors: its name and its instruction, and the table of labels if there is one."""

    name: Name
    instruction: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]
    labels: str | None = None


class UserQA(Part):
    """Which questions, asked at which cut-offs."""

    questions: str
    as_of: tuple[date, ...] = Field(min_length=1)
    validation_share: float = Field(default=0.05, gt=0, lt=0.5)


class Eligible(Part):
    min_events: int = Field(default=1, ge=1)


class Network(Part):
    """The sizes and switches of a network, as `model.config.NetworkConfig` explains them."""

    encoder: Checked[EncoderConfig]
    backbone: Checked[BackboneConfig]
    shared_encoder: bool = False
    adapter: Adapter = "mlp"
    pooled_tokens: bool = True
    time_bands: bool = True


class Model(Part):
    preset: Literal["tiny"] = "tiny"
    network: Network = Field(default={}, validate_default=True)
    """In the file, what differs from the preset."""
    training: Checked[TrainingConfig] = TrainingConfig()
    precision: Literal["fp32"] = "fp32"
    providers: tuple[str, ...] = ("CPUExecutionProvider",)

    @field_validator("network", mode="before")
    @classmethod
    def _on_top_of_the_preset(cls, given: Any, info: ValidationInfo) -> Any:
        if not isinstance(given, dict) or "preset" not in info.data:
            return given
        sizes = {part: asdict(getattr(PRESETS[info.data["preset"]], part)) for part in ("encoder", "backbone")}
        return given | {part: size | given.get(part, {}) for part, size in sizes.items()
                        if isinstance(given.get(part, {}), dict)}


class Spark(Part):
    master: str | None = "local[2]"
    """None: whatever spark-submit says."""
    metastore: str | None = None
    """Folder or URI of a warehouse in which tables, views and functions of sql/ are kept; None: per session."""
    conf: dict[str, str] = {}


class Store(Part):
    """Feast's online store and registry."""

    project: Name = "instructue"
    online: dict[str, Any] = {"type": "sqlite"}
    registry: str | None = None
    """SQLAlchemy URL; None: a SQLite file in `folder`."""
    folder: str

    @field_validator("folder")
    @classmethod
    def _is_a_folder(cls, folder: str) -> str:
        location = urlparse(folder)
        if location.scheme not in ("", "file"):
            raise ValueError("Feast's files are read as files; name a folder of this machine, or a mounted one")
        return location.path if location.scheme else folder


class Retention(Part):
    """How many days back `instructue maintain` keeps what."""

    rows: int | None = Field(default=None, ge=30)
    """Days that a profile or vector can be asked for as of, and be made again; None: every day."""
    rejected: int = Field(default=90, ge=1)
    """Refused rows."""
    files: int = Field(default=7, ge=7)
    """Former versions of a table, which running jobs and readers still use."""


class Deployment(Part):
    name: Name
    lake: str
    releases: str
    sources: tuple[EventSource, ...] = Field(min_length=1)
    attributes: Attributes | None = None
    aggregates: tuple[Aggregate, ...] = ()
    scenarios: tuple[Scenario, ...] = ()
    userqa: UserQA
    eligible: Eligible = Eligible()
    max_reject_share: float = Field(default=0.05, ge=0, le=1)
    model: Model = Model()
    spark: Spark = Spark()
    store: Store
    retention: Retention = Retention()
    path: Path = Field(exclude=True)
    """The file this came from."""

    @classmethod
    def read(cls, path: str | Path) -> Deployment:
        """Read and validate a deployment file.

        Raises
        ------
        DeploymentError
            No such file, not YAML, or mistakes in it; all of them in one message.
        """
        path = Path(path).resolve()
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise DeploymentError(f"deployment file {path}: {error.strerror}; name one with --config") from None
        try:
            content = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise DeploymentError(f"deployment file {path} is not YAML: {error}") from None
        if not isinstance(content, dict):
            raise DeploymentError(f"deployment file {path} must be a mapping of keys, see conf/demo.yaml")
        deployment, mistakes = None, _name_mistakes(content)
        try:
            deployment = cls(**{**content, "path": path})
        except ValidationError as error:
            mistakes = [mistake(detail, KEYS) for detail in error.errors()] + mistakes
        if deployment is None or mistakes:
            lines = "\n".join(f"  {words}" for words in mistakes)
            raise DeploymentError(f"{path}: {len(mistakes)} mistake(s)\n{lines}")
        return deployment

    def resolve(self, location: str) -> str:
        """A location of the file as a URI or an absolute path (relative ones start at the file's folder)."""
        return location if urlparse(location).scheme else str((self.path.parent / location).resolve())

    def table(self, name: str) -> str:
        """Path or URI of a Delta table: `name` in the lake, unless it is itself a path or URI."""
        if urlparse(name).scheme or name.startswith(("/", "./", "../")):
            return self.resolve(name)
        return f"{self.resolve(self.lake).rstrip('/')}/{name}"

    @property
    def local(self) -> bool:
        """True where the lake is a folder of this machine."""
        return not urlparse(self.lake).scheme

    @property
    def scenario_names(self) -> tuple[str, ...]:
        """Every embedded scenario: `universal` first, then the file's."""
        return (UNIVERSAL, *(scenario.name for scenario in self.scenarios))

    @property
    def numbers(self) -> tuple[str, ...]:
        """Numeric tabular columns in order: the attributes', then the aggregates."""
        declared = self.attributes.numbers if self.attributes else ()
        return (*(column.name for column in declared), *(aggregate.name for aggregate in self.aggregates))

    @property
    def categories(self) -> tuple[str, ...]:
        return tuple(block.name for block in self.attributes.categories) if self.attributes else ()

    @property
    def source_tables(self) -> tuple[str, ...]:
        """The company's own tables that profiles are made of."""
        return (*(source.table for source in self.sources), *([self.attributes.table] if self.attributes else []))

    def source(self, name: str) -> EventSource:
        """The event source of that name."""
        return next(source for source in self.sources if source.name == name)

    def shaping(self) -> dict[str, Any]:
        """The parts that shape a vector whatever the instruction: hashed into `model_version`."""
        dump = self.model_dump(mode="json")
        sources = [{k: s[k] for k in ("name", "template", "max_events", "max_tokens", "window_days")}
                   for s in dump["sources"]]
        return {"sources": sources, "numbers": self.numbers, "categories": self.categories,
                "aggregates": dump["aggregates"], "precision": self.model.precision}


def _name_mistakes(content: dict[str, Any]) -> list[str]:
    """Mistakes between blocks: read off the raw file, so that they are told beside those inside a block."""
    sources, scenarios = _names(content.get("sources")), _names(content.get("scenarios"))
    attributes: dict[str, Any] = block if isinstance(block := content.get("attributes"), dict) else {}
    aggregates = [block for block in _list(content.get("aggregates")) if isinstance(block, dict)]
    columns = _names([*_list(attributes.get("numbers")), *_list(attributes.get("categories")), *aggregates])
    groups = {"sources": sources, "scenarios": [UNIVERSAL, *scenarios], "tabular columns": columns}
    mistakes = [f"{group}: {name!r} is named twice; rename one"
                for group, names in groups.items() for name in dict.fromkeys(names) if names.count(name) > 1]
    mistakes += [f"sources: {name!r} is a column of every profile; rename the source"
                 for name in sources if name in RESERVED_NAMES]
    mistakes += [f"sources: {name!r} is a name that the jobs give to something else; rename the source"
                 for name in sources if name in JOBS_NAMES]
    mistakes += [f"scenarios: {name!r} would name two columns of user_vectors; rename the scenario"
                 for name in scenarios if name in _taken([UNIVERSAL, *scenarios])]
    mistakes += [f"aggregates[{index}].source = {block.get('source')!r}: no such source; "
                 f"use one of {', '.join(map(str, sources))}"
                 for index, block in enumerate(aggregates) if "source" in block and block["source"] not in sources]
    return mistakes


def scenario_columns(scenario: str) -> tuple[str, str, str]:
    """A scenario's columns in `user_vectors`: vector, model version, as_of."""
    return scenario, f"{scenario}_model_version", f"{scenario}_as_of"


def _taken(scenarios: list[str]) -> set[str]:
    """Columns of `user_vectors` beside the vectors."""
    return {"user_id", "as_of", "day", *(column for name in scenarios for column in scenario_columns(name)[1:])}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _names(blocks: Any) -> list[str]:
    """The names of blocks, plain ones among them; what is no text is told by its own block."""
    names = [block.get("name") if isinstance(block, dict) else block for block in _list(blocks)]
    return [name for name in names if isinstance(name, str)]


KEYS = sorted({key for part in Part.__subclasses__() for key in part.model_fields}
              | {field.name for part in (EncoderConfig, BackboneConfig, TrainingConfig) for field in fields(part)})
