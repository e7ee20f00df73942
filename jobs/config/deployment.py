"""The deployment file: one YAML file names a company's tables, scenarios, model, Spark and store.

`Deployment.read(path)` gives a frozen, validated `Deployment`, or raises `DeploymentError` with every
mistake at once: the key, the value found and what to write instead. Relative paths in the file are
relative to the file, so that a job may be started from anywhere.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError

from feature_repo.columns import scenario_columns
from jobs.config import yaml_file
from jobs.config.fields import Location, Name, Section, Share, require_items
from jobs.config.location import is_path, scheme
from jobs.config.network import Model
from jobs.config.sections import Aggregate, Attributes, Eligible, EventSource, Retention, Scenario, Spark, Store, UserQA
from jobs.config.validation import format_error
from jobs.console.text import list_errors
from model.data.config import RESERVED_NAMES
from model.data.transformer_config import BackboneConfig, EncoderConfig
from model.errors import InstructUEError
from model.training.training_config import TrainingConfig

UNIVERSAL = "universal"
JOBS_NAMES = frozenset({"attributes", "scenarios", "wanted"})
"""What jobs put beside the sources under a name of their own."""


class DeploymentError(InstructUEError):
    """A deployment file that cannot be used; the message lists every mistake in it."""


class Deployment(Section):
    name: Name
    lake: Location
    releases: Location
    sources: Annotated[tuple[EventSource, ...], AfterValidator(require_items)]
    attributes: Attributes | None = None
    aggregates: tuple[Aggregate, ...] = ()
    scenarios: tuple[Scenario, ...] = ()
    userqa: UserQA
    eligible: Eligible = Eligible()
    max_reject_share: Share = Field(default=0.05, ge=0, le=1)
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
        content = yaml_file.read_yaml(path, "deployment file", "name one with --config", DeploymentError)
        if not isinstance(content, dict):
            raise DeploymentError(f"deployment file {path} must be a mapping of keys, see conf/demo.yaml")
        deployment, mistakes = None, _name_mistakes(content)
        try:
            deployment = cls.model_validate({**content, "path": path})
        except ValidationError as error:
            mistakes = [format_error(detail, KEYS) for detail in error.errors()] + mistakes
        if deployment is None or mistakes:
            raise DeploymentError(list_errors(path, [f"  {words}" for words in mistakes]))
        return deployment

    def resolve(self, location: str) -> str:
        """A location of the file as a URI or an absolute path (relative ones start at the file's folder)."""
        return location if scheme(location) else str((self.path.parent / location).resolve())

    def table(self, name: str) -> str:
        """Path or URI of a Delta table: `name` in the lake, unless it is itself a path or URI."""
        if is_path(name):
            return self.resolve(name)
        return f"{self.resolve(self.lake).rstrip('/')}/{name}"

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

    def vector_spec(self) -> dict[str, Any]:
        """The parts that shape a vector whatever the instruction: hashed into `model_version`."""
        dump = self.model_dump(mode="json")
        sources = [
            {k: s[k] for k in ("name", "template", "max_events", "max_tokens", "window_days")} for s in dump["sources"]
        ]
        return {
            "sources": sources,
            "numbers": self.numbers,
            "categories": self.categories,
            "aggregates": dump["aggregates"],
            "precision": self.model.precision,
        }


def _name_mistakes(content: dict[str, Any]) -> list[str]:
    """Mistakes between blocks: read off the raw file, so that they are told beside those inside a block."""
    sources, scenarios = _names(content.get("sources")), _names(content.get("scenarios"))
    attributes: dict[str, Any] = block if isinstance(block := content.get("attributes"), dict) else {}
    aggregates = [block for block in _list(content.get("aggregates")) if isinstance(block, dict)]
    columns = _names([*_list(attributes.get("numbers")), *_list(attributes.get("categories")), *aggregates])
    groups = {"sources": sources, "scenarios": [UNIVERSAL, *scenarios], "tabular columns": columns}
    mistakes = [
        f"{group}: {name!r} is named twice; rename one"
        for group, names in groups.items()
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    ]
    mistakes += ["path: unknown key; remove it"] if "path" in content else []
    mistakes += [
        f"sources: {name!r} is a column of every profile; rename the source"
        for name in sources
        if name in RESERVED_NAMES
    ]
    mistakes += [
        f"sources: {name!r} is a name that the jobs give to something else; rename the source"
        for name in sources
        if name in JOBS_NAMES
    ]
    mistakes += [
        f"scenarios: {name!r} would name two columns of user_vectors; rename the scenario"
        for name in scenarios
        if name in _taken([UNIVERSAL, *scenarios])
    ]
    mistakes += [
        f"aggregates[{index}].source = {block.get('source')!r}: no such source; "
        f"use one of {', '.join(map(str, sources))}"
        for index, block in enumerate(aggregates)
        if sources and "source" in block and block["source"] not in sources
    ]
    return mistakes


def _taken(scenarios: list[str]) -> set[str]:
    """Columns of `user_vectors` beside the vectors."""
    return {"user_id", "as_of", "day", *(column for name in scenarios for column in scenario_columns(name)[1:])}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _names(blocks: Any) -> list[str]:
    """The names of blocks, plain ones among them; what is no text is told by its own block."""
    names = [block.get("name") if isinstance(block, dict) else block for block in _list(blocks)]
    return [name for name in names if isinstance(name, str)]


KEYS = sorted(
    {key for block in Section.__subclasses__() for key in block.model_fields}
    | {field.name for part in (EncoderConfig, BackboneConfig, TrainingConfig) for field in fields(part)}
)
