"""The deployment file: one YAML file names a company's tables, scenarios, model, Spark and store.

`Deployment.read(path)` returns a frozen, validated `Deployment`, or raises `DeploymentError` with all errors at once:
the key, its value and what to write instead. Relative paths in the file are relative to the file, so that a job may be
started from any folder.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError

from feature_repo.columns import scenario_columns
from jobs.config import yaml_file
from jobs.config.aggregate import Aggregate
from jobs.config.company_table import CompanyTable
from jobs.config.fields import Location, Name, Section, Share, require_items
from jobs.config.functions import AGGREGATE_FUNCTIONS
from jobs.config.location import is_catalog_name, is_path, quote_catalog_name, scheme
from jobs.config.network import Model
from jobs.config.path_characters import path_errors
from jobs.config.sections import Attributes, Eligible, EventSource, Promote, Retention, Scenario, Spark, Store, UserQA
from jobs.config.validation import format_error
from jobs.console.text import list_errors
from model.data.config import RESERVED_NAMES
from model.data.transformer_config import BackboneConfig, EncoderConfig
from model.errors import InstructUEError
from model.training.training_config import TrainingConfig

UNIVERSAL = "universal"
JOBS_NAMES = frozenset({"attributes", "scenarios", "to_embed"})
"""Names that the jobs use beside those of the sources."""


class DeploymentError(InstructUEError):
    """A deployment file that cannot be used; the message lists all errors in it."""


class Deployment(Section):
    """A deployment file, validated; docs/deployment.md describes its keys."""

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
    promote: Promote = Promote()
    retention: Retention = Retention()
    path: Path = Field(exclude=True)
    """The file that it was read from."""

    @classmethod
    def read(cls, path: str | Path) -> Deployment:
        """Read and validate a deployment file.

        Raises
        ------
        DeploymentError
            No such file, not YAML, or errors in it; all of them in one message.
        """
        path = Path(path).resolve()
        content = yaml_file.read_yaml(path, "deployment file", "name one with --config", DeploymentError)
        if not isinstance(content, dict):
            raise DeploymentError(f"deployment file {path} must be a mapping of keys, see conf/demo.yaml")
        deployment, errors = None, _name_errors(content)
        try:
            deployment = cls.model_validate({**content, "path": path})
        except ValidationError as error:
            errors = [format_error(detail, KEYS) for detail in error.errors()] + errors
        errors += [*_table_errors(deployment), *path_errors(deployment)] if deployment else []
        if deployment is None or errors:
            raise DeploymentError(list_errors(path, [f"  {line}" for line in errors]))
        return deployment

    def resolve(self, location: str) -> str:
        """Return a location of the file as a URI or an absolute path; a relative one starts at the file's folder."""
        return location if scheme(location) else str((self.path.parent / location).resolve())

    def table(self, name: str) -> str:
        """Return the path or URI of a table: `name` in the lake, unless it is itself a path or URI.

        A name of Spark's catalogs is returned with each part between backticks.
        """
        if is_catalog_name(name):
            return quote_catalog_name(name)
        if is_path(name):
            return self.resolve(name)
        return f"{self.resolve(self.lake).rstrip('/')}/{name}"

    def is_delta_path(self, name: str) -> bool:
        """Return whether a table is a Delta table at a path: neither files of a declared format nor of a catalog."""
        declared = self.company_table(name)
        return not is_catalog_name(name) and (declared is None or declared.format == "delta")

    @property
    def scenario_names(self) -> tuple[str, ...]:
        """All embedded scenarios: `universal`, then those of the file."""
        return (UNIVERSAL, *(scenario.name for scenario in self.scenarios))

    @property
    def numbers(self) -> tuple[str, ...]:
        """The numeric tabular columns: those of the attributes, then the aggregates."""
        declared = self.attributes.numbers if self.attributes else ()
        computed = (aggregate.name for aggregate in self.aggregates if not aggregate.declared.category)
        return (*(column.name for column in declared), *computed)

    @property
    def categories(self) -> tuple[str, ...]:
        """The tabular columns of categories: those of the attributes, then the aggregates."""
        declared = self.attributes.categories if self.attributes else ()
        computed = (aggregate.name for aggregate in self.aggregates if aggregate.declared.category)
        return (*(column.name for column in declared), *computed)

    @property
    def source_tables(self) -> tuple[str, ...]:
        """The company's own tables that profiles are built from."""
        return (*(source.table for source in self.sources), *([self.attributes.table] if self.attributes else []))

    @property
    def company_tables(self) -> tuple[tuple[str, CompanyTable], ...]:
        """Every table of the company with the key that names it: sources, attributes, labels."""
        return (
            *((f"sources.{source.name}", source) for source in self.sources),
            *([("attributes", self.attributes)] if self.attributes else []),
            *((f"scenarios.{s.name}.labels", s.labels) for s in self.scenarios if s.labels),
        )

    def company_table(self, name: str) -> CompanyTable | None:
        """Return the first section of the file that names a table; None where none does."""
        return next((table for _, table in self.company_tables if table.table == name), None)

    def source(self, name: str) -> EventSource:
        """Return the event source of that name."""
        return next(source for source in self.sources if source.name == name)

    def vector_spec(self) -> dict[str, Any]:
        """Return the settings that affect a vector whatever the instruction; `model_version` hashes them."""
        dump = self.model_dump(mode="json")
        sources = [
            {k: s[k] for k in ("name", "template", "max_events", "max_tokens", "window_days")} for s in dump["sources"]
        ]
        # A declared zone changes the hours and weekdays in texts. Without one the spec is that of earlier releases.
        for source, section in zip(sources, self.sources, strict=True):
            source |= {"timezone": section.timezone} if section.timezone else {}
        return {
            "sources": sources,
            "numbers": self.numbers,
            "categories": self.categories,
            "aggregates": [aggregate.spec() for aggregate in self.aggregates],
            "precision": self.model.precision,
        }


def _name_errors(content: dict[str, Any]) -> list[str]:
    """Return the errors between sections, read from the raw file so that they join those inside the sections."""
    sources, scenarios = _names(content.get("sources")), _names(content.get("scenarios"))
    attributes: dict[str, Any] = section if isinstance(section := content.get("attributes"), dict) else {}
    aggregates = [section for section in _list(content.get("aggregates")) if isinstance(section, dict)]
    columns = _names([*_list(attributes.get("numbers")), *_list(attributes.get("categories")), *aggregates])
    groups = {"sources": sources, "scenarios": [UNIVERSAL, *scenarios], "tabular columns": columns}
    errors = [
        f"{group}: {name!r} is named twice; rename one"
        for group, names in groups.items()
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    ]
    errors += ["path: unknown key; remove it"] if "path" in content else []
    errors += [
        f"sources: {name!r} is a column of every profile; rename the source"
        for name in sources
        if name in RESERVED_NAMES
    ]
    errors += [
        f"sources: {name!r} is a name that the jobs give to something else; rename the source"
        for name in sources
        if name in JOBS_NAMES
    ]
    errors += [
        f"scenarios: {name!r} would name two columns of user_vectors; rename the scenario"
        for name in scenarios
        if name in _other_columns([UNIVERSAL, *scenarios])
    ]
    errors += [
        f"aggregates[{index}].source = {section.get('source')!r}: no such source; "
        f"use one of {', '.join(map(str, sources))}"
        for index, section in enumerate(aggregates)
        if sources and "source" in section and section["source"] not in sources
    ]
    eligible = content.get("eligible")
    if not attributes and isinstance(eligible, dict) and eligible.get("min_events") == 0:
        errors.append(
            "eligible.min_events = 0: a user without events has attributes alone; add `attributes`, or write 1"
        )
    categories = _names([*_list(attributes.get("categories")), *filter(_is_category, aggregates)])
    errors += [
        f"aggregates[{index}].per = {section['per']!r}: no category of the profile; "
        f"use one of {', '.join(categories) or 'those that you add under attributes.categories'}"
        for index, section in enumerate(aggregates)
        if isinstance(section.get("per"), str) and section["per"] not in categories
    ]
    return errors


def _table_errors(deployment: Deployment) -> list[str]:
    """Return the errors of sections that read one table in different ways."""
    errors: list[str] = []
    first: dict[str, tuple[str, tuple[object, ...]]] = {}
    for key, table in deployment.company_tables:
        other, way = first.setdefault(table.table, (key, table.reading))
        if way != table.reading:
            errors.append(
                f"{key}: reads {table.table} in another way than {other}; declare format, schema, options and, for "
                "CSV, timezone alike in both"
            )
    return errors


def _is_category(section: dict[str, Any]) -> bool:
    """Return whether a section of an aggregate gives a category; an unknown function is an error of the section."""
    function = AGGREGATE_FUNCTIONS.get(str(section.get("function")))
    return function is not None and function.category


def _other_columns(scenarios: list[str]) -> set[str]:
    """Return the columns of `user_vectors` beside the vectors."""
    return {"user_id", "as_of", "day", *(column for name in scenarios for column in scenario_columns(name)[1:])}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _names(sections: Any) -> list[str]:
    """Return the names of sections or plain names; a name that is no text is an error of its own section."""
    names = [section.get("name") if isinstance(section, dict) else section for section in _list(sections)]
    return [name for name in names if isinstance(name, str)]


def _sections(section: type[Section]) -> list[type[Section]]:
    return [kind for sub in section.__subclasses__() for kind in (sub, *_sections(sub))]


KEYS = sorted(
    {field.alias or key for section in _sections(Section) for key, field in section.model_fields.items()}
    | {field.name for part in (EncoderConfig, BackboneConfig, TrainingConfig) for field in fields(part)}
)
