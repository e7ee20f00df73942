"""Static attributes that may hold what a question or a label is about.

Attributes with `static: true` carry no time: a profile at an earlier cut-off holds the values of today. A value that
became known only after the cut-off, such as a status that follows from what the user did next, then gives the answer of
a question about the future, or of a label, away.
"""

from __future__ import annotations

from dataclasses import dataclass

from jobs.config.deployment import Deployment
from jobs.userqa.questions import Questions


@dataclass(frozen=True, kw_only=True)
class StaticLeak:
    """A static column without `known_from`, and what it may leak into."""

    column: str
    """Its name in the profile."""
    questions: tuple[str, ...]
    """Names of the questions about the future that are asked at a cut-off of `userqa.as_of`."""
    scenarios: tuple[str, ...]
    """Names of the scenarios with labels."""

    def line(self) -> str:
        """Return the finding as one line, with what to do."""
        parts = [
            f"{kind} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
            for kind, names in (("questions about the future", self.questions), ("labels", self.scenarios))
            if names
        ]
        return (
            f"attributes.{self.column} is static: profiles of earlier days hold today's value, which may leak into "
            f"{' and '.join(parts)}; declare `known_from: <day>` for it, or give the table a valid_from column"
        )


def static_leaks(deployment: Deployment, questions: Questions | None = None) -> list[StaticLeak]:
    """Return a finding for each static column without `known_from` that a question or label may follow.

    It needs no Spark and reads no table.

    Parameters
    ----------
    questions
        The deployment's questions file; None: it could not be read, and only the labels are named.
    """
    attributes = deployment.attributes
    if attributes is None or not attributes.static:
        return []
    first = min(deployment.userqa.as_of)
    asked_later = tuple(
        question.name
        for question in (questions.questions if questions else ())
        if question.future and (question.last_as_of is None or first <= question.last_as_of)
    )
    labelled = tuple(scenario.name for scenario in deployment.scenarios if scenario.labels)
    if not asked_later and not labelled:
        return []
    return [
        StaticLeak(column=column.name, questions=asked_later, scenarios=labelled)
        for column in (*attributes.numbers, *attributes.categories)
        if column.known_from is None
    ]
