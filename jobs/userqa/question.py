"""One question of a questions file, and the form of its answer; `jobs.userqa.questions` documents the file."""

from __future__ import annotations

from collections.abc import Iterator
from string import Formatter
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from jobs.config.fields import Day, Integer, require_items
from jobs.console.text import sql_text
from jobs.userqa.measures import MEASURES, Measure

TABULAR = "tabular"
"""The `source` of a question about a tabular column."""
ANY = "any"
"""The `source` of a question about the events of every source."""
FIELDS = {"band", "times", "days", "level", "top"}
"""Fields of an answer's text."""
FORMS = ("bands", "levels", "yes_from", "yes_share")
"""Keys of an answer of which one says how a number becomes words."""
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,60}$")]
Edge = Annotated[float, Field(allow_inf_nan=False)]


def _as_list(given: Any) -> Any:
    if isinstance(given, str):
        return (given,)
    if not isinstance(given, list | tuple):
        raise ValueError("write a text, or a list of texts")
    return given


class Part(BaseModel):
    """A part of the questions file; it is frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Answer(Part):
    """The form of an answer: how a measured value becomes a sentence."""

    text: Text
    none: Text | None = None
    bands: tuple[Edge, ...] = ()
    levels: Annotated[Integer, Field(ge=2, le=7)] | None = None
    yes_from: Edge | None = None
    """`text` is the answer from this value on, and `none` below it."""
    yes_share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """`text` is the answer for values above the training users' quantile of 1 - `yes_share`, `none` for others."""

    @property
    def numeric(self) -> bool:
        """Whether the answer turns a number into words."""
        return bool(self._forms)

    @property
    def of_all_users(self) -> bool:
        """Whether it depends on the values of all users of the training split."""
        return self.levels is not None or self.yes_share is not None

    @property
    def _forms(self) -> list[str]:
        return [form for form in FORMS if getattr(self, form) not in (None, ())]

    @model_validator(mode="after")
    def _validate(self) -> Self:
        if len(self._forms) > 1:
            raise ValueError(f"give one of {', '.join(FORMS)}")
        if list(self.bands) != sorted(set(self.bands)):
            raise ValueError("bands must grow from each to the next")
        if {"yes_from", "yes_share"} & {*self._forms} and self.none is None:
            raise ValueError(f"{self._forms[0]} needs `none`, the answer for no")
        fields = [part[1:] for part in Formatter().parse(self.text) if part[1] is not None]
        unknown = {str(name) for name, _, _ in fields} - FIELDS
        if unknown:
            raise ValueError(f"text has unknown fields {sorted(unknown)}; use {', '.join(sorted(FIELDS))}")
        if any(form or conversion for _, form, conversion in fields):
            raise ValueError("text has a field with a format or a conversion; write its name alone, as in {times}")
        if {"yes_from", "yes_share"} & {*self._forms} and fields:
            raise ValueError(f"{self._forms[0]} fills no field of text; write plain text, the answer for yes")
        if self.none and any(part[1] is not None for part in Formatter().parse(self.none)):
            raise ValueError("none has a field, and where there is nothing it cannot be filled; write plain text")
        return self


class Question(Part):
    """A question of the file, validated."""

    name: Name
    axis: Literal["attribute", "diagnostic", "future"]
    phrasings: Annotated[tuple[Text, ...], BeforeValidator(_as_list), AfterValidator(require_items)] = Field(
        alias="instruction"
    )
    source: Annotated[tuple[Name, ...], BeforeValidator(_as_list), AfterValidator(require_items)]
    """Event sources, `any` for all of them, or `tabular`."""
    measure: str
    """Name of one of `MEASURES`."""
    value: str | None = None
    where: str | None = None
    days: Annotated[Integer, Field(ge=1, le=3650)] | None = None
    top: Annotated[Integer, Field(ge=1, le=5)] = 1
    """Number of the commonest values in the answer."""
    last_as_of: Day | None = None
    """The last cut-off with this question (2025-10-01); for a future window that is too long for later ones."""
    answer: Answer

    @property
    def future(self) -> bool:
        """Whether its window follows the cut-off."""
        return self.axis == "future"

    @property
    def span(self) -> int:
        """Days of its window; 0 for a tabular column."""
        return self.days or 0

    @property
    def tabular(self) -> bool:
        """Whether it is about a tabular column."""
        return TABULAR in self.source

    def reads(self, source: str) -> bool:
        """Return whether it is about the events of a source."""
        return not self.tabular and (source in self.source or ANY in self.source)

    @property
    def kind(self) -> Measure:
        """The entry of its measure."""
        return MEASURES[self.measure]

    @field_validator("measure")
    @classmethod
    def _validate_measure(cls, measure: str) -> str:
        if measure not in MEASURES:
            raise ValueError(f"unknown measure; use one of {', '.join(MEASURES)}")
        return measure

    @model_validator(mode="after")
    def _validate(self) -> Self:
        if errors := "; ".join(self._errors()):
            raise ValueError(errors)
        return self

    def _errors(self) -> Iterator[str]:
        measure, tabular = self.kind, self.tabular
        if len(self.source) > 1 and {ANY, TABULAR} & {*self.source}:
            yield f"source names {ANY} or {TABULAR} beside others; write it alone"
        if tabular != measure.tabular:
            # What else the question needs depends on which of the two is meant.
            yield "measure `value` goes with `source: tabular`, and no other measure does"
            return
        if tabular and (self.where or self.days or self.future):
            yield "a tabular question has no where, no days and no future"
        if not tabular and self.days is None:
            yield "add `days`, the length of its window"
        if (measure.value is not None) != (self.value is not None):
            yield f"measure {self.measure} {'needs a `value`' if self.value is None else 'takes no `value`'}"
        if measure.needs_where and not self.where:
            yield f"measure {self.measure} needs a `where`"
        if measure.future is not None and measure.future != self.future:
            yield "recency looks back and days_until ahead; change the axis or the measure"
        if measure.answer == "text" and self.answer.numeric:
            yield f"measure {self.measure} has no {', '.join(FORMS)}"
        if measure.answer == "number" and not self.answer.numeric:
            yield f"say how numbers become words: add one of {', '.join(FORMS)} to `answer`"


class Theme(Part):
    """A theme, for which `each` repeats a question."""

    words: Annotated[tuple[Text, ...], BeforeValidator(_as_list), AfterValidator(require_items)]
    """Its names: an instruction is written with each of them, and an answer with the first."""
    where: str


class Interest(Part):
    """A topic of events."""

    pattern: str
    words: Annotated[tuple[Text, ...], BeforeValidator(_as_list)] = ()
    """Its names, where the key is not its only one."""

    @model_validator(mode="before")
    @classmethod
    def _from_pattern(cls, given: Any) -> Any:
        if isinstance(given, str):
            return {"pattern": given}
        if not isinstance(given, dict):
            raise ValueError("write a pattern, such as gems|skin, or a mapping of pattern and words")
        return given

    @field_validator("pattern")
    @classmethod
    def _validate_pattern(cls, pattern: str) -> str:
        if not pattern.strip():
            raise ValueError("is blank; write a pattern, such as gems|skin")
        return pattern

    def theme(self, name: str) -> Theme:
        """Return the theme of the events of this topic."""
        return Theme(words=self.words or (name,), where=f"interest = {sql_text(name)}")
