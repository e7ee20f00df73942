r"""The questions file: what is asked about a user, as data.

    interests:                    # optional: what an event is about, by the first pattern found in its text
      games: gems|skin|loot box
      films: cinema|premiere
    themes:                       # optional: what `each` repeats a question over
      playing: {words: games or films, where: "interest in ('games', 'films')"}
    questions:
      - name: dining_next_month
        axis: future              # attribute, diagnostic (why) or future
        instruction: How often will the user pay for dining in the next 30 days?
        source: bill              # an event source, or `tabular` for a column of the profile
        measure: count            # see MEASURES
        where: category = 'dining'           # optional: SQL over the source's columns
        days: 30                  # the past days before the cut-off, or the future ones after it
        last_as_of: 2025-10-01    # optional: the last cut-off at which it is asked
        answer:
          bands: [1, 2, 4]        # or `levels: 5`, `yes_from: 1`; nothing for `top` and `value`
          text: The user paid for dining {times} in the next 30 days.
          none: The user did not pay for dining in the next 30 days.
    general:                      # descriptions without a question: answers of these, one after the other
      - [favourite_category, activity]

`value` is a column or SQL expression: what is summed, counted apart or, by `top`, ranked (`top: 3` tells three). An
SQL expression sees the source's columns, `weekday`, `daypart`, `month` and `hour` of the event's time, and its
`interest`, null where no pattern is found: a pattern is a regular expression of Java's, whatever the case, found
anywhere in the text that the source's template makes of the event (`rug` is found in `drug`; write `\brug`). In
SQL's own texts a backslash is SQL's first: there the same is `rlike '\\brug'`. An instruction may be a list of
phrasings; each user gets one of them. `none` answers where there is nothing (no event, a count of 0); without it the
user is not asked. With `each: [playing, ...]` the question is asked per theme: `{theme}` in its name is the theme's
key, elsewhere its words, and the theme's `where` is added to the question's own.

An answer's text may hold `{band}` ('2 to 3', '7 or more'), `{times}` ('once', 'twice', '3 to 6 times'),
`{days}` ('1 day', '2 to 6 days'), `{level}` ('very low' to 'very high'; only with `levels`), and, for `top`
and `value`, `{top}`. `levels: n` cuts the users of the training split into n equal parts.
"""

from __future__ import annotations

from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from jobs.config import yaml_file
from jobs.config.sections import Day, Integer, require_items
from jobs.config.validation import suggest_fix
from jobs.console.text import list_errors
from model.errors import InstructUEError

TABULAR = "tabular"
Measure = Literal["count", "share", "sum", "mean", "distinct", "top", "recency", "days_until", "value"]
MEASURES: dict[str, str] = {
    "count": "events",
    "share": "percent of the source's events that fulfil `where`",
    "sum": "of `value`",
    "mean": "of `value`",
    "distinct": "number of different `value`s",
    "top": "the commonest `value`s",
    "recency": "whole days since the last event",
    "days_until": "whole days until the next event (future)",
    "value": "of a tabular column",
}
WHOLE = ("count", "distinct", "recency", "days_until")
"""Measures whose values are whole numbers."""
RESERVED = {"general", "user_id", "as_of", "split"}
"""Names that `userqa` gives to something else."""
KEYS = ("interests", "themes", "questions", "general")
FIELDS = {"band", "times", "days", "level", "top"}
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,60}$")]
Edge = Annotated[float, Field(allow_inf_nan=False)]


def _listed(given: Any) -> Any:
    return (given,) if isinstance(given, str) else given


class QuestionError(InstructUEError):
    """A questions file that cannot be used; the message lists every mistake in it."""


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Answer(Part):
    """How a measured value becomes a sentence."""

    text: Text
    none: Text | None = None
    bands: tuple[Edge, ...] = ()
    levels: Annotated[Integer, Field(ge=2, le=7)] | None = None
    yes_from: Edge | None = None
    """`text` is the answer from this value on, `none` below it."""

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if sum((bool(self.bands), self.levels is not None, self.yes_from is not None)) > 1:
            raise ValueError("give one of bands, levels and yes_from")
        if list(self.bands) != sorted(set(self.bands)):
            raise ValueError("bands must grow from each to the next")
        if self.yes_from is not None and self.none is None:
            raise ValueError("yes_from needs `none`, the answer for no")
        fields = [part[1:] for part in Formatter().parse(self.text) if part[1] is not None]
        unknown = {str(name) for name, _, _ in fields} - FIELDS
        if unknown:
            raise ValueError(f"text has unknown fields {sorted(unknown)}; use {', '.join(sorted(FIELDS))}")
        if any(form or conversion for _, form, conversion in fields):
            raise ValueError("text has a field with a format or a conversion; write its name alone, as in {times}")
        if self.none and any(part[1] is not None for part in Formatter().parse(self.none)):
            raise ValueError("none has a field, and where there is nothing it cannot be filled; write plain text")
        return self


class Question(Part):
    name: Name
    axis: Literal["attribute", "diagnostic", "future"]
    phrasings: Annotated[tuple[Text, ...], BeforeValidator(_listed), AfterValidator(require_items)] = Field(
        alias="instruction"
    )
    source: Name
    measure: Measure
    value: str | None = None
    where: str | None = None
    days: Annotated[Integer, Field(ge=1, le=3650)] | None = None
    top: Annotated[Integer, Field(ge=1, le=5)] = 1
    """How many of the commonest values are told."""
    last_as_of: Day | None = None
    """The last cut-off at which it is asked (2025-10-01); for a future window too long for the later ones."""
    answer: Answer

    @property
    def future(self) -> bool:
        return self.axis == "future"

    @property
    def span(self) -> int:
        """Days of its window; 0 for a tabular column."""
        return self.days or 0

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        mistakes = []
        tabular = self.source == TABULAR
        if tabular != (self.measure == "value"):
            mistakes.append("measure `value` goes with `source: tabular`, and no other measure does")
        if tabular and (self.where or self.days or self.future):
            mistakes.append("a tabular question has no where, no days and no future")
        if not tabular and self.days is None:
            mistakes.append("add `days`, the length of its window")
        if (self.measure in ("sum", "mean", "distinct", "top", "value")) != (self.value is not None):
            needs = "needs a `value`" if self.value is None else "takes no `value`"
            mistakes.append(f"measure {self.measure} {needs}")
        if self.measure == "share" and not self.where:
            mistakes.append("measure share needs a `where`")
        if (self.measure == "recency" and self.future) or (self.measure == "days_until" and not self.future):
            mistakes.append("recency looks back and days_until ahead; change the axis or the measure")
        plain = not (self.answer.bands or self.answer.levels or self.answer.yes_from is not None)
        if self.measure == "top" and not plain:
            mistakes.append("measure top has no bands, levels or yes_from")
        if self.measure not in ("top", "value") and plain:
            mistakes.append("say how numbers become words: add bands, levels or yes_from to `answer`")
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self


class Theme(Part):
    words: Text
    where: str


class Questions(Part):
    """A whole questions file, its themes written out."""

    questions: tuple[Question, ...] = Field(min_length=1)
    interests: dict[str, str] = Field(default_factory=dict)
    """Name and pattern of each, in the order in which an event's text is held against them."""
    general: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def read(cls, path: str | Path) -> Questions:
        """Read and validate a questions file.

        Raises
        ------
        QuestionError
            No such file, not YAML, or mistakes in it; all of them in one message.
        """
        path = Path(path)
        content = yaml_file.read_yaml(path, "questions file", "mend userqa.questions", QuestionError)
        if not isinstance(content, dict) or not isinstance(content.get("questions"), list):
            raise QuestionError(f"questions file {path} must hold a list `questions`; see conf/questions/demo.yaml")
        mistakes: list[str] = []
        interests = _interests(content, mistakes)
        raw = _each(content, mistakes)
        found = []
        for entry in raw:
            try:
                found.append(Question.model_validate(entry))
            except ValidationError as error:
                mistakes += _told(entry, error)
        general = content.get("general", [])
        mistakes += _between(found, general)
        mistakes += [f"  {key}: unknown key; use {', '.join(KEYS)}" for key in content if key not in KEYS]
        if mistakes:
            raise QuestionError(list_errors(path, mistakes))
        return cls(questions=tuple(found), interests=interests, general=tuple(tuple(names) for names in general))


def _interests(content: dict[str, Any], mistakes: list[str]) -> dict[str, str]:
    interests = content.get("interests", {})
    if not isinstance(interests, dict):
        mistakes.append("  interests: write a name and a pattern for each, such as `games: gems|skin`")
        return {}
    mistakes += [
        f"  interests.{name} = {pattern!r}: name and pattern must be texts; put them between quotes"
        for name, pattern in interests.items()
        if not all(isinstance(text, str) and text.strip() for text in (name, pattern))
    ]
    return interests


def _each(content: dict[str, Any], mistakes: list[str]) -> list[dict[str, Any]]:
    """The questions with `each` written out per theme."""
    themes = _themes(content, mistakes)
    written = []
    for entry in content["questions"]:
        if not isinstance(entry, dict) or "each" not in entry:
            written.append(entry)
            continue
        rest = {key: value for key, value in entry.items() if key != "each"}
        if not isinstance(entry["each"], list):
            mistakes.append(f"  {entry.get('name')}.each = {entry['each']!r}: write a list of themes")
            continue
        for key in entry["each"]:
            if not isinstance(key, str) or key not in themes:
                mistakes.append(f"  {entry.get('name')}.each: {key!r} is no theme; use one of {', '.join(themes)}")
                continue
            own, where = rest.get("where"), themes[key].where
            where = f"({where}) AND ({own})" if own else where
            written.append(
                {
                    **_filled(rest, themes[key].words),
                    "where": where,
                    "name": str(rest.get("name")).replace("{theme}", key),
                }
            )
    return written


def _themes(content: dict[str, Any], mistakes: list[str]) -> dict[str, Theme]:
    given = content.get("themes") or {}
    if not isinstance(given, dict):
        mistakes.append("  themes: write a name for each, with its words and its where")
        return {}
    themes: dict[str, Theme] = {}
    for name, theme in given.items():
        try:
            themes[name] = Theme.model_validate(theme)
        except ValidationError as error:
            mistakes += [f"  themes.{line.strip()}" for line in _told({"name": name}, error)]
    return themes


def _filled(value: Any, words: str) -> Any:
    if isinstance(value, str):
        return value.replace("{theme}", words)
    if isinstance(value, list):
        return [_filled(item, words) for item in value]
    return {k: _filled(v, words) for k, v in value.items()} if isinstance(value, dict) else value


def _between(found: list[Question], general: Any) -> list[str]:
    """Mistakes between the blocks: names used twice, descriptions of questions that are not there."""
    names = [question.name for question in found]
    mistakes = [f"  {name}: named twice; rename one" for name in sorted(set(names)) if names.count(name) > 1]
    mistakes += [f"  {name}: a reserved name; rename the question" for name in sorted(RESERVED & {*names})]
    if not isinstance(general, list) or not all(isinstance(entry, list) for entry in general):
        return [*mistakes, "  general: write a list of lists of question names"]
    past = [question.name for question in found if not question.future]
    mistakes += [
        f"  general: {name!r} is no question about the past; use one of {', '.join(past)}"
        for entry in general
        for name in entry
        if name not in past
    ]
    return mistakes


def _told(entry: Any, error: ValidationError) -> list[str]:
    name = entry.get("name", "(no name)") if isinstance(entry, dict) else repr(entry)[:60]
    return [
        f"  {'.'.join([str(name), *map(str, detail['loc'])])}: {suggest_fix(detail, FIELD_KEYS)}"
        for detail in error.errors()
    ]


FIELD_KEYS = sorted(
    {field.alias or key for part in (Question, Answer, Theme) for key, field in part.model_fields.items()}
)
