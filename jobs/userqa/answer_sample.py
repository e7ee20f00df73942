"""How well each question can be answered, measured on profiles and pairs of a sample of the users."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.config.deployment import Deployment
from jobs.training.training_inputs import network_config
from jobs.userqa.pairs import Spread
from model.data.pairs import read_pairs
from model.data.profiles import read_profiles
from model.data.tabular import fit_tabular
from model.training.answer_auc import answer_auc, profile_words
from model.training.word_vectors import answer_indicators

MOST_PROFILES = 4_000
"""About so many profiles, at all cut-offs, are sampled: all of a user's or none. They are read on the driver."""
MIN_USERS = 200
"""Of fewer users no AUC is measured: chance alone moves it by .05."""
BINS = 10
"""Quantile bins of a tabular number."""
USELESS_AUC = 0.55
"""A question with less is reported. Chance moves the AUC of 1,000 users by .02."""


def question_aucs(deployment: Deployment, profiles: DataFrame, pairs: DataFrame, count: int) -> dict[str, float]:
    """Return the AUC of each question on held-out users of a sample (`model.training.answer_auc`).

    A question is left out if it has no answer that enough users have and others have not; all questions, if the sample
    has fewer than `MIN_USERS` users.

    Parameters
    ----------
    profiles, pairs
        The rows of `training_profiles` and of `userqa`, cached.
    count
        The number of the profiles.
    """
    part = max(1, -(-count // MOST_PROFILES))
    chosen = F.pmod(F.xxhash64("user_id"), F.lit(part)) == 0
    sampled = profiles.where(chosen).toArrow()
    if pc.count_distinct(sampled["user_id"]).as_py() < MIN_USERS:
        return {}
    # The AUC needs neither wordings nor splits: a question's name is its instruction, and all users are one split.
    named = (F.col("question").alias("instruction"), F.lit("sample").alias("split"))
    sampled_pairs = pairs.where(chosen & F.col("instruction").isNotNull())
    table, read = read_pairs(
        sampled, sampled_pairs.select("user_id", "as_of", "answer", "is_none", *named).toArrow(), "sample"
    )
    config = network_config(deployment)
    config = replace(config, tabular=fit_tabular(table, config.tabular, BINS))
    answers_UA, question_A = answer_indicators(read)
    user_U = np.unique(table["user_id"].to_numpy(zero_copy_only=False).astype(str), return_inverse=True)[1]
    aucs = answer_auc(profile_words(read_profiles(table, config)), answers_UA, question_A, read.cut_off_U, user_U)
    name_of = dict(zip(read.question_R.tolist(), read.instruction_R.tolist(), strict=True))
    return {str(read.instructions[name_of[question]]): round(auc, 4) for question, auc in aucs.items()}


def useless_questions(questions: Mapping[str, Spread]) -> str | None:
    """Return a warning that names the questions which the words of a profile do not answer; None without one."""
    useless = [
        f"{name} ({spread.auc:.2f})"
        for name, spread in questions.items()
        if spread.auc is not None and spread.auc < USELESS_AUC
    ]
    if not useless:
        return None
    return (
        f"profiles do not tell the answers to {', '.join(useless)}: the AUC on held-out users is hardly above chance "
        "(0.5), so these questions are of no use to train on; change or remove them"
    )
