"""Unseen instructions: the loss of quality when training omits the questions most similar to a scenario.

For each scenario a network is trained without the questions whose wording is nearest the scenario's instruction, by the
cosine of tf-idf vectors of their words. The general descriptions, which answer no question, stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow.compute as pc

from jobs.evaluation.figures import difference, line, tables
from jobs.evaluation.results import Result, Table
from jobs.evaluation.scores import Score
from jobs.evaluation.studies.study import Study, StudyError
from jobs.evaluation.studies.table2 import MODES, modes

NEAREST = 3
"""The number of questions that are left out for a scenario."""
FULL, LESS, LOST = "trained on all questions", f"without the nearest {NEAREST}", "lost"


def unseen(study: Study) -> Result:
    """Train without each scenario's nearest questions, and compare its scores with those of full training.

    Raises
    ------
    StudyError
        Training asks too few questions to leave some out.
    """
    questions = pc.unique(study.pairs["instruction"]).drop_null().to_pylist()
    left_out = {scenario.name: nearest(scenario.instruction, questions, NEAREST) for scenario in study.scenarios}
    full = [modes(study, "all questions", study.plan, seed) for seed in study.seeds]
    less = [
        modes(study, f"without {name}'s questions", replace(study.plan, left_out=tuple(texts)), seed, only=name)
        for seed in study.seeds
        for name, texts in left_out.items()
    ]
    results = study.run_cells([*full, *less])
    full_N: list[list[Score]] = results[: len(full)]
    by_seed = np.array_split(np.arange(len(full), len(results)), len(full))
    less_N: list[list[Score]] = [[one for number in numbers for one in results[number]] for numbers in by_seed]
    notes = study.notes([*full_N, *less_N])
    lines = [
        row
        for mode in MODES
        for row in (
            line(FULL, full_N, mode, part=mode),
            line(LESS, less_N, mode, part=mode),
            difference(LOST, (full_N, mode), (less_N, mode), part=mode),
        )
    ]
    left_out_table = Table(
        title="Left out",
        columns=("scenario", "question", "cosine"),
        rows=tuple((name, text, f"{cosine:.2f}") for name, texts in left_out.items() for text, cosine in texts.items()),
    )
    return Result(
        name="unseen",
        title="Instructions that training has not seen",
        tables=(*tables(lines, study.names, "training"), left_out_table),
        notes=(
            *notes,
            f"for each scenario the {NEAREST} questions nearest its instruction (cosine of tf-idf "
            "of their words) are left out, and a network is trained without them",
        ),
        data={"lines": lines, "left_out": left_out, "full": full_N, "less": less_N},
    )


def nearest(instruction: str, questions: Sequence[str], most: int) -> dict[str, float]:
    """Return the questions whose wording is nearest, with their cosines.

    Raises
    ------
    StudyError
        There are at most this many questions.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = sorted(questions)
    if len(texts) <= most:
        raise StudyError(
            f"training asks {len(texts)} questions and {most} are to be left out: ask more in the questions file"
        )
    vectors = TfidfVectorizer(token_pattern=r"(?u)\w+").fit_transform([instruction, *texts])
    cosines = (vectors[1:] @ vectors[0].T).toarray()[:, 0]
    order = sorted(range(len(texts)), key=lambda number: (-cosines[number], texts[number]))
    return {texts[number]: float(cosines[number]) for number in order[:most]}
