"""A regression on the past answers to a scenario's nearest question: a baseline without labels and without a network.

It is fitted on the hand-made features of `training_profiles` and scores the labelled users' profiles by the same
features. It predicts whether the answer is another than the question's `none`.

Shapes: P profiles of the sample, U labelled profiles, R rows of `userqa`, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.evaluation.baselines.hand_made import deployment_features
from jobs.lake import delta
from jobs.lake.delta import MissingTableError
from jobs.lake.run_log import RunRecord
from model.data.arrays import Ints
from model.training.few_labels import ridge

SAMPLE = 4_000
"""The most training profiles that a regression is fitted on."""
LEAST = 50
"""The fewest profiles with an answer, and without it, that a regression is fitted on."""
KEY = ("user_id", "as_of")


def past_answer_scores(
    run: RunRecord, profiles: pa.Table, questions: Mapping[str, str], before: datetime
) -> dict[str, NDArray[np.float64]]:
    """Return a score `[U]` of these profiles for each scenario whose question has a `none` and other answers.

    Parameters
    ----------
    run
        Notes the versions of the tables that are read; without them there is no score.
    questions
        The wording of the nearest question, by scenario.
    before
        Answers at earlier cut-offs are read: the earliest as_of of a label.
    """
    try:
        userqa, training = run.open("userqa"), run.open("training_profiles")
    except MissingTableError:
        return {}
    if "is_none" not in {field.name for field in userqa.schema().fields}:  # written before questions had a `none`
        return {}
    is_before = pc.field("as_of") < pa.scalar(before, pa.timestamp("us", "UTC"))
    is_worded = pc.field("instruction").isin([*set(questions.values())])
    worded = delta.read_rows(userqa, columns=["instruction", "question"], filters=is_worded)
    names = dict(zip(*(worded[column].to_pylist() for column in ("instruction", "question")), strict=True))
    if not names:
        return {}
    is_named = pc.field("question").isin([*set(names.values())])
    answers = delta.read_rows(userqa, columns=[*KEY, "question", "is_none"], filters=is_named & is_before)
    sampled = _sample(answers)
    is_sampled = pc.field("user_id").isin(pc.unique(sampled["user_id"]))
    rows = delta.read_rows(training, filters=is_sampled & is_before)
    row_P = _rows_of(rows, sampled)
    columns = [name for name in rows.column_names if name in profiles.column_names and name not in (*KEY, "day")]
    both = pa.concat_tables([rows.take(row_P).select(columns), profiles.select(columns)])
    features = deployment_features(run.deployment, both).filled
    past_PD, present_UD = features[: len(row_P)], features[len(row_P) :]
    scores = _scores(_answered(answers, sampled), past_PD, present_UD)
    return {scenario: scores[names[text]] for scenario, text in questions.items() if names.get(text) in scores}


def _sample(answers: pa.Table) -> pa.Table:
    """Return the keys of at most `SAMPLE` profiles that have answers."""
    keys = answers.group_by(list(KEY)).aggregate([]).sort_by([(name, "ascending") for name in KEY])
    return keys.take(np.sort(np.random.default_rng(0).permutation(len(keys))[:SAMPLE]))


def _rows_of(table: pa.Table, keys: pa.Table) -> Ints:
    """Return the first row of a table with each of these keys; a key without a row is an error of `userqa`."""
    rows = {key: row for row, key in enumerate(_keys(table))}
    return np.array([rows[key] for key in _keys(keys)], np.int64)


def _answered(answers: pa.Table, keys: pa.Table) -> dict[str, NDArray[np.int64]]:
    """Return for each question an array `[P]`: 1 with an answer, 0 with `none` alone, -1 where it was not asked."""
    rows = {key: row for row, key in enumerate(_keys(keys))}
    row_R = np.array([rows.get(key, -1) for key in _keys(answers)], np.int64)
    question_R = np.array(answers["question"].to_pylist())
    has_R = ~pc.fill_null(answers["is_none"], False).to_numpy()
    answered = {}
    for question in np.unique(question_R):
        of_question = (question_R == question) & (row_R >= 0)
        has_P = np.full(len(keys), -1)
        np.maximum.at(has_P, row_R[of_question], has_R[of_question].astype(np.int64))
        answered[str(question)] = has_P
    return answered


def _scores(
    answered: Mapping[str, NDArray[np.int64]], past_PD: NDArray[np.float64], present_UD: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """Return each question's regression; those of the same profiles share a decomposition."""
    groups: dict[bytes, list[str]] = {}
    for question, has_P in answered.items():
        if min(np.count_nonzero(has_P == 1), np.count_nonzero(has_P == 0)) >= LEAST:
            groups.setdefault((has_P >= 0).tobytes(), []).append(question)
    scores: dict[str, NDArray[np.float64]] = {}
    for questions in groups.values():
        is_known_P = answered[questions[0]] >= 0
        fitted = ridge(past_PD[is_known_P], present_UD)
        scores |= {question: fitted(answered[question][is_known_P]) for question in questions}
    return scores


def _keys(table: pa.Table) -> list[tuple[str, int]]:
    times = table["as_of"].cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    return [*zip(table["user_id"].to_pylist(), times.to_pylist(), strict=True)]
