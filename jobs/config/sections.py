"""The sections of a deployment file and the values that their keys take.

Each section validates itself; `jobs.config.deployment` validates what concerns several sections.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, field_validator, model_validator

from feature_repo import online_settings
from jobs.config.company_table import CompanyTable, LabelsTable
from jobs.config.fields import NAME, Day, Days, Integer, Location, Name, Section, Share, Text, require_items
from jobs.config.functions import FilterCall
from jobs.config.location import local_path, scheme
from jobs.config.spark_settings import require_free_settings
from jobs.config.template import require_column_name, template_parts

LABEL_COUNTS = ("0", "16", "64", "256", "all")
"""The numbers of labelled users at which `evaluate` measures, as in its tables."""


class EventSource(CompanyTable):
    """One table of events, and the template of an event's text."""

    name: Name
    user: Text = "user_id"
    time: Text
    id: Text | None = None
    """Column with the event's own id; a row that repeats an id counts as repeated. None: no row is a repeat."""
    template: str
    """Plain text with `{column}` or `{column:filter}`, as in `paid {merchant} {amount:amount_band}`."""
    max_events: Integer = Field(default=64, ge=1, le=10_000)
    max_tokens: Integer = Field(default=24, ge=4, le=512)
    window_days: Days = 365

    @field_validator("template")
    @classmethod
    def _validate_template(cls, template: str) -> str:
        try:
            parts = template_parts(template)
        except ValueError as error:
            raise ValueError(f"template does not parse ({error}); write {{column}} or {{column:filter}}") from None
        fields = [(column, name) for _, column, name in parts if column is not None]
        if not fields:
            raise ValueError("template names no column; write at least one {column}")
        for column, name in fields:
            require_column_name(column)
            FilterCall.parse(name)
        return template

    @cached_property
    def parts(self) -> tuple[tuple[str, str | None, FilterCall], ...]:
        """The template as (literal text, column or None, filter) in order."""
        return tuple((text, column, FilterCall.parse(name)) for text, column, name in template_parts(self.template))

    @property
    def fields(self) -> tuple[tuple[str, FilterCall], ...]:
        """The columns of the template in order, each with its filter."""
        return tuple((column, call) for _, column, call in self.parts if column is not None)


def _expand_column(column: Any) -> Any:
    """Return the mapping of a plain name, which names both the profile's column and the table's."""
    if not isinstance(column, str):
        return column
    if not re.fullmatch(NAME, column):
        raise ValueError(
            "a profile's column has lower-case letters, digits and _, starting with a letter; write "
            f"{{name: <such a name>, column: {column}}}"
        )
    return {"name": column, "column": column}


class Column(Section):
    """A column of a profile, and the column of the source table that it comes from."""

    name: Name
    column: Text
    known_from: Day | None = None
    """The day on which the value became known: it is null in profiles as of that day or an earlier one."""


Columns = tuple[Annotated[Column, BeforeValidator(_expand_column)], ...]
"""Each `{name, column}`, or a plain name where both are equal."""


class Attributes(CompanyTable):
    """The table of tabular attributes: one row per user, or several with a valid-from time."""

    user: Text = "user_id"
    valid_from: Text | None = None
    static: bool = False
    """True: rows carry no time and hold for every as_of; each run records this."""
    numbers: Columns = ()
    categories: Columns = ()

    @model_validator(mode="after")
    def _validate_time_and_columns(self) -> Self:
        if (self.valid_from is None) != self.static:
            raise ValueError("name the valid_from column, or declare `static: true` (one of the two)")
        if not self.numbers and not self.categories:
            raise ValueError("no column named; list `numbers` and/or `categories`, or remove the block")
        return self


class Scenario(Section):
    """A use of the vectors: its name, its instruction and, optionally, its table of labels."""

    name: Name
    instruction: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]
    labels: LabelsTable | None = None


class UserQA(Section):
    """The questions file, and the cut-offs of the training examples."""

    questions: Location
    as_of: Annotated[tuple[Day, ...], AfterValidator(require_items)]
    validation_share: Share = Field(default=0.05, gt=0, lt=0.5)


class Eligible(Section):
    """The section `eligible`: the users that get a vector."""

    min_events: Integer = Field(default=1, ge=0)
    """0: a user without an event gets a vector where they have a row of attributes."""


class Spark(Section):
    """The section `spark`: the session of the jobs."""

    master: Text | None = "local[2]"
    """None: the master that spark-submit sets."""
    metastore: Location | None = None
    """Folder or URI of a warehouse that keeps the tables, views and functions of sql/; None: per session."""
    conf: Annotated[dict[str, str], AfterValidator(require_free_settings)] = Field(default_factory=dict)


class Store(Section):
    """Feast's online store and registry."""

    project: Name = "instructue"
    online: dict[str, Any] = Field(default_factory=lambda: {"type": "sqlite"})
    registry: Text | None = None
    """SQLAlchemy URL; None: a SQLite file in `folder`."""
    folder: Location

    @field_validator("online")
    @classmethod
    def _validate_online(cls, online: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(online.get("type"), str):
            raise ValueError("has no type; add one, such as `type: sqlite` or `type: redis`")
        online_settings.validate(online)
        return online

    @field_validator("registry")
    @classmethod
    def _validate_registry(cls, registry: str | None) -> str | None:
        if registry and re.fullmatch(r"sqlite(\+\w+)?:/*(:memory:)?", registry):
            raise ValueError("is in the memory of one process; name a file, or remove the key")
        return registry

    @field_validator("folder")
    @classmethod
    def _validate_folder(cls, folder: str) -> str:
        path = local_path(folder)
        if path is None:
            raise ValueError("Feast's files are read as files; name a folder of this machine, or a mounted one")
        return str(path) if scheme(folder) else folder


class Promote(Section):
    """The section `promote`: the quality below which a release is not promoted."""

    least_auc: dict[str, Share] = Field(default_factory=dict)
    """By the number of labels, a key of `LABEL_COUNTS`, the least mean AUC over the scenarios."""

    @field_validator("least_auc", mode="before")
    @classmethod
    def _validate_least_auc(cls, least: Any) -> Any:
        if not isinstance(least, dict):
            return least
        named = {str(labels): value for labels, value in least.items()}
        if unknown := [labels for labels in named if labels not in LABEL_COUNTS]:
            raise ValueError(f"has no figure for {', '.join(unknown)} labels; use some of {', '.join(LABEL_COUNTS)}")
        return named


class Retention(Section):
    """For how many days `instructue maintain` keeps rows and files."""

    rows: Integer | None = Field(default=None, ge=30)
    """Days of profiles and vectors, which also bounds the days that can be recomputed; None: every day."""
    rejected: Integer = Field(default=90, ge=1)
    """Days of rejected rows."""
    files: Integer = Field(default=7, ge=7)
    """Days of former table versions, which running jobs and readers still use."""
