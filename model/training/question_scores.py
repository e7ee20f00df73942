"""How well a network answers its own questions: AUC of the answers on the validation split.

A user's score for an answer is the similarity of the universal embedding and the answer's embedding. Users of the same
cut-off are compared: those who have the answer with those who were asked and do not.

Shapes: U profiles of the split, A answers of a question, P profiles with a question, H width of an embedding.
"""

from __future__ import annotations

import numpy as np
import torch

from model.data.arrays import Floats
from model.data.text import Tokenizers
from model.network.network import InstructUE
from model.network.tensors import Texts
from model.training.dataset import TrainingDataset
from model.training.ranking import count_pairs
from model.training.universal import sample_profiles, universal_embeddings

QuestionScores = dict[str, dict[str, float]]
"""By the question's name: its `auc` and the number of `users` who were asked."""


@torch.no_grad()
def score_questions(
    network: InstructUE, dataset: TrainingDataset, texts: Texts, tokenizers: Tokenizers, seed: int = 0
) -> QuestionScores:
    """Return the AUC of each question's answers over a sample of a split's profiles.

    The AUC is over all pairs of users of one cut-off, one with the answer and one without, and over all answers of the
    question except its `none`. A question without such a pair has no entry.
    """
    users_U = sample_profiles(dataset, seed)
    if not len(users_U):
        return {}
    universal_UH = universal_embeddings(network.eval(), dataset, texts, users_U, tokenizers.user).cpu().numpy()
    place_of_profile = np.full(len(dataset.profiles), -1)
    place_of_profile[users_U] = np.arange(len(users_U))
    pairs = dataset.pairs
    place_R = np.repeat(place_of_profile, np.diff(pairs.offsets_U1))
    scores = {}
    for question, name in enumerate(pairs.questions):
        pair_X = np.flatnonzero((pairs.question_R == question) & (place_R >= 0))
        answers_A = np.unique(pairs.answer_R[pair_X][~pairs.is_none_R[pair_X]])
        if not len(answers_A):
            continue
        answers_AH = network.encode_answers(dataset.answer_ids, answers_A).float().cpu().numpy()
        profile_P, has_PA = _answered(place_R[pair_X], pairs.answer_R[pair_X], answers_A)
        cut_off_P = pairs.cut_off_U[users_U[profile_P]]
        if (score := _auc(universal_UH[profile_P] @ answers_AH.T, has_PA, cut_off_P)) is not None:
            scores[name] = {"auc": round(score, 4), "users": len(profile_P)}
    return scores


def _answered(profile_X: np.ndarray, answer_X: np.ndarray, answers_A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the profiles with a question, and whether each has each answer, bool `[P, A]`."""
    profile_P, row_X = np.unique(profile_X, return_inverse=True)
    has_PA = np.zeros((len(profile_P), len(answers_A)), bool)
    is_content_X = np.isin(answer_X, answers_A)
    has_PA[row_X[is_content_X], np.searchsorted(answers_A, answer_X[is_content_X])] = True
    return profile_P, has_PA


def _auc(similarity_PA: Floats, has_PA: np.ndarray, cut_off_P: np.ndarray) -> float | None:
    ordered, pairs = 0.0, 0
    for cut_off in np.unique(cut_off_P):
        rows = cut_off_P == cut_off
        for answer in range(has_PA.shape[1]):
            counts = count_pairs(has_PA[rows, answer], similarity_PA[rows, answer])
            ordered, pairs = ordered + counts.ordered, pairs + counts.pairs
    return ordered / pairs if pairs else None
