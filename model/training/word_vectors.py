"""Vectors of the words of fresh event encoders: what occurs together, or what predicts the answers of the questions.

The mean of a user's token vectors is then the user's position along a few directions. Both kinds take the users'
tf-idf counts; tokens that too few or too many users have get zeros.

Shapes: U profiles, T distinct texts, V tokens of the event vocabulary, K tokens of a ridge, A answers, C cut-offs, D
directions, E width of an event vector, R pairs, X pairs of a question.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags

from model.data.arrays import Ints
from model.data.pairs import Pairs
from model.data.text import TokenIds

MIN_PROFILES, MAX_SHARE = 10, 0.9
"""Tokens of fewer profiles, or of a larger share of them, get no vector: they do not show how users differ."""
FACTORS = 16
"""Directions of `word_vectors`. More factors describe single users: with 64 the made-up company's untrained universal
vectors have a probe of .737, with 16 of .752."""
QUESTION_FACTORS = 24
"""Directions of `question_word_vectors`."""
RIDGE = 10.0
"""Strength of the ridge, for users' tf-idf vectors of length 1."""
MIN_ANSWER_SHARE = 0.01
"""The least share of the users with an answer, and without it, for the answer to be predicted."""
MOST_TOKENS = 4096
"""The most tokens of a ridge, those of the most users: it solves equations with a matrix of that width."""
WORD_SCALE = 0.5
"""Root mean square of the word vectors over the tokens of the events. That of the positions is 0.1 and that of the
common vector is 1; the layer norm after their sum then keeps the weights of rare and common words."""
Matrix = NDArray[np.float64]


def token_counts(text_E: Ints, offsets_U1: Ints, ids: TokenIds, vocabulary: int) -> csr_matrix:
    """Return how often each token occurs in each user's events, `[U, V]`."""
    texts, users = len(ids), len(offsets_U1) - 1
    of_text = np.repeat(np.arange(texts), ids.lengths)
    tokens_TV = csr_matrix((np.ones(len(of_text)), (of_text, ids.ids)), (texts, vocabulary))
    of_user = np.repeat(np.arange(users), np.diff(offsets_U1))
    texts_UT = csr_matrix((np.ones(len(of_user)), (of_user, text_E)), (users, texts))
    return (texts_UT @ tokens_TV).tocsr()


def word_vectors(counts_UV: csr_matrix, width: int, seed: int = 0) -> NDArray[np.float32]:
    """Return a vector `[V, width]` of each token: the factors of users' tf-idf counts (latent semantic analysis).

    The directions are those in which users differ most (Deerwester et al. 1990).
    """
    # Imported here because `userqa`, which needs the ridge alone, runs without scikit-learn.
    from sklearn.utils.extmath import randomized_svd

    weight_V, weighted_UV = _tf_idf(counts_UV)
    factors = min(FACTORS, width, *counts_UV.shape)
    _, size_D, tokens_DV = randomized_svd(weighted_UV, factors, random_state=seed)
    return _scaled((tokens_DV.T * size_D) * weight_V[:, None], counts_UV, width, seed)


def question_word_vectors(
    counts_UV: csr_matrix, answers_UA: Matrix, cut_off_U: Ints, width: int, seed: int = 0
) -> NDArray[np.float32]:
    """Return a vector `[V, width]` of each token: a ridge of the answers on users' tf-idf counts, of reduced rank.

    Users' tf-idf vectors have length 1. From them and from the answers, the mean of the cut-off is subtracted. The
    directions are the first principal components of the predicted answers (Izenman 1975).

    Parameters
    ----------
    counts_UV
        How often each user has each token.
    answers_UA
        Whether each user has each answer, standardised; 0 for a user without the question (`answer_indicators`).
    cut_off_U
        The number of each user's cut-off.
    """
    weight_V, kept_K, unit_UK = unit_rows(counts_UV)
    ridge_KA, gram_KK = word_ridge(unit_UK, answers_UA, cut_off_U)
    _, components_AA = np.linalg.eigh(ridge_KA.T @ gram_KK @ ridge_KA)
    factors = min(QUESTION_FACTORS, width, components_AA.shape[1])
    directions_VD = np.zeros((counts_UV.shape[1], factors))
    directions_VD[kept_K] = ridge_KA @ components_AA[:, ::-1][:, :factors]
    return _scaled(directions_VD * weight_V[:, None], counts_UV, width, seed)


def unit_rows(counts_UV: csr_matrix) -> tuple[Matrix, Ints, csr_matrix]:
    """Return the weight of each token, the tokens of the ridge, and users' tf-idf vectors over them, `[U, K]`.

    A user's tf-idf vector over all tokens has length 1.
    """
    weight_V, weighted_UV = _tf_idf(counts_UV)
    kept_V = np.flatnonzero(weight_V)
    users_V = np.asarray((counts_UV[:, kept_V] > 0).sum(axis=0)).ravel()
    kept_K = np.sort(kept_V[np.argsort(-users_V, kind="stable")[:MOST_TOKENS]])
    length_U = np.sqrt(np.asarray(weighted_UV.multiply(weighted_UV).sum(axis=1)).ravel())
    return weight_V, kept_K, (diags(1 / np.maximum(length_U, 1e-12)) @ weighted_UV).tocsr()[:, kept_K]


def word_ridge(unit_UK: csr_matrix, answers_UA: Matrix, cut_off_U: Ints) -> tuple[Matrix, Matrix]:
    """Return the weights `[K, A]` of a ridge of the answers on users' vectors, and the vectors' products `[K, K]`.

    From vectors and answers, the mean of the cut-off is subtracted.
    """
    # Products of centred tf-idf vectors, from sums of each cut-off, since the centred vectors are not sparse.
    of_cut_off_CU = csr_matrix((np.ones(len(cut_off_U)), (cut_off_U, np.arange(len(cut_off_U)))))
    size_C1 = np.maximum(np.asarray(of_cut_off_CU.sum(axis=1)), 1)
    sum_CK, sum_CA = (of_cut_off_CU @ unit_UK).toarray(), of_cut_off_CU @ answers_UA
    gram_KK = (unit_UK.T @ unit_UK).toarray() - sum_CK.T @ (sum_CK / size_C1)
    product_KA = unit_UK.T @ answers_UA - sum_CK.T @ (sum_CA / size_C1)
    return np.linalg.solve(gram_KK + RIDGE * np.eye(len(gram_KK)), product_KA), gram_KK


def answer_indicators(pairs: Pairs) -> tuple[Matrix, Ints]:
    """Return whether each profile has each answer, `[U, A]`, and the number of each answer's question.

    The first is standardised over the profiles with the question, and 0 for those without. A question's `none` is no
    answer.
    """
    user_R = np.repeat(np.arange(len(pairs.cut_off_U)), np.diff(pairs.offsets_U1))
    columns, questions = [], []
    for question in range(pairs.question_R.max(initial=-1) + 1):
        pair_X = np.flatnonzero(pairs.question_R == question)
        for answer in np.unique(pairs.answer_R[pair_X][~pairs.is_none_R[pair_X]]):
            has_X = pairs.answer_R[pair_X] == answer
            share = has_X.mean()
            if MIN_ANSWER_SHARE <= share <= 1 - MIN_ANSWER_SHARE:
                column_U = np.zeros(len(pairs.cut_off_U))
                column_U[user_R[pair_X]] = (has_X - share) / np.sqrt(share * (1 - share))
                columns.append(column_U)
                questions.append(question)
    answers_UA = np.stack(columns, axis=1) if columns else np.zeros((len(pairs.cut_off_U), 0))
    return answers_UA, np.array(questions, dtype=np.int64)


def _tf_idf(counts_UV: csr_matrix) -> tuple[Matrix, csr_matrix]:
    """Return the weight of each token, 0 for uninformative ones, and the users' weighted counts."""
    users = counts_UV.shape[0]
    users_V = np.asarray((counts_UV > 0).sum(axis=0)).ravel()
    informative_V = (users_V >= MIN_PROFILES) & (users_V <= MAX_SHARE * users)
    weight_V = np.where(informative_V, np.log(users / (1 + users_V)).clip(min=0), 0)
    log_counts_UV = counts_UV.astype(np.float64)
    log_counts_UV.data = np.log1p(log_counts_UV.data)
    return weight_V, log_counts_UV.multiply(weight_V).tocsr()


def _scaled(directions_VD: Matrix, counts_UV: csr_matrix, width: int, seed: int) -> NDArray[np.float32]:
    """Return vectors of `WORD_SCALE`; a random rotation spreads the directions over all dimensions of the network."""
    rotation_DE = np.linalg.qr(np.random.default_rng(seed).normal(size=(width, width)))[0][: directions_VD.shape[1]]
    vectors_VE = (directions_VD @ rotation_DE).astype(np.float32)
    occurrences_V = np.asarray(counts_UV.sum(axis=0)).ravel()
    scale = np.sqrt((occurrences_V[:, None] * vectors_VE**2).sum() / max(1, occurrences_V.sum() * width))
    return vectors_VE * np.float32(WORD_SCALE / scale) if scale > 0 else vectors_VE
