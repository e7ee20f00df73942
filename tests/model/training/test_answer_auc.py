"""The AUC of each question on held-out users, against ridges and pairs of users that are counted one by one."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from model.data.profiles import read_profiles
from model.data.tabular import fit_tabular
from model.training.answer_auc import FOLDS, answer_auc, profile_words
from model.training.word_vectors import RIDGE
from tests.support.made_up import made_up_profiles, network_config

USERS, WORDS = 150, 12


def test_each_question_has_the_auc_of_ridges_of_the_other_users() -> None:
    """Two cut-offs, a user at both; three answers to a question, of which the last is not asked of all."""
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(USERS), 2)
    when = np.tile([0, 1], USERS)
    counts = rng.poisson(0.7, (2 * USERS, WORDS))
    signal = counts[:, :3] @ np.array([[1.0, 0, 0], [-1, 1, 0], [0, 0, 0]]) + when[:, None]
    answers = np.sign(signal + rng.normal(size=(2 * USERS, 3)) - np.median(signal, axis=0))
    answers[rng.random(2 * USERS) < 0.3, 2] = 0
    question = np.array([4, 4, 7])
    result = answer_auc(csr_matrix(counts), answers, question, when, user)

    having = (counts > 0).sum(0)
    idf = np.where((having >= 10) & (having <= 1.8 * USERS), np.log(2 * USERS / (1 + having)), 0)
    rows = np.log1p(counts) * idf
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12)
    fold = np.random.default_rng(0).permutation(USERS)[user] % FOLDS
    won, pairs = defaultdict[int, float](float), Counter[int]()
    for number, answer in product(range(FOLDS), range(3)):
        fit = fold != number
        x, y = rows[fit].copy(), answers[fit, answer].copy()
        for cut_off in (0, 1):
            x[when[fit] == cut_off] -= x[when[fit] == cut_off].mean(0)
            y[when[fit] == cut_off] -= y[when[fit] == cut_off].mean()
        stacked = np.concatenate([x, np.sqrt(RIDGE) * np.eye(WORDS)])
        score = rows @ np.linalg.lstsq(stacked, np.append(y, np.zeros(WORDS)), rcond=None)[0]
        out = np.flatnonzero(~fit)
        for a, b in product(out, out):
            if when[a] == when[b] and answers[a, answer] > 0 > answers[b, answer]:
                won[question[answer]] += (np.sign(score[a] - score[b]) + 1) / 2
                pairs[question[answer]] += 1
    assert result == pytest.approx({key: won[key] / pairs[key] for key in (4, 7)})
    assert result[4] > 0.65
    assert abs(result[7] - 0.5) < 0.1


def test_a_question_that_nobody_or_everybody_answers_has_no_auc() -> None:
    counts = csr_matrix(np.random.default_rng(0).poisson(0.7, (40, WORDS)))
    answers = np.stack([np.ones(40), np.where(np.arange(40) % 2, 1.0, -1.0)], axis=1)
    cut_off, user = np.zeros(40, dtype=np.int64), np.arange(40)
    assert answer_auc(counts, answers, np.array([0, 2]), cut_off, user).keys() == {2}
    assert answer_auc(counts, np.zeros((40, 0)), np.zeros(0, dtype=np.int64), cut_off, user) == {}


def test_words_of_a_profile_are_its_events_words_and_tabular_values() -> None:
    """Columns have no names, so the sorted counts of each user are compared."""
    table, config = made_up_profiles(30), network_config()
    config = replace(config, tabular=fit_tabular(table, config.tabular, 4))
    result = profile_words(read_profiles(table, config)).toarray()
    edges = {number.name: number.edges for number in config.tabular.numbers}
    columns: defaultdict[tuple[str, str], Counter[int]] = defaultdict(Counter)
    for user, row in enumerate(table.to_pylist()):
        for source in ("bill", "search"):
            for event in row[source]:
                for word in event["text"].split():
                    columns[source, word][user] += 1
        for name in ("bills", "income"):
            if (value := row["tabular"][name]) is not None:
                columns[name, str(sum(value >= edge for edge in edges[name][1:-1]))][user] += 1
        if row["tabular"]["city"] is not None:
            columns["city", row["tabular"]["city"]][user] += 1
    expected = sorted([column[user] for user in range(30)] for column in columns.values())
    assert sorted(column for column in result.T.astype(int).tolist() if any(column)) == expected
