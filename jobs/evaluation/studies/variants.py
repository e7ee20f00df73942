"""Variants of a deployment's network and training: what the paper's Table 3 leaves out, and what our own switches do.

`VARIANTS` is the table: a name, what it is, and how the plan of the deployment file changes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pyarrow as pa

from jobs.config.deployment import Deployment
from jobs.training.train import network_config, training_config, training_inputs
from model.data.config import EventSource, NetworkConfig, Tabular
from model.data.rendering import render
from model.training.training_config import TrainingConfig

TEXT = "text"
TEXT_TOKENS = 1024
"""Tokens of a profile as plain text that the language model reads: attention grows with their square. Where the sources
may have more, the same share of each is kept, its last events."""
TEXT_PROFILES = 16
"""Profiles that are embedded at once as plain text: attention's memory grows with the square of the tokens."""
HEAD = 128
"""Numbers of a vector in the follow-up's code."""
MARGIN_OFF = 2.0
"""Cosines differ by 2 at most, so equation 4 then masks nothing."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A network to train, and what it reads.

    Attributes
    ----------
    rendered
        Profiles become one plain text each, of this network's sources and columns; None: they stay as they are.
    left_out
        Instructions whose pairs are not trained on.
    """

    config: NetworkConfig
    training: TrainingConfig
    rendered: NetworkConfig | None = None
    left_out: tuple[str, ...] = ()

    @classmethod
    def of(cls, deployment: Deployment, steps: int | None = None) -> Plan:
        """What `instructue train` does."""
        return cls(config=network_config(deployment), training=training_config(deployment, steps))

    def inputs(self, deployment: Deployment, versions: Mapping[str, int], seed: int) -> dict[str, Any]:
        """Everything that decides the training; those of `instructue train` where nothing is changed."""
        decides = training_inputs(deployment, self.config, self.training, versions, seed)
        if self.rendered is not None:
            decides["rendered"] = json.loads(self.rendered.to_json())
        if self.left_out:
            decides["left_out"] = list(self.left_out)
        return decides

    def profiles(self, table: pa.Table) -> pa.Table:
        """Rows of `user_profiles` as this network reads them."""
        return table if self.rendered is None else as_text(table, self.rendered)

    @property
    def batch_size(self) -> int:
        """Profiles to embed at once."""
        return 128 if self.rendered is None else TEXT_PROFILES


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A row of the table of ablations; `of` changes the plan of the deployment file."""

    name: str
    says: str
    of: Callable[[Plan, Deployment], Plan]
    paper: bool = False
    """Whether it stands in the paper's Table 3."""


def as_text(table: pa.Table, config: NetworkConfig) -> pa.Table:
    """Profiles of one event each, the whole profile as plain text (`model.data.rendering`)."""
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
    whole = sum(source.max_events * source.max_tokens for source in plan.config.sources)
    share = min(1.0, TEXT_TOKENS / whole) if whole else 1.0
    shown = tuple(replace(source, max_events=max(1, int(share * source.max_events))) for source in plan.config.sources)
    source = EventSource(name=TEXT, max_events=1, max_tokens=TEXT_TOKENS)
    return replace(
        plan,
        rendered=replace(plan.config, sources=shown),
        config=replace(
            plan.config, sources=(source,), tabular=Tabular(), reading="tokens", pooled_tokens=False, time_bands=False
        ),
    )


def _without_sequences(plan: Plan, deployment: Deployment) -> Plan:
    """Aggregates are made of the events, so they go too."""
    computed = {aggregate.name for aggregate in deployment.aggregates}
    numbers = tuple(number for number in plan.config.tabular.numbers if number.name not in computed)
    return replace(plan, config=replace(plan.config, sources=(), tabular=replace(plan.config.tabular, numbers=numbers)))


def _network(plan: Plan, deployment: Deployment, **changes: Any) -> Plan:
    return replace(plan, config=replace(plan.config, **changes))


def _training(plan: Plan, deployment: Deployment, **changes: Any) -> Plan:
    return replace(plan, training=replace(plan.training, **changes))


VARIANTS: dict[str, Variant] = {
    variant.name: variant
    for variant in (
        Variant(
            name="text-only",
            paper=True,
            of=_text_only,
            says=f"the profile as one plain text of {TEXT_TOKENS:,} tokens at most, and no event encoder",
        ),
        Variant(
            name="without-sequences",
            paper=True,
            of=_without_sequences,
            says="no event source, and no aggregate of one: the attributes alone",
        ),
        Variant(
            name="without-tabular",
            paper=True,
            of=partial(_network, tabular=Tabular()),
            says="no attribute and no aggregate: the event sources alone",
        ),
        Variant(
            name="without-next-token",
            paper=True,
            of=partial(_training, weight_lm=0.0),
            says="contrastive loss alone (a_lm = 0 in eq. 5)",
        ),
        Variant(
            name="without-contrastive",
            paper=True,
            of=partial(_training, weight_cl=0.0),
            says="next-token loss alone (a_cl = 0 in eq. 5)",
        ),
        Variant(
            name="average-pooling",
            paper=True,
            of=partial(_network, readout="mean"),
            says="the mean of the last hidden states of all user and instruction tokens",
        ),
        Variant(name="full", paper=True, of=_full, says="as the deployment file says"),
        Variant(
            name="without-pooled-tokens",
            of=partial(_network, pooled_tokens=False),
            says="no token of a source's or the user's mean event vector",
        ),
        Variant(
            name="without-time-bands",
            of=partial(_network, time_bands=False),
            says="no gaps between events and no age of the last one",
        ),
        Variant(
            name="linear-adapter",
            of=partial(_network, adapter="linear"),
            says="a single Linear in place of LayerNorm, Linear, GELU, Linear",
        ),
        Variant(
            name="shared-encoder", of=partial(_network, shared_encoder=True), says="one event encoder for all sources"
        ),
        Variant(
            name="with-head",
            of=partial(_network, head=HEAD),
            says=f"a vector is a Linear's {HEAD} numbers, as in the follow-up's code",
        ),
        Variant(name="without-margin", of=partial(_training, margin=MARGIN_OFF), says="eq. 4 masks no negative"),
        Variant(
            name="without-answer-mask",
            of=partial(_training, mask_same_answers=False),
            says="pairs with the same answer text are each other's negatives",
        ),
        Variant(
            name="without-warm-start", of=partial(_training, warm_start=False), says="fresh weights as they were drawn"
        ),
        Variant(
            name="tabular-attention",
            of=partial(_training, tabular_attention=16.0),
            says="the tabular token starts with 16 times the attention of another",
        ),
    )
}
