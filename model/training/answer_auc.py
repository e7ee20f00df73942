"""How well profiles predict the answers to each question: the AUC of a ridge on words, on held-out users.

A question whose AUC is near .5 teaches a network nothing about users.

Shapes: U profiles, T distinct texts, V words, A answers, G profiles of one cut-off in a fold, Q questions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix, hstack

from model.data.arrays import Ints
from model.data.profiles import Profiles
from model.data.text import WORD, TokenIds
from model.training.ranking import count_pairs
from model.training.word_vectors import Matrix, token_counts, unit_rows, word_ridge

FOLDS = 4
"""Each fold's users are held out from a ridge that is fitted on the users of the others."""


def answer_auc(
    counts_UV: csr_matrix, answers_UA: Matrix, question_A: Ints, cut_off_U: Ints, user_U: Ints
) -> dict[int, float]:
    """Return the AUC of each question that has one.

    It is the share of pairs of held-out users, one with an answer and one with another, in which the user with the
    answer has the higher score of that answer's ridge. Both users are of one fold and one cut-off. The pairs of all
    answers of a question are counted together: its AUC is the mean of the answers' AUC (one against rest), weighted by
    their pairs.

    Parameters
    ----------
    counts_UV
        How often each profile has each word (`profile_words`).
    answers_UA, question_A
        `word_vectors.answer_indicators`.
    cut_off_U, user_U
        The numbers of each profile's cut-off and user.
    """
    fold_U = np.random.default_rng(0).permutation(user_U.max(initial=0) + 1)[user_U] % FOLDS
    *_, unit_UK = unit_rows(counts_UV)
    ordered_A, pairs_A = np.zeros((2, len(question_A)))
    for fold in range(FOLDS):
        fitted_U = fold_U != fold
        weights_KA, _ = word_ridge(unit_UK[fitted_U], answers_UA[fitted_U], cut_off_U[fitted_U])
        for cut_off in np.unique(cut_off_U):
            scored_U = ~fitted_U & (cut_off_U == cut_off)
            scores_GA = unit_UK[scored_U] @ weights_KA
            for answer, (score_G, answer_G) in enumerate(zip(scores_GA.T, answers_UA[scored_U].T, strict=True)):
                has_question_G = answer_G != 0
                ordered, pairs = count_pairs(answer_G[has_question_G] > 0, score_G[has_question_G])
                ordered_A[answer] += ordered
                pairs_A[answer] += pairs
    ordered_Q, pairs_Q = (np.bincount(question_A, values_A) for values_A in (ordered_A, pairs_A))
    return {int(question): float(ordered_Q[question] / pairs_Q[question]) for question in np.flatnonzero(pairs_Q)}


def profile_words(profiles: Profiles) -> csr_matrix:
    """Return how often each profile has each word of a source, each tabular category and number's bin, `[U, V]`."""
    counts = []
    for source in profiles.sources:
        ids, words = _word_ids(source.texts)
        counts.append(token_counts(source.text_E, source.offsets_U1, ids, words))
    tabular = profiles.tabular
    bins = [
        np.where(np.isnan(number_U), 0, 1 + np.searchsorted(number.edges[1:-1], number_U, side="right"))
        for number, number_U in zip(tabular.numbers, profiles.numbers_UF.T, strict=True)
    ]
    for code_U in [*bins, *profiles.categories_UC.T]:
        present_U = np.flatnonzero(code_U)
        indicators = (np.ones(len(present_U)), (present_U, code_U[present_U] - 1))
        counts.append(csr_matrix(indicators, (len(profiles), int(code_U.max(initial=1)))))
    return hstack(counts).tocsr()


def _word_ids(texts: Sequence[str]) -> tuple[TokenIds, int]:
    """Return the words of each text as numbers, and how many words there are."""
    vocabulary: dict[str, int] = {}
    rows = [[vocabulary.setdefault(word, len(vocabulary)) for word in WORD.findall(text.lower())] for text in texts]
    return TokenIds.of(rows), max(1, len(vocabulary))
