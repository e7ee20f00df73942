r"""The questions file: the questions about a user, and the form of their answers.

    interests:                    # optional: the topic of an event, by the first pattern that matches its text
      games: gems|skin|loot box
      films: {pattern: cinema|premiere, words: [films, the cinema]}   # optional: other names of it
    themes:                       # optional: `each` repeats a question for these
      playing: {words: games or films, where: "interest in ('games', 'films')"}
    questions:
      - name: dining_next_month
        axis: future              # attribute, diagnostic (why) or future
        instruction: How often will the user pay for dining in the next 30 days?
        source: bill              # an event source, a list of them, `any`, or `tabular` for a column of the profile
        measure: count            # see jobs.userqa.measures
        where: category = 'dining'           # optional: SQL over the source's columns
        days: 30                  # the past days before the cut-off, or the future ones after it
        last_as_of: 2025-10-01    # optional: the last cut-off with this question
        answer:
          bands: [1, 2, 4]        # or `levels: 5`, `yes_from: 1`, `yes_share: .4`; nothing for `top` and `value`
          text: The user paid for dining {times} in the next 30 days.
          none: The user did not pay for dining in the next 30 days.
    general:                      # descriptions without a question: the answers of these, joined
      - [favourite_category, activity]

`value` is a column or SQL expression: the number to sum, or the texts to count or rank (`top: 3` gives the three
commonest). An SQL expression may use the source's columns, `weekday`, `daypart`, `month` and `hour` of the event's
time, and its `interest`, which is null where no pattern matches. A pattern is a Java regular expression that ignores
case and matches anywhere in the text that the source's template makes of the event (`rug` matches in `drug`; write
`\brug`). In an SQL string a backslash is written twice: `rlike '\\brug'`. An instruction may be a list of phrasings;
each user gets one of them. `none` is the answer where there is no event or the count is 0; without it the user has no
such pair. With `yes_from` and `yes_share` it is the answer for no, and a user whose value is missing, such as a mean or
share of no event, has no such pair. `each: [playing, ...]` repeats the question per theme: `{theme}` in its name
becomes the theme's key and elsewhere its words, and the theme's `where` is added to the question's own. A theme may
have a list of words: each phrasing is written with every one of them, and an answer with the first. `each: interests`
repeats the question per interest.

An answer's text may hold `{band}` ('2 to 3', '7 or more'), `{times}` ('once', 'twice', '3 to 6 times'),
`{days}` ('1 day', '2 to 6 days'), `{level}` ('very low' to 'very high'; only with `levels`), and, for `top`
and `value`, `{top}`. `levels: n` divides the users of the training split into n equal parts. `yes_share: .4` answers
with `text` for at most two fifths of them, those with the highest values, and with `none` for the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from jobs.config import yaml_file
from jobs.config.validation import suggest_fix
from jobs.console.text import list_errors
from jobs.userqa.question import Answer, Interest, Part, Question, Theme
from model.errors import InstructUEError

RESERVED = {"general", "user_id", "as_of", "split"}
"""Columns and names of `userqa` that a question may not take."""
KEYS = ("interests", "themes", "questions", "general")
FIELD_KEYS = sorted(
    {field.alias or key for part in (Question, Answer, Theme, Interest) for key, field in part.model_fields.items()}
)


class QuestionError(InstructUEError):
    """A questions file that cannot be used; the message lists all errors in it."""


class Questions(Part):
    """A whole questions file, with the questions of `each` written out per theme."""

    questions: tuple[Question, ...] = Field(min_length=1)
    interests: dict[str, str] = Field(default_factory=dict)
    """Name and pattern of each, in the order in which they are matched with an event's text."""
    general: tuple[tuple[str, ...], ...] = ()

    @property
    def numeric(self) -> tuple[Question, ...]:
        """The questions whose value is a number."""
        return tuple(question for question in self.questions if question.answer.numeric)

    @property
    def worded(self) -> tuple[Question, ...]:
        """The questions whose value is a text."""
        return tuple(question for question in self.questions if not question.answer.numeric)

    def about(self, source: str) -> tuple[Question, ...]:
        """Return the questions about the events of a source."""
        return tuple(question for question in self.questions if question.reads(source))

    @classmethod
    def read(cls, path: str | Path) -> Questions:
        """Read and validate a questions file.

        Raises
        ------
        QuestionError
            No such file, not YAML, or errors in it; all of them in one message.
        """
        path = Path(path)
        content = yaml_file.read_yaml(path, "questions file", "correct userqa.questions", QuestionError)
        if not isinstance(content, dict) or not isinstance(content.get("questions"), list):
            raise QuestionError(f"questions file {path} must hold a list `questions`; see conf/questions/demo.yaml")
        file = _File(content=content)
        interests = file.interests()
        questions, general = file.questions(interests), file.general()
        file.errors += [f"  {key}: unknown key; use {', '.join(KEYS)}" for key in content if key not in KEYS]
        if file.errors:
            raise QuestionError(list_errors(path, file.errors))
        patterns = {name: interest.pattern for name, interest in interests.items()}
        return cls(questions=tuple(questions), interests=patterns, general=general)


@dataclass(kw_only=True)
class _File:
    """The content of a questions file while it is validated.

    An error is reported once: where a name refers to a question or theme that is itself invalid, the reference is no
    second error.
    """

    content: dict[str, Any]
    errors: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    """Names of all questions, the invalid ones included."""
    name_patterns: list[str] = field(default_factory=list)
    """Regular expressions of the names that invalid entries may have meant."""
    future_names: set[str] = field(default_factory=set)

    def interests(self) -> dict[str, Interest]:
        """Return the valid interests; an empty dictionary where the section is no mapping."""
        given = self.content.get("interests", {})
        if not isinstance(given, dict):
            self.errors.append("  interests: write a name and a pattern for each, such as `games: gems|skin`")
            return {}
        interests: dict[str, Interest] = {}
        for name, entry in given.items():
            if not isinstance(name, str) or not name.strip():
                self.errors.append(f"  interests.{name}: the name must be a text; put it between quotes")
                continue
            try:
                interests[name] = Interest.model_validate(entry)
            except ValidationError as error:
                self.errors += _format_errors(f"interests.{name}", _problems(error))
        return interests

    def questions(self, interests: Mapping[str, Interest]) -> list[Question]:
        """Return the valid questions, those with `each` once per theme or interest."""
        questions = []
        for written, entries in self._entries(interests):
            refused = []
            for entry in entries:
                self._add_name(entry)
                try:
                    question = Question.model_validate(entry)
                except ValidationError as error:
                    refused.append((entry, _problems(error)))
                    continue
                questions.append(question)
                if question.future:
                    self.future_names.add(question.name)
            if len(refused) == len(entries) and all(problems == refused[0][1] for _, problems in refused[1:]):
                refused = [(written, problems) for _, problems in refused[:1]]  # it is the same in every theme
            for entry, problems in refused:
                self.errors += _format_errors(_name(entry), problems)
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        self.errors += [f"  {name}: named twice; rename one" for name in twice]
        reserved = sorted(RESERVED & {*self.names})
        self.errors += [f"  {name}: a reserved name; rename the question" for name in reserved]
        return questions

    def general(self) -> tuple[tuple[str, ...], ...]:
        """Return the questions of each description; call it after `questions`, which collects the valid names."""
        general = self.content.get("general", [])
        if not isinstance(general, list) or not all(isinstance(entry, list) for entry in general):
            self.errors.append("  general: write a list of lists of question names")
            return ()
        past = [name for name in self.names if name not in self.future_names]
        self.errors += [
            f"  general: {name!r} is no question about the past; use one of {', '.join(past)}"
            for entry in general
            for name in entry
            if name not in past and not any(re.fullmatch(pattern, str(name)) for pattern in self.name_patterns)
        ]
        return tuple(tuple(names) for names in general)

    def _entries(self, interests: Mapping[str, Interest]) -> Iterator[tuple[Any, list[Any]]]:
        """Yield each entry of `questions` as it is written, with the entries of its themes or interests."""
        themes, theme_names = self._themes()
        topics = self._topics(interests)
        for entry in self.content["questions"]:
            if not isinstance(entry, dict) or "each" not in entry:
                yield entry, [entry]
                continue
            rest = {key: value for key, value in entry.items() if key != "each"}
            each, name = entry["each"], _name(entry)
            if each == "interests":
                if self.errors:
                    self.name_patterns.append(_any_theme(name))
                yield entry, [_for_theme(rest, key, theme) for key, theme in topics.items()]
                continue
            if not isinstance(each, list) or not each:
                self.errors.append(f"  {name}.each = {each!r}: write a list of themes, or interests")
                self.name_patterns.append(_any_theme(name))
                continue
            for key in each:
                if isinstance(key, str) and key in themes:
                    continue
                self.name_patterns.append(re.escape(name.replace("{theme}", str(key))))
                if theme_names is not None and key not in theme_names:
                    known = f"use one of {', '.join(theme_names)}" if theme_names else "add it to `themes`"
                    self.errors.append(f"  {name}.each: {key!r} is no theme; {known}")
            yield entry, [_for_theme(rest, key, themes[key]) for key in each if isinstance(key, str) and key in themes]

    def _topics(self, interests: Mapping[str, Interest]) -> dict[str, Theme]:
        """Return the theme of each interest, by its name as a part of a question's name; none where no entry asks."""
        if not any(isinstance(entry, dict) and entry.get("each") == "interests" for entry in self.content["questions"]):
            return {}
        if not self.content.get("interests", {}) and not self.errors:
            self.errors.append("  interests: `each: interests` needs some; write a name and a pattern for each")
        topics: dict[str, Theme] = {}
        for name, interest in interests.items():
            key = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
            if not key or key in topics:
                why = f"two interests make it {key}" if key else "it has none"
                self.errors.append(
                    f"  interests.{name}: `each: interests` names a question by its letters a to z and digits, and "
                    f"{why}; write another name, and the words for instructions under `words`"
                )
            topics[key] = interest.theme(name)
        return topics

    def _themes(self) -> tuple[dict[str, Theme], list[str] | None]:
        """Return the valid themes, and the names of all themes; None where they cannot be read."""
        given = self.content.get("themes") or {}
        if not isinstance(given, dict):
            self.errors.append("  themes: write a name for each, with its words and its where")
            return {}, None
        themes: dict[str, Theme] = {}
        for name, theme in given.items():
            try:
                themes[name] = Theme.model_validate(theme)
            except ValidationError as error:
                self.errors += _format_errors(f"themes.{name}", _problems(error))
        return themes, [*map(str, given)]

    def _add_name(self, entry: Any) -> None:
        name = entry.get("name") if isinstance(entry, dict) else entry
        if isinstance(name, str) and isinstance(entry, dict):
            self.names.append(name)
        else:
            # The entry may be the one that `general` names.
            self.name_patterns.append(re.escape(name) if isinstance(name, str) else ".*")


def _any_theme(name: str) -> str:
    """Return a regular expression of the names of all questions that an entry with `each` may be written out as."""
    return re.escape(name).replace(re.escape("{theme}"), ".*")


def _for_theme(entry: dict[str, Any], key: str, theme: Theme) -> dict[str, Any]:
    where = f"({theme.where}) AND ({entry['where']})" if entry.get("where") else theme.where
    filled = {**_fill(entry, theme.words[0]), "where": where}
    if isinstance(entry.get("name"), str):
        filled["name"] = entry["name"].replace("{theme}", key)
    given = entry.get("instruction")
    phrasings = given if isinstance(given, list) else [given]
    if all(isinstance(phrasing, str) for phrasing in phrasings):
        instruction = [_fill(phrasing, words) for words in theme.words for phrasing in phrasings]
        # A phrasing that does not name the theme is the same with each of its words.
        filled["instruction"] = [*dict.fromkeys(instruction)]
    return filled


def _fill(value: Any, words: str) -> Any:
    """Return the value with `{theme}` replaced in every text of it."""
    if isinstance(value, str):
        return value.replace("{theme}", words)
    if isinstance(value, list):
        return [_fill(item, words) for item in value]
    return {k: _fill(v, words) for k, v in value.items()} if isinstance(value, dict) else value


def _name(entry: Any) -> str:
    return str(entry.get("name", "(no name)")) if isinstance(entry, dict) else repr(entry)[:60]


def _problems(error: ValidationError) -> list[str]:
    """Return the key and the fix of each of pydantic's errors."""
    return [
        f"{''.join(f'.{step}' for step in detail['loc'])}: {suggest_fix(detail, FIELD_KEYS)}"
        for detail in error.errors()
    ]


def _format_errors(name: str, problems: list[str]) -> list[str]:
    return [f"  {name}{problem}" for problem in problems]
