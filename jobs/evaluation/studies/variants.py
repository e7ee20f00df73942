"""Variants of a deployment's network and training: those of the paper's Table 3, and those of our own switches.

`VARIANTS` is the registry: a name, a description and the change of the deployment's plan.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pyarrow as pa

from jobs.config.deployment import Deployment
from jobs.training.training_inputs import network_config, training_config, training_inputs
from model.data.config import EventSource, NetworkConfig, Tabular
from model.data.rendering import render
from model.training.training_config import TrainingConfig

TEXT = "text"
TEXT_TOKENS = 1024
"""The maximum number of tokens of a profile as plain text, because attention grows with their square. Longer profiles
keep the same share of each source, its last events."""
TEXT_PROFILES = 16
"""The batch size of profiles as plain text, whose attention needs more memory."""
HEAD = 128
"""The width of a vector in the follow-up's code."""
MARGIN_OFF = 2.0
"""Cosines differ by at most 2, so equation 4 masks nothing with this margin."""
CONTRASTIVE_OFF: dict[str, Any] = {"weight_cl": 0.0, "weight_within_question": 0.0, "weight_instruction_text": 0.0}
"""The weights of all losses that compare embeddings."""
PAPER_LOSSES: dict[str, Any] = CONTRASTIVE_OFF | {
    "weight_lm": 1.0,
    "weight_cl": 1.0,
    "instructed_pairs": 3,
    "general_pairs": 1,
    "universal_pairs": 0,
    "shared_questions": False,
}
"""Equations 1 to 5 alone, and the pairs of a profile that they need."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A network to train, and its inputs.

    Attributes
    ----------
    rendered
        The network whose sources and columns are rendered as one plain text for each profile; None: no rendering.
    left_out
        Instructions whose pairs are left out of training.
    """

    config: NetworkConfig
    training: TrainingConfig
    rendered: NetworkConfig | None = None
    left_out: tuple[str, ...] = ()

    @classmethod
    def of(cls, deployment: Deployment, steps: int | None = None) -> Plan:
        """Return the plan of `instructue train`."""
        return cls(config=network_config(deployment), training=training_config(deployment, steps))

    def inputs(self, deployment: Deployment, versions: Mapping[str, int], seed: int) -> dict[str, Any]:
        """Return all inputs that decide the training; an unchanged plan has those of `instructue train`."""
        inputs = training_inputs(deployment, self.config, self.training, versions, seed)
        if self.rendered is not None:
            inputs["rendered"] = json.loads(self.rendered.to_json())
        if self.left_out:
            inputs["left_out"] = list(self.left_out)
        return inputs

    def profiles(self, table: pa.Table) -> pa.Table:
        """Return rows of `user_profiles` in the form that this network reads."""
        return table if self.rendered is None else as_text(table, self.rendered)

    @property
    def batch_size(self) -> int:
        """Return the number of profiles to embed at once."""
        return 128 if self.rendered is None else TEXT_PROFILES


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A row of the table of ablations.

    `of` changes the plan of the deployment file; `paper` marks a row of the paper's Table 3.
    """

    name: str
    description: str
    of: Callable[[Plan, Deployment], Plan]
    paper: bool = False


def as_text(table: pa.Table, config: NetworkConfig) -> pa.Table:
    """Return profiles with one event each, the profile as plain text (`model.data.rendering`)."""
    event = pa.struct([("text", pa.string()), ("gap", pa.int32())])
    events = [[{TEXT: text, "gap": None}] for text in render(table, config)]
    ages = pa.array([{TEXT: None}] * len(table), pa.struct([(TEXT, pa.int32())]))
    return (
        table.select(["user_id", "as_of", "profile_hash"])
        .append_column(TEXT, pa.array(events, pa.list_(event)))
        .append_column("ages", ages)
    )


def _full(plan: Plan, deployment: Deployment) -> Plan:
    return plan


def _text_only(plan: Plan, deployment: Deployment) -> Plan:
    tokens = sum(source.max_events * source.max_tokens for source in plan.config.sources)
    share = min(1.0, TEXT_TOKENS / tokens) if tokens else 1.0
    shortened = tuple(
        replace(source, max_events=max(1, int(share * source.max_events))) for source in plan.config.sources
    )
    source = EventSource(name=TEXT, max_events=1, max_tokens=TEXT_TOKENS)
    return replace(
        plan,
        rendered=replace(plan.config, sources=shortened),
        config=replace(
            plan.config, sources=(source,), tabular=Tabular(), reading="tokens", pooled_tokens=False, time_bands=False
        ),
    )


def _without_sequences(plan: Plan, deployment: Deployment) -> Plan:
    """Remove the sources and their aggregates, which are computed from events."""
    computed = {aggregate.name for aggregate in deployment.aggregates}
    tabular = plan.config.tabular
    kept = Tabular(
        numbers=tuple(number for number in tabular.numbers if number.name not in computed),
        categories=tuple(category for category in tabular.categories if category.name not in computed),
    )
    return replace(plan, config=replace(plan.config, sources=(), tabular=kept))


def _network(plan: Plan, deployment: Deployment, **changes: Any) -> Plan:
    return replace(plan, config=replace(plan.config, **changes))


def _training(plan: Plan, deployment: Deployment, **changes: Any) -> Plan:
    return replace(plan, training=replace(plan.training, **changes))


def _without_contrastive(plan: Plan, deployment: Deployment) -> Plan:
    """Remove every loss that compares embeddings; the language loss then reads the pairs that remain."""
    weight = plan.training.weight_lm or 1.0
    pairs = max(1, plan.training.instructed_pairs)
    return _training(plan, deployment, **CONTRASTIVE_OFF, weight_lm=weight, instructed_pairs=pairs, universal_pairs=0)


VARIANTS: dict[str, Variant] = {
    variant.name: variant
    for variant in (
        Variant(
            name="text-only",
            paper=True,
            of=_text_only,
            description=f"the profile as one plain text of {TEXT_TOKENS:,} tokens at most, and no event encoder",
        ),
        Variant(
            name="without-sequences",
            paper=True,
            of=_without_sequences,
            description="no event source, and no aggregate of one: the attributes alone",
        ),
        Variant(
            name="without-tabular",
            paper=True,
            of=partial(_network, tabular=Tabular()),
            description="no attribute and no aggregate: the event sources alone",
        ),
        Variant(
            name="without-next-token",
            paper=True,
            of=partial(_training, weight_lm=0.0),
            description="the losses that compare embeddings alone (a_lm = 0 in eq. 5)",
        ),
        Variant(
            name="without-contrastive",
            paper=True,
            of=_without_contrastive,
            description="next-token loss alone (a_cl = 0 in eq. 5, and no loss within a question)",
        ),
        Variant(
            name="average-pooling",
            paper=True,
            of=partial(_network, readout="mean"),
            description="the mean of the last hidden states of all user and instruction tokens",
        ),
        Variant(name="full", paper=True, of=_full, description="as the deployment file says"),
        Variant(
            name="without-pooled-tokens",
            of=partial(_network, pooled_tokens=False),
            description="no token of a source's or the user's mean event vector",
        ),
        Variant(
            name="without-time-bands",
            of=partial(_network, time_bands=False),
            description="no gaps between events and no age of the last one",
        ),
        Variant(
            name="linear-adapter",
            of=partial(_network, adapter="linear"),
            description="a single Linear in place of LayerNorm, Linear, GELU, Linear",
        ),
        Variant(
            name="shared-encoder",
            of=partial(_network, shared_encoder=True),
            description="one event encoder for all sources",
        ),
        Variant(
            name="with-head",
            of=partial(_network, head=HEAD),
            description=f"a vector is a Linear's {HEAD} numbers, as in the follow-up's code",
        ),
        Variant(
            name="paper-losses",
            of=partial(_training, **PAPER_LOSSES),
            description="equations 1 to 5 alone, on 3 instructed pairs and 1 general one of a profile",
        ),
        Variant(
            name="without-instruction-text",
            of=partial(_training, weight_instruction_text=0.0),
            description="the loss within a question reads answers alone, and no text of an instruction",
        ),
        Variant(
            name="without-focus",
            of=partial(_network, focus=None),
            description="vectors at an instruction's `<USER>`, neither centred nor stretched",
        ),
        Variant(
            name="warm-start-questions",
            of=partial(_training, warm_start="questions"),
            description="a warm start by the words that predict the answers",
        ),
        Variant(name="without-margin", of=partial(_training, margin=MARGIN_OFF), description="eq. 4 masks no negative"),
        Variant(
            name="without-answer-mask",
            of=partial(_training, mask_same_answers=False),
            description="pairs with the same answer text are each other's negatives",
        ),
        Variant(
            name="without-warm-start",
            of=partial(_training, warm_start=False),
            description="fresh weights without a warm start",
        ),
        Variant(
            name="tabular-attention",
            of=partial(_training, tabular_attention=16.0),
            description="the tabular token starts with 16 times the attention of another",
        ),
    )
}
