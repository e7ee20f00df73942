"""What instructions are worth: AUC by the number of labels, with instructions, with others and without.

Rows are classifiers of the vectors, rankings without labels, and hand-made baselines at the same numbers of labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.config.deployment import UNIVERSAL
from jobs.config.sections import LABEL_COUNTS, Scenario
from jobs.evaluation.baselines.hand_made import LIGHTGBM, Features, deployment_features, logarithmic_features
from jobs.evaluation.baselines.instruction_words import count_instruction_words
from jobs.evaluation.baselines.past_answers import past_answer_scores
from jobs.evaluation.few_labels import ALL, NONE, SHOTS, Method, Ranking, Task
from jobs.evaluation.instructions import VAGUE, Instructions, read_instructions
from jobs.evaluation.labelled_data import LabelledData
from jobs.evaluation.paired import Aucs, Difference, Row, aucs, difference, mean_over_scenarios
from jobs.evaluation.scores import Score
from jobs.evaluation.variance import VarianceShares, variance_shares
from jobs.training.labels import LabelledUsers
from model.serving.instruction_encoder import KnownQuestion
from model.serving.release import Release

SIMILARITY, HAND_MADE = "similarity to it", "hand-made"
CLASSIFIERS = ("prototypes", "neighbours", "regression")
"""The classifiers of vectors; each is a part of the tables."""
PARTS = (SIMILARITY, *CLASSIFIERS, HAND_MADE)
MANUAL, TUNED, VAGUE_NAME, ANOTHERS = "manual", "tuned", "vague", "another's"
BASELINE = "baseline"
"""In a difference, the best hand-made row at the same number of labels."""
TREES, RULE, PAST = "LightGBM", "one count", "past answers"
OTHERS = 3
"""Other scenarios whose instructions a scenario is scored with."""
FILLED, GAPS, LOGARITHMS = "hand-made", "hand-made with gaps", "logarithms"
"""Names of hand-made features, beside the names of vectors; a scenario's name has no blank and no dash."""
BASELINES = (
    Method(part=HAND_MADE, name="regression", classifier="regression", features=(FILLED,)),
    Method(part=HAND_MADE, name="regression, log values", classifier="regression", features=(LOGARITHMS,)),
    Method(part=HAND_MADE, name=TREES, classifier="LightGBM", features=(GAPS,), with_all=False),
    Method(part=HAND_MADE, name=RULE, classifier="one count", features=(FILLED,)),
)


@dataclass(frozen=True, kw_only=True)
class InstructionWorth:
    """The figures.

    Attributes
    ----------
    means : dict
        The mean over scenarios by part, method and number of labels; rows that some scenario lacks are left out.
    scenarios : dict
        The mean over splits by scenario, part, method and number of labels.
    differences : dict
        By part and `manual - universal`, for example, and number of labels.
    best_baseline : dict
        The hand-made baseline with the highest mean, by number of labels.
    gate : dict
        By number of labels the figure that `instructue promote` compares with `promote.least_auc`.
    nearest : dict
        The nearest question of the training, by scenario.
    variance : VarianceShares, optional
        Of the scenarios' vectors; None with fewer than two scenarios.
    missing : str, optional
        Which rows are missing and why.
    """

    means: dict[str, dict[str, dict[str, float]]]
    scenarios: dict[str, dict[str, dict[str, dict[str, float]]]]
    differences: dict[str, dict[str, dict[str, Difference]]]
    best_baseline: dict[str, str]
    gate: dict[str, float]
    nearest: dict[str, KnownQuestion]
    variance: VarianceShares | None
    missing: str | None


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What the rows are made of: labelled users, vectors and, with baselines, hand-made features."""

    data: LabelledData
    instructions: Instructions
    hand_made: Features | None

    @classmethod
    def read(cls, data: LabelledData, release: Release, *, baselines: bool) -> Inputs:
        """Embed the labelled users' profiles and, with baselines, compute their hand-made features."""
        deployment = data.run.deployment
        features = deployment_features(deployment, data.profiles) if baselines else None
        instructions = read_instructions(deployment, release, data.profiles)
        return cls(data=data, instructions=instructions, hand_made=features)

    def features(self) -> dict[str, NDArray[np.floating[Any]]]:
        """Return the features by name, a row for each profile."""
        features: dict[str, NDArray[np.floating[Any]]] = dict(self.instructions.vectors)
        features |= {f"{TUNED} {name}": vectors for name, vectors in self.instructions.tuned.items()}
        if self.hand_made is not None:
            features |= {FILLED: self.hand_made.filled, GAPS: self.hand_made.values}
            logarithms = logarithmic_features(self.data.run.deployment, self.data.profiles)
            features |= {LOGARITHMS: logarithms.filled} if logarithms else {}
        return features

    def tasks(self, split_seeds: Mapping[str, tuple[str, ...]], tuned_users: Mapping[str, int]) -> list[Task]:
        """Return a task for each scenario.

        Parameters
        ----------
        split_seeds
            By scenario.
        tuned_users
            The number of users on whom a scenario's instruction was tuned; its vectors are fitted on no fewer labels.
        """
        questions = {name: known.question for name, known in self.instructions.nearest.items()}
        past = {}
        if self.hand_made is not None and questions:
            data = self.data
            past = past_answer_scores(data.run, data.profiles, questions, data.first_as_of)
        has_numbers = bool(self.data.run.deployment.numbers or self.data.run.deployment.categories)
        baselines = [one for one in BASELINES if LOGARITHMS not in one.features or has_numbers]
        return [
            Task(
                group=group,
                rankings=(*self._similarities(group), *self._rules(scenario, group, past)),
                methods=(
                    *(
                        Method(part=part, name=name, classifier=part, features=vectors, least=least)
                        for part in CLASSIFIERS
                        for name, vectors, least in self._vectors(group.scenario, tuned_users)
                    ),
                    *(baselines if self.hand_made is not None else ()),
                ),
                split_seeds=split_seeds[group.scenario],
            )
            for scenario, group in zip(self.data.scenarios, self.data.groups, strict=True)
        ]

    def _vectors(self, scenario: str, tuned_users: Mapping[str, int]) -> list[tuple[str, tuple[str, ...], int]]:
        """Return the rows of vectors: their name, the names of their features and the fewest labels."""
        vectors = self.instructions.vectors
        rows: list[tuple[str, tuple[str, ...], int]] = [(UNIVERSAL, (UNIVERSAL,), 0), (MANUAL, (scenario,), 0)]
        if scenario in tuned_users:
            rows.append((TUNED, (f"{TUNED} {scenario}",), tuned_users[scenario]))
        rows += [(VAGUE_NAME, VAGUE, 0), (ANOTHERS, self._others(scenario), 0)]
        return [row for row in rows if row[0] == TUNED or (row[1] and vectors.keys() >= {*row[1]})]

    def _others(self, scenario: str) -> tuple[str, ...]:
        """Return the next `OTHERS` scenarios of the deployment file, from its end on to its begin."""
        names = [other.name for other in self.data.run.deployment.scenarios]
        after = [*names[names.index(scenario) + 1 :], *names[: names.index(scenario)]]
        return tuple([name for name in after if name in self.instructions.vectors][:OTHERS])

    def _similarities(self, group: LabelledUsers) -> list[Ranking]:
        """Return rankings by the similarity of universal vectors to the text embedding of an instruction."""
        directions = self.instructions.directions
        universal_UH = self.instructions.vectors[UNIVERSAL][group.row_U]
        rows = [(MANUAL, (group.scenario,)), (VAGUE_NAME, VAGUE), (ANOTHERS, self._others(group.scenario))]
        return [
            Ranking(part=SIMILARITY, name=name, scores=tuple(universal_UH @ directions[text] for text in texts))
            for name, texts in rows
            if directions and texts
        ]

    def _rules(
        self, scenario: Scenario, group: LabelledUsers, past: Mapping[str, NDArray[np.float64]]
    ) -> list[Ranking]:
        """Return hand-made rankings without labels."""
        rows = {PAST: past.get(scenario.name)}
        if self.hand_made is not None:
            sources = [source.name for source in self.data.run.deployment.sources]
            rows[RULE] = count_instruction_words(self.hand_made, sources, scenario.instruction)
        return [
            Ranking(part=HAND_MADE, name=name, scores=(scores_U[group.row_U],))
            for name, scores_U in rows.items()
            if scores_U is not None
        ]


def instruction_worth(inputs: Inputs, scores: Sequence[Score]) -> InstructionWorth:
    """Return the figures of these scores."""
    values = aucs(scores)
    names = list(dict.fromkeys(one["scenario"] for one in scores))
    means = {row: _means(values, row, names) for row in values}
    best = _best_baseline(means)
    vectors = [inputs.instructions.vectors.get(scenario.name) for scenario in inputs.data.run.deployment.scenarios]
    known = [one for one in vectors if one is not None]
    return InstructionWorth(
        means=_by_part({row: cells for row, cells in means.items() if cells}),
        scenarios={name: _by_part({row: _means(values, row, [name]) for row in values}) for name in names},
        differences=_differences(values, best),
        best_baseline=best,
        gate=_gate(values, names),
        nearest=dict(inputs.instructions.nearest),
        variance=variance_shares(np.stack(known, axis=1)) if len(known) > 1 else None,
        missing=inputs.instructions.missing,
    )


def trees_with_all(scores: Sequence[Score]) -> list[Score]:
    """Return the rows of LightGBM with all labels from the scores of the probes, which fit it too."""
    row = {"part": HAND_MADE, "method": TREES, "labels": ALL}
    return [
        {"scenario": one["scenario"], "split_seed": one["split_seed"], **row, "auc": one["auc"]}
        for one in scores
        if one["method"] == LIGHTGBM and "auc" in one
    ]


def _means(values: Aucs, row: Row, names: Sequence[str]) -> dict[str, float]:
    cells = {labels: mean_over_scenarios(values, row, labels, names) for labels in LABEL_COUNTS}
    return {labels: round(mean, 4) for labels, mean in cells.items() if mean is not None}


def _by_part(rows: Mapping[Row, Any]) -> dict[str, dict[str, Any]]:
    """Return rows by part and method, in the order of the tables; empty ones are left out."""
    parts: dict[str, dict[str, Any]] = {part: {} for part in PARTS}
    for (part, method), cells in rows.items():
        if cells:
            parts[part][method] = cells
    return {part: methods for part, methods in parts.items() if methods}


def _best_baseline(means: Mapping[Row, Mapping[str, float]]) -> dict[str, str]:
    best = {}
    for labels in LABEL_COUNTS:
        of_labels = {row[1]: cells[labels] for row, cells in means.items() if row[0] == HAND_MADE and labels in cells}
        if of_labels:
            best[labels] = max(of_labels, key=of_labels.__getitem__)
    return best


def _differences(values: Aucs, best: Mapping[str, str]) -> dict[str, dict[str, dict[str, Difference]]]:
    """Return the manual vectors' values less those of other vectors and of the best baseline."""
    parts: dict[str, dict[str, dict[str, Difference]]] = {}
    for part in (SIMILARITY, *CLASSIFIERS):
        for other in (UNIVERSAL, TUNED, VAGUE_NAME, ANOTHERS, BASELINE):
            for labels in LABEL_COUNTS:
                less_row = (HAND_MADE, best.get(labels, "")) if other == BASELINE else (part, other)
                more, less = (values.get(row, {}).get(labels, {}) for row in ((part, MANUAL), less_row))
                if (over := difference(more, less)) is not None:
                    parts.setdefault(part, {}).setdefault(f"{MANUAL} - {other}", {})[labels] = over
    return parts


def _gate(values: Aucs, names: Sequence[str]) -> dict[str, float]:
    """Return the mean over scenarios that `promote` compares.

    Without labels it is that of the similarity to the instruction, with `SHOTS` labels that of class prototypes and
    with all that of the regression, of the vectors that are served: tuned ones where the release has them.
    """
    parts = {NONE: SIMILARITY, **{str(shots): CLASSIFIERS[0] for shots in SHOTS}, ALL: CLASSIFIERS[-1]}
    gate = {}
    for labels, part in parts.items():
        served = []
        for name in names:
            rows = (values.get((part, method), {}).get(labels, {}).get(name) for method in (TUNED, MANUAL))
            served += [np.mean([*row.values()]) for row in rows if row][:1]
        if served:
            gate[labels] = round(float(np.mean(served)), 4)
    return gate
