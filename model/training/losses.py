"""Equations 1 to 5: the language loss, the contrastive loss and their sum.

Shapes: N answer tokens of a batch, V vocabulary, Q question-answer pairs, H width of an embedding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from model.training.training_config import AnswerNegatives


@dataclass(frozen=True, kw_only=True)
class Losses:
    """The two terms of eq. 5 and their weighted sum, each a scalar."""

    total: Tensor
    language: Tensor
    contrastive: Tensor


def joint_loss(language: Tensor, contrastive: Tensor, *, weight_lm: float, weight_cl: float) -> Losses:
    """Return the weighted sum of eq. 5, L = a_lm L_lm + a_cl L_cl, and its terms."""
    total = weight_lm * language + weight_cl * contrastive
    return Losses(total=total, language=language, contrastive=contrastive)


def language_loss(logits_NV: Tensor, tokens_N: Tensor, tokens: int | None = None) -> Tensor:
    """Return eq. 1, the mean over the batch's answer tokens of -log p(y_t | y_<t, user, instruction).

    For a sub-batch, `tokens` is the number of answer tokens of the whole batch; the losses of its sub-batches then
    add up to the batch's.
    """
    return F.cross_entropy(logits_NV.float(), tokens_N, reduction="sum") / (tokens or len(tokens_N))


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

    similarity_QZ = torch.cat(
        [
            positive_Q1,
            negatives(user_answer_QQ, itself_QQ | same_QQ),
            negatives(user_user_QQ, itself_QQ),
            negatives(of_answer_QQ, itself_QQ | same_QQ),
        ],
        dim=1,
    )
    log_z_Q = torch.logsumexp(similarity_QZ.float() / temperature, dim=1)  # eq. 3
    return (log_z_Q - positive_Q1[:, 0].float() / temperature).mean()  # eq. 2
