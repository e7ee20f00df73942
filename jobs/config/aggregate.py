"""The section `aggregates`: numbers and categories computed over a source's events before as_of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from jobs.config.fields import Days, Name, Section, Text
from jobs.config.functions import AGGREGATE_FUNCTIONS, AggregateFunction, ColumnKind

FIRST_KEYS = ("name", "source", "function", "column", "window_days")
"""The keys of the first releases, which `vector_spec` always holds; a later key is in it only where the file has it."""


class Aggregate(Section):
    """A number or category computed over a source's events before as_of by one of `AGGREGATE_FUNCTIONS`."""

    name: Name
    source: Name
    function: str
    column: Text | None = None
    window_days: Days = 365
    value: Text | None = None
    """An SQL expression over an event's columns, in place of `column`."""
    divisor: Text | None = None
    """An SQL expression: the divisor of `ratio`."""
    where: Text | None = None
    """An SQL condition that the events must fulfil."""
    change: bool = Field(default=False, strict=True)
    """Whether the value over the equal window before is subtracted."""
    per: Name | None = None
    """A category of the profile: the value is divided by its mean over the users of the same category."""

    @field_validator("function")
    @classmethod
    def _validate_function(cls, function: str) -> str:
        if function not in AGGREGATE_FUNCTIONS:
            raise ValueError(f"unknown function; use one of {', '.join(AGGREGATE_FUNCTIONS)}")
        return function

    @model_validator(mode="after")
    def _validate_keys(self) -> Self:
        if errors := "; ".join(self._errors()):
            raise ValueError(errors)
        return self

    def _errors(self) -> Iterator[str]:
        function, name = self.declared, self.function
        given = [key for key in ("column", "value") if getattr(self, key) is not None]
        if function.column is None and given:
            yield f"function {name} takes no {given[0]}; remove `{given[0]}`"
        if function.column is not None and not given:
            yield f"function {name} needs a column; add `column: <name>` or `value: <SQL expression>`"
        if function.column is not None and len(given) == 2:
            yield "`column` and `value` both say what to read; remove one"
        if function.needs_divisor and self.divisor is None:
            yield f"function {name} needs a divisor; add `divisor: <SQL expression>`"
        if self.divisor is not None and not function.needs_divisor:
            yield f"function {name} takes no divisor; remove `divisor`"
        if function.needs_where and self.where is None:
            yield f"function {name} needs a condition; add `where: <SQL condition>`"
        for key in ("change", "per"):
            if getattr(self, key) and not function.comparable:
                yield f"function {name} gives no number to compare; remove `{key}`"
        if self.change and self.per is not None:
            yield "`change` and `per` compare with different things; remove one, or write two aggregates"

    @property
    def declared(self) -> AggregateFunction:
        """The entry of its function."""
        return AGGREGATE_FUNCTIONS[self.function]

    @property
    def column_kind(self) -> ColumnKind | None:
        """The kind of values that its column must hold; None where the function reads no column."""
        return self.declared.column

    @property
    def longest_days(self) -> int:
        """The days before as_of whose events it reads."""
        return self.window_days * (2 if self.change else 1)

    def spec(self) -> dict[str, Any]:
        """Return the keys that shape its values, without those that have their defaults and are not `FIRST_KEYS`."""
        later = self.model_dump(mode="json", exclude_defaults=True, exclude={*FIRST_KEYS})
        return self.model_dump(mode="json", include={*FIRST_KEYS}) | later
