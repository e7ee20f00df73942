"""The settings of a training: steps, batches, optimiser and losses, as frozen data that JSON can hold."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import isfinite
from typing import Literal, get_args

from model.errors import ConfigError

AnswerNegatives = Literal["answers", "users"]
Precision = Literal["fp32", "bf16"]
WarmStart = Literal[True, False, "questions"]
LOSS_WEIGHTS = {
    "language": "weight_lm",
    "contrastive": "weight_cl",
    "within_question": "weight_within_question",
    "instruction_text": "weight_instruction_text",
}
"""The setting with the weight of each loss."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """The settings of a training.

    Parameters
    ----------
    steps
        Optimiser steps; 0 leaves the weights as they were initialised.
    profiles_per_step
        Profiles in a batch, over all processes: every pair of a batch is a negative of the others.
    profiles_per_forward
        Profiles of a forward pass in a process; None: its whole share of the batch. Fewer need less memory and a second
        forward pass, and give the same gradients (`model.training.grad_cache`).
    instructed_pairs, general_pairs
        Question-answer pairs with and without an instruction that are sampled for each profile of a batch.
    universal_pairs
        Further pairs of each profile whose answers are compared with the profile's universal vector, in place of an
        instructed one. All of them take one token together, so that a batch can have many; the language loss does not
        read them.
    shared_questions
        Whether all profiles of a batch get the same questions in the same words; those of `universal_pairs` always
        are.
    learning_rate, betas, weight_decay, warmup_steps, max_grad_norm
        AdamW's, under a cosine schedule after a linear warm-up, with gradients clipped to that norm.
    encoder_rate
        The event encoders' learning rate as a share of the others'. 0 freezes them; each distinct text is then
        encoded once and its vector kept in memory. AdamW takes full steps even where gradients are small and
        noisy, as those of the encoders are: at 1, a few hundred steps undo the effect of `warm_start`.
    weight_lm, weight_cl
        a_lm and a_cl of eq. 5. A loss of weight 0 is neither trained nor reported.
    weight_within_question
        The weight of the loss within a question (`model.training.losses`): how well users' similarity to an answer
        agrees with whether they have it. It compares users of the same question only, so a batch needs many users with
        one question (`shared_questions`, `universal_pairs`).
    weight_instruction_text
        The weight of the same loss with the instruction's text in place of the answer, for questions with one answer
        beside `none`.
    center_by_cut_off
        Whether these two losses compare users of the same cut-off only, so that the season is no part of a user.
    temperature, margin
        tau of eq. 2 and the margin of eq. 4; cosines differ by 2 at most, so a margin of 2 turns eq. 4 off.
    answer_negatives
        The negatives of an answer beside its user: the other `answers` (eq. 3), or the other `users`, as in the
        follow-up's code.
    warm_start
        How fresh weights are initialised (`model.training.warm_start`): by the words that occur together (true), by
        the words that predict the answers (`questions`), or at random (false).
    tabular_attention
        The attention of the tabular token before the first step, as a multiple of another token's; more than 1 where
        aggregates are more informative than events.
    mask_same_answers
        Whether pairs with the same answer text are never each other's negatives.
    quantile_bins
        Bins of a number's piecewise-linear code; bins with equal edges are merged.
    max_answer_tokens
        The most tokens of an answer, its `<end>` included.
    validation_profiles, validate_every, save_every
        Validation profiles; steps between two validations, and between two saved states.
    patience
        Validations without a lower loss after which training stops; the checkpoint then holds the weights of the
        lowest loss. None: training does not stop early, and the checkpoint holds the last weights.
    precision
        `bf16` computes in bfloat16 where that is safe (autocast); weights, optimiser and losses stay in fp32.
    gradient_checkpointing
        Whether the backward pass computes layers again instead of keeping their activations: less memory, the same
        gradients.
    """

    steps: int = 1200
    profiles_per_step: int = 128
    profiles_per_forward: int | None = None
    instructed_pairs: int = 4
    general_pairs: int = 1
    universal_pairs: int = 0
    shared_questions: bool = False
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.01
    warmup_steps: int = 50
    max_grad_norm: float = 1.0
    encoder_rate: float = 1.0
    weight_lm: float = 1.0
    weight_cl: float = 1.0
    weight_within_question: float = 0.0
    weight_instruction_text: float = 0.0
    center_by_cut_off: bool = True
    temperature: float = 0.07
    margin: float = 0.1
    answer_negatives: AnswerNegatives = "answers"
    warm_start: WarmStart = True
    tabular_attention: float = 1.0
    mask_same_answers: bool = True
    quantile_bins: int = 12
    max_answer_tokens: int = 64
    validation_profiles: int = 512
    validate_every: int = 200
    save_every: int = 100
    patience: int | None = None
    precision: Precision = "fp32"
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        for name in ("profiles_per_step", "quantile_bins", "validation_profiles", "validate_every", "save_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}: use at least 1")
        for name in ("profiles_per_forward", "patience"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}: use at least 1, or leave it out")
        for name, words in (("answer_negatives", get_args(AnswerNegatives)), ("precision", get_args(Precision))):
            if getattr(self, name) not in words:
                raise ConfigError(f"{name} is {getattr(self, name)!r}: use one of {', '.join(words)}")
        if self.warm_start not in (True, False, "questions"):
            raise ConfigError(f"warm_start is {self.warm_start!r}: use true, false or questions")
        if min(self.steps, self.instructed_pairs, self.general_pairs, self.universal_pairs) < 0:
            raise ConfigError(
                "steps, instructed_pairs, general_pairs and universal_pairs cannot be negative: use 0 or more"
            )
        if self.instructed_pairs + self.general_pairs + self.universal_pairs == 0:
            raise ConfigError(
                "a profile without pairs teaches nothing: raise instructed_pairs, general_pairs or universal_pairs"
            )
        if self.instructed_pairs + self.universal_pairs == 0 and not {"language", "contrastive"} & {*self.loss_weights}:
            raise ConfigError(
                "weight_within_question and weight_instruction_text compare the users of a question, and general_pairs "
                "have none: raise instructed_pairs or universal_pairs"
            )
        if self.instructed_pairs + self.general_pairs == 0 and {*self.loss_weights} == {"language"}:
            raise ConfigError(
                "the language loss does not read universal_pairs: raise instructed_pairs, general_pairs or another "
                "loss's weight"
            )
        for name, value in asdict(self).items():
            numbers = value if isinstance(value, tuple) else (value,)
            if not all(isfinite(number) for number in numbers if isinstance(number, float)):
                raise ConfigError(f"{name} is {value}: use a finite number")
        if self.encoder_rate < 0:
            raise ConfigError(f"encoder_rate is {self.encoder_rate}: use 0 (frozen) or more")
        for name in ("weight_decay", "warmup_steps", *LOSS_WEIGHTS.values()):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}: use 0 or more")
        if not self.loss_weights:
            raise ConfigError(f"all losses have the weight 0: raise one of {', '.join(LOSS_WEIGHTS.values())}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"betas is {self.betas}: use two numbers from 0 to below 1, such as [0.9, 0.98]")
        if self.max_answer_tokens < 2:
            raise ConfigError(f"max_answer_tokens is {self.max_answer_tokens}: use at least 2")
        if self.tabular_attention < 1:
            raise ConfigError(f"tabular_attention is {self.tabular_attention}: use 1 (as any other token) or more")
        for name, usual in (("temperature", 0.07), ("learning_rate", 0.001), ("max_grad_norm", 1)):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}: use a positive one, such as {usual}")

    @property
    def loss_weights(self) -> dict[str, float]:
        """The losses of a training, and their weights."""
        weights = {name: getattr(self, setting) for name, setting in LOSS_WEIGHTS.items()}
        return {name: weight for name, weight in weights.items() if weight}
