"""The losses: equations 1 to 5 of the paper, and the loss within a question.

Shapes: N answer tokens of a batch, V vocabulary, Q question-answer pairs, S similarities of a pair (its positive and
its negatives), H width of an embedding, W questions; of a question, Z pairs and C cut-offs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from model.data.arrays import Bools, Ints
from model.training.training_config import AnswerNegatives

LEAST_USERS = 2
"""Users with an answer, and users without it, below which they are not compared."""


@dataclass(frozen=True, kw_only=True)
class Losses:
    """The terms of a loss by name, and their weighted sum, each a scalar."""

    total: Tensor
    terms: Mapping[str, Tensor]


def joint_loss(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Losses:
    """Return the weighted sum of eq. 5, L = a_lm L_lm + a_cl L_cl, over all terms, and the terms."""
    total = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
    return Losses(total=total, terms=terms)


def language_loss(logits_NV: Tensor, tokens_N: Tensor, tokens: int | None = None) -> Tensor:
    """Return eq. 1, the mean over the batch's answer tokens of -log p(y_t | y_<t, user, instruction).

    For a sub-batch, `tokens` is the number of answer tokens of the whole batch; the losses of its sub-batches then
    add up to the batch's. It is 0 without tokens.
    """
    return F.cross_entropy(logits_NV.float(), tokens_N, reduction="sum") / max(1, tokens or len(tokens_N))


def contrastive_loss(
    users_QH: Tensor,
    answers_QH: Tensor,
    answer_Q: Tensor,
    *,
    temperature: float = 0.07,
    margin: float = 0.1,
    mask_same_answers: bool = True,
    answer_negatives: AnswerNegatives = "answers",
) -> Tensor:
    """Return eqs 2 to 4: InfoNCE from user to answer, with user-answer, user-user and answer-answer negatives.

    Parameters
    ----------
    users_QH, answers_QH
        L2-normalised embeddings of the pairs' users and answers.
    answer_Q
        The number of each pair's answer text; equal texts have equal numbers.
    temperature, margin
        tau of eqs 2 and 3; the margin of eq. 4, above which a negative counts as a false one.
    mask_same_answers
        Also drop the user-answer and answer-answer negatives of pairs with the same answer text. Eq. 4 never
        drops them, since their similarity equals the positive's or 1; templated answers make them many.
    answer_negatives
        `users` puts the pair's answer beside the other users, s(a_i, u_j), in place of answer-answer: not the
        paper's eq. 3 but its follow-up's code.
    """
    user_answer_QQ = users_QH @ answers_QH.T
    user_user_QQ = users_QH @ users_QH.T
    of_answer_QQ = user_answer_QQ.T if answer_negatives == "users" else answers_QH @ answers_QH.T
    positive_Q1 = user_answer_QQ.diagonal()[:, None]

    itself_QQ = torch.eye(len(users_QH), dtype=torch.bool, device=users_QH.device)
    same_QQ = answer_Q[:, None] == answer_Q[None, :] if mask_same_answers else itself_QQ
    ceiling_Q1 = positive_Q1.detach() + margin

    def negatives(similarity_QQ: Tensor, dropped_QQ: Tensor) -> Tensor:
        false_QQ = similarity_QQ.detach() > ceiling_Q1  # eq. 4, each similarity by itself
        return similarity_QQ.masked_fill(dropped_QQ | false_QQ, -torch.inf)

    similarity_QS = torch.cat(
        [
            positive_Q1,
            negatives(user_answer_QQ, itself_QQ | same_QQ),
            negatives(user_user_QQ, itself_QQ),
            negatives(of_answer_QQ, itself_QQ | same_QQ),
        ],
        dim=1,
    )
    log_z_Q = torch.logsumexp(similarity_QS.float() / temperature, dim=1)  # eq. 3
    return (log_z_Q - positive_Q1[:, 0].float() / temperature).mean()  # eq. 2


def within_question_loss(
    users_QH: Tensor, texts_QH: Tensor, *, question_Q: Ints, answer_Q: Ints, compared_Q: Bools, cut_off_Q: Ints
) -> Tensor:
    """Return 1 minus the correlation, within a question, of users' similarity to an answer with whether they have it.

    For each answer, the similarities users @ answer of the question's users are correlated with 1 for users who have
    the answer and 0 for others. From both, the mean over the users of the same cut-off is subtracted. The loss of a
    question is the mean over its answers, and the result is the mean over the questions, weighted by their numbers of
    pairs. An answer is left out where fewer than two users have it, where fewer than two do not, and where at each
    cut-off all users have it or none. Without any answer the loss is 0.

    Parameters
    ----------
    users_QH
        L2-normalised embeddings of the pairs' users.
    texts_QH
        Embeddings of the pairs' answers, or of their instructions; averaged over the pairs with the answer.
    question_Q, answer_Q, cut_off_Q
        The number of each pair's question, of its answer text and of its profile's as_of.
    compared_Q
        Whether the pair's answer is one of those compared. Other pairs are only users without these answers.
    """
    device = users_QH.device
    losses, weights = [(users_QH * 0).sum()], [0]
    for question in np.unique(question_Q[compared_Q]):
        pairs_Z = np.flatnonzero(question_Q == question)
        groups_Z = torch.from_numpy(np.unique(cut_off_Q[pairs_Z], return_inverse=True)[1]).to(device)
        terms = []
        for answer in np.unique(answer_Q[pairs_Z][compared_Q[pairs_Z]]):
            has_Z = answer_Q[pairs_Z] == answer
            target_Z = _less_group_mean(torch.from_numpy(has_Z).to(device, torch.float32), groups_Z)
            if min(has_Z.sum(), (~has_Z).sum()) < LEAST_USERS or not target_Z.any():
                continue
            text_H = texts_QH[torch.from_numpy(pairs_Z[has_Z]).to(device)].mean(0)
            similarity_Z = (users_QH[torch.from_numpy(pairs_Z).to(device)] @ text_H).float()
            terms.append(1 - F.cosine_similarity(_less_group_mean(similarity_Z, groups_Z), target_Z, dim=0))
        if terms:
            losses.append(torch.stack(terms).mean())
            weights.append(len(pairs_Z))
    weight_W = torch.tensor(weights, device=device)
    return (torch.stack(losses) * weight_W).sum() / max(1, sum(weights))


def _less_group_mean(values_Z: Tensor, groups_Z: Tensor) -> Tensor:
    """Return the values less the mean of their group."""
    count_C = torch.bincount(groups_Z)
    sum_C = values_Z.new_zeros(len(count_C)).index_add(0, groups_Z, values_Z)
    return values_Z - (sum_C / count_C)[groups_Z]
