"""Each term against its equation written out, one similarity at a time."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from model.training.losses import contrastive_loss, joint_loss, language_loss, within_question_loss

TAU, MARGIN = 0.07, 0.1


def unit_vectors(count: int, seed: int) -> torch.Tensor:
    vectors = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return F.normalize(vectors, dim=-1)


def literal_contrastive(
    users: np.ndarray,
    answers: np.ndarray,
    answer: list[int],
    margin: float,
    mask_same: bool,
    tau: float = TAU,
    answer_negatives: str = "answers",
) -> tuple[float, int]:
    """Eqs 2 to 4 as three sums over j; also how many negatives eq. 4 or equal answers dropped."""
    others = {"answers": answers, "users": users}[answer_negatives]
    total, dropped = 0.0, 0
    for i in range(len(users)):
        positive = users[i] @ answers[i]
        z = math.exp(positive / tau)
        for j in range(len(users)):
            if j == i:
                continue
            for kind, similarity in (
                ("user-answer", users[i] @ answers[j]),
                ("user-user", users[i] @ users[j]),
                ("answer's", answers[i] @ others[j]),
            ):
                same = mask_same and kind != "user-user" and answer[i] == answer[j]
                if similarity > positive + margin or same:
                    dropped += 1
                else:
                    z += math.exp(similarity / tau)
        total -= math.log(math.exp(positive / tau) / z)
    return total / len(users), dropped


@pytest.mark.parametrize("mask_same", [True, False])
@pytest.mark.parametrize("margin", [-0.2, 0.0, MARGIN, 2.0])
@pytest.mark.parametrize("tau", [TAU, 0.5])
@pytest.mark.parametrize("answer_negatives", ["answers", "users"])
def test_contrastive_loss_is_its_three_sums(mask_same: bool, margin: float, tau: float, answer_negatives: str) -> None:
    answer = [0, 1, 0, 2, 3, 1, 4]
    users, answers = unit_vectors(7, seed=1), unit_vectors(5, seed=2)[answer]
    expected, dropped = literal_contrastive(
        users.numpy(), answers.numpy(), answer, margin, mask_same, tau, answer_negatives
    )
    assert (dropped > 0) == (mask_same or margin < 2)

    loss = contrastive_loss(
        users,
        answers,
        torch.tensor(answer),
        temperature=tau,
        margin=margin,
        mask_same_answers=mask_same,
        answer_negatives=answer_negatives,
    )
    assert loss.item() == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("answer_negatives", ["answers", "users"])
def test_gradients_are_those_of_the_three_sums(answer_negatives: str) -> None:
    """By finite differences of the literal sums: a mask or a ceiling must not carry a gradient of its own."""
    answer = [0, 1, 0, 2]
    users, answers = unit_vectors(4, seed=5), unit_vectors(3, seed=6)[answer]
    leaves = [users.clone().requires_grad_(), answers.clone().requires_grad_()]
    contrastive_loss(*leaves, torch.tensor(answer), answer_negatives=answer_negatives).backward()
    for place, leaf in enumerate(leaves):
        for row, column in np.ndindex(4, 4):
            sides = []
            for step in (1e-4, -1e-4):
                moved = [users.numpy().copy(), answers.numpy().copy()]
                moved[place][row, column] += step
                sides.append(literal_contrastive(*moved, answer, MARGIN, True, answer_negatives=answer_negatives)[0])
            slope = (sides[0] - sides[1]) / 2e-4
            assert leaf.grad[row, column].item() == pytest.approx(slope, abs=1e-4)


def test_equal_answers_count_only_among_users_when_masked() -> None:
    users = unit_vectors(3, seed=3)
    answers = unit_vectors(1, seed=4).expand(3, -1)
    alike = torch.tensor([0, 0, 0])
    masked = contrastive_loss(users, answers, alike, margin=2.0)
    assert masked.item() < contrastive_loss(users, answers, alike, margin=2.0, mask_same_answers=False).item()
    # The other users are the only negatives left.
    similarity = (users @ users.T).masked_fill(torch.eye(3, dtype=torch.bool), -torch.inf)
    positive = (users * answers).sum(-1)
    z = torch.cat([positive[:, None], similarity], dim=1) / 0.07
    assert masked.item() == pytest.approx((z.logsumexp(1) - positive / 0.07).mean().item(), rel=1e-5)


def test_a_false_negative_is_dropped_by_its_own_similarity() -> None:
    """Two users lie closer to each other than either to its answer: eq. 4 drops that pair alone."""
    users = F.normalize(torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.01, 0.0]]), dim=-1)
    answers = F.normalize(torch.tensor([[0.5, 1.0, 0.0], [0.5, -1.0, 0.0]]), dim=-1)
    loss = contrastive_loss(users, answers, torch.tensor([0, 1]), temperature=TAU, margin=MARGIN)
    expected = 0.0
    for i, j in ((0, 1), (1, 0)):
        s = [float(users[i] @ answers[i]), float(users[i] @ answers[j]), float(answers[i] @ answers[j])]
        expected += math.log(sum(math.exp(x / TAU) for x in s)) - s[0] / TAU
    assert loss.item() == pytest.approx(expected / 2, rel=1e-5)


def test_language_loss_is_the_mean_over_tokens() -> None:
    logits = torch.randn(6, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    tokens = [3, 0, 8, 8, 1, 5]
    literal = [
        -math.log(math.exp(row[t]) / sum(math.exp(x) for x in row))
        for row, t in zip(logits.tolist(), tokens, strict=True)
    ]
    assert language_loss(logits, torch.tensor(tokens)).item() == pytest.approx(np.mean(literal), rel=1e-5)
    # The parts of a batch add up to it.
    parts = [language_loss(logits[rows], torch.tensor(tokens)[rows], 6) for rows in (slice(4), slice(4, 6))]
    assert sum(part.item() for part in parts) == pytest.approx(np.mean(literal), rel=1e-5)


def literal_within_question(
    users: np.ndarray, texts: np.ndarray, question: list[int], answer: list[int], compared: list[bool], when: list[int]
) -> tuple[float, int]:
    """1 - correlation of every answer that some users have and some have not, less the cut-off's mean; how many."""
    losses, weights = [], []
    for one in sorted(set(question)):
        own = [i for i, number in enumerate(question) if number == one]
        of_question = []
        for text in sorted({answer[i] for i in own if compared[i]}):
            holders = [i for i in own if answer[i] == text]
            if len(holders) < 2 or len(own) - len(holders) < 2:
                continue
            vector = sum(texts[i] for i in holders) / len(holders)
            likeness = {i: float(users[i] @ vector) for i in own}
            has = {i: float(answer[i] == text) for i in own}
            for values in (likeness, has):
                means = {t: np.mean([values[i] for i in own if when[i] == t]) for t in {when[i] for i in own}}
                for i in own:
                    values[i] -= means[when[i]]
            if any(has.values()):
                both = sum(likeness[i] * has[i] for i in own)
                sizes = sum(x * x for x in likeness.values()) * sum(x * x for x in has.values())
                of_question.append(1 - both / math.sqrt(sizes))
        losses += of_question
        weights += [len(own) / len(of_question) for _ in of_question]
    return float(np.average(losses, weights=weights)), len(losses)


@pytest.mark.parametrize("cut_offs", [1, 3])
def test_the_loss_within_a_question_is_its_correlations(cut_offs: int) -> None:
    rng = np.random.default_rng(0)
    question, answer, when = (rng.integers(0, n, 60).tolist() for n in (5, 4, cut_offs))
    compared = [number > 0 for number in answer]
    for i, number in enumerate(question):
        if number == 4 and answer[i] > 0:
            answer[i] = 10 + i  # each user has an answer of their own: nothing to compare
        if number == 3 and answer[i] == 2:
            answer[i] = 1
    users, texts = unit_vectors(60, seed=1).requires_grad_(), unit_vectors(60, seed=2).requires_grad_()
    arguments = [np.array(values) for values in (question, answer, compared, when)]
    names = ("question_Q", "answer_Q", "compared_Q", "cut_off_Q")
    expected, terms = literal_within_question(
        users.detach().numpy(), texts.detach().numpy(), question, answer, compared, when
    )
    assert terms >= 8
    loss = within_question_loss(users, texts, **dict(zip(names, arguments, strict=True)))
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    of_cut_off = Counter(zip(question, when, strict=True))  # one user of a cut-off is compared with no other
    compared_pairs = {i for i in range(60) if question[i] < 4 and of_cut_off[question[i], when[i]] > 1}
    assert {i for i in range(60) if users.grad[i].any()} == compared_pairs
    holders = Counter(zip(question, answer, strict=True))
    assert {i for i in range(60) if texts.grad[i].any()} == {
        i for i in range(60) if compared[i] and holders[question[i], answer[i]] > 1
    }


def test_users_who_follow_an_answer_have_no_loss_within_its_question() -> None:
    answer = unit_vectors(1, seed=4)
    users = torch.cat([answer, answer, -answer, -answer])
    has, same = np.array([1, 1, 0, 0]), np.zeros(4, int)

    def loss(users: torch.Tensor, cut_off: np.ndarray, has: np.ndarray = has) -> float:
        given = {"question_Q": same, "answer_Q": has, "compared_Q": has > 0, "cut_off_Q": cut_off}
        return within_question_loss(users, answer.expand(4, -1), **given).item()

    assert loss(users, same) == pytest.approx(0, abs=1e-6)
    assert loss(-users, same) == pytest.approx(2)
    assert loss(users, has) == 0  # all users of a cut-off have the answer, or none
    for one_alone in ([1, 0, 0, 0], [1, 1, 1, 0]):
        assert loss(users, same, np.array(one_alone)) == 0


def test_joint_loss_weighs_all_terms() -> None:
    terms = {"language": torch.tensor(2.0), "contrastive": torch.tensor(5.0)}
    losses = joint_loss(terms, {"language": 0.5, "contrastive": 3.0, "within_question": 7.0})
    assert losses.total.item() == 16.0
    assert losses.terms == terms
