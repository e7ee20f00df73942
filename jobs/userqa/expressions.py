"""The SQL expressions of the questions about a source, each with its position in the arrays of a row of events."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from jobs.profiles.time_bands import DAY_MICROS
from jobs.userqa.question import Question

E = TypeVar("E", bound=Hashable)


class Window(NamedTuple):
    """The days before a cut-off, or from it on."""

    future: bool
    days: int

    def contains(self, micros: Any) -> Any:
        """Return whether events are in the window; `micros` are their microseconds since the cut-off.

        They are an array or a column of Spark, and so is the result.
        """
        length = self.days * DAY_MICROS
        return (micros >= 0) & (micros < length) if self.future else (micros < 0) & (micros >= -length)


class Condition(NamedTuple):
    """A question's `where`, computed for the events of the window alone."""

    where: str | None
    window: Window


class Number(NamedTuple):
    """A numeric `value`, computed for the events that fulfil the condition alone."""

    value: str
    condition: Condition


@dataclass(frozen=True, kw_only=True)
class Expressions:
    """The different expressions of some questions and their positions; questions share them."""

    conditions: Mapping[Condition, int]
    numbers: Mapping[Number, int]
    words: Mapping[str, int]

    @classmethod
    def of(cls, questions: Sequence[Question]) -> Expressions:
        """Collect the expressions of the questions about one source."""
        return cls(
            conditions=_positions(condition(q) for q in questions if q.where),
            numbers=_positions(number(q) for q in questions if q.kind.value == "number"),
            words=_positions(str(q.value) for q in questions if q.kind.value == "text"),
        )


def window(question: Question) -> Window:
    """Return a question's window."""
    return Window(question.future, question.span)


def condition(question: Question) -> Condition:
    """Return a question's condition."""
    return Condition(question.where, window(question))


def number(question: Question) -> Number:
    """Return a question's numeric value."""
    return Number(str(question.value), condition(question))


def _positions(expressions: Iterable[E]) -> dict[E, int]:
    return {expression: position for position, expression in enumerate(dict.fromkeys(expressions))}
