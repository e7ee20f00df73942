"""The cost of embedding: the texts that the encoders read, the tokens of the language model, bytes and seconds.

The profiles of two neighbouring days are compared; embed works on the users whose profile differs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

from pyspark.sql import DataFrame

from feature_repo.vectors import DTYPE
from jobs.config.deployment import UNIVERSAL, Deployment
from jobs.lake import run_log
from jobs.lake.handoff import EmbedHandoff
from jobs.lake.run_log import Run
from jobs.operations.profile_counts import count_texts, count_users
from jobs.training import registry
from jobs.training.training_inputs import network_config
from model.data.config import NetworkConfig
from model.data.text import Tokenizers
from model.serving.release import NETWORK

FLOAT32 = 4
"""Bytes of a value in `user_embeddings`."""


@dataclass(frozen=True, kw_only=True)
class Texts:
    """The event texts of a source in the day's profiles; lengths are in the unit of `Tokens`."""

    used: int
    distinct: int
    read: int
    """Total length of the used texts, repeats included."""
    encoded: int
    """Total length of the distinct texts, which is what the encoder reads."""
    saved: float
    """Share of the length that reading each text once saves."""
    longest: int
    """Length of the longest text, before `max_tokens` truncates it."""
    max_tokens: int
    cut: int
    """Distinct texts that `max_tokens` truncates; a lower bound where lengths are in words."""


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """The distribution of a number of tokens over the users; None where there are no users."""

    mean: float | None
    median: float | None
    high: float | None
    """The 95th percentile."""
    most: int | None
    possible: int
    """Tokens of a user with `max_events` in every source."""


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """The tokens of a user that the language model reads."""

    unit: Literal["tokens", "words"]
    """Unit of texts and instructions: words where there is no tokenizer. A word is at least one token."""
    tokenizer: str | None
    """The folder of the release or checkpoint with the tokenizer."""
    profile: Distribution
    """Pooled, boundary, event and tabular tokens."""
    instructions: dict[str, int]
    """Per scenario, `<USER>` included; with the focus `universal` only universal's, which all scenarios share."""
    whole: Distribution
    """The profile and every instruction, which one forward pass reads."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The cost of embedding some users in every scenario."""

    users: int
    vectors: int
    texts: int
    """Distinct texts of their profiles."""
    encoder: int
    """Total length of these texts, each read once, in the unit of `Tokens`."""
    language_model: int
    """Tokens that the language model reads."""
    user_embeddings_bytes: int
    """Bytes of the vectors alone, as in the next two fields."""
    user_vectors_bytes: int
    online_bytes: int
    """Bytes written to the online store, where a row replaces the user's former one."""
    seconds: float | None
    """Seconds of embed; None where no earlier run gives the time per user."""
    measured: str | None
    """The run that gives it."""


@dataclass(frozen=True, kw_only=True)
class CostEstimate:
    """The work of embed on a day."""

    users: int
    """Eligible users."""
    changed: int
    """Eligible users whose profile differs from the day before's, new users included."""
    new: int
    deactivated: int
    """Users of the day before who are no longer eligible."""
    texts: dict[str, Texts]
    """Per source."""
    new_texts: int
    """Distinct texts that are in no profile of the day before."""
    tokens: Tokens
    everyone: Cost
    """All users: the first day, and the first day of every model."""
    day: Cost
    """The changed users."""


def estimate_costs(rows: DataFrame, deployment: Deployment, before: date, as_of: date) -> CostEstimate:
    """Return the work of embed on a day.

    Parameters
    ----------
    rows : DataFrame
        Columns of `user_profiles` except `day`: every eligible user's profile at `before` and at `as_of`.

    Raises
    ------
    TokenizerError
        The release's or checkpoint's tokenizer cannot be read.
    """
    folder = tokenizers_folder(deployment)
    users, texts = count_users(rows, deployment, before, as_of), count_texts(rows, deployment, before, as_of, folder)
    tokens = _tokens(deployment, users, folder)
    costs = _Costs(
        values=len(deployment.scenario_names) * _width(deployment, folder),
        fixed_tokens=network_config(deployment).fixed_tokens + sum(tokens.instructions.values()),
        scenarios=len(deployment.scenario_names),
        texts=texts,
        runs=[run for run in run_log.read_runs(deployment, "embed") if run.status == "ok"],
    )
    return CostEstimate(
        users=users["users"],
        changed=users["changed"],
        new=users["new"],
        deactivated=users["deactivated"],
        texts={source.name: _source_texts(texts[source.name], source.max_tokens) for source in deployment.sources},
        new_texts=sum(row["new"] for row in texts.values()),
        tokens=tokens,
        everyone=costs.of(users["users"], users["events"], "distinct", "encoded"),
        day=costs.of(users["changed"], users["changed_events"], "changed", "changed_length"),
    )


def tokenizers_folder(deployment: Deployment) -> Path | None:
    """Return the current release, or else the current checkpoint; None where neither exists."""
    if registry.has_current_release(deployment):
        return registry.current_release(deployment)
    if registry.has_current_checkpoint(deployment):
        return registry.current_checkpoint(deployment)
    return None


def _width(deployment: Deployment, folder: Path | None) -> int:
    """Return the width of an embedding; that of a pretrained backbone is known once it was trained."""
    config = network_config(deployment)
    for path in () if folder is None else (folder / NETWORK, folder / "config.json"):
        if path.exists():
            config = NetworkConfig.from_json(path.read_text(encoding="utf-8"))
    return config.embedding_width


@dataclass(frozen=True, kw_only=True)
class _Costs:
    """The inputs that the cost of any number of users depends on."""

    values: int
    """Floats of a user's vectors."""
    fixed_tokens: int
    """Tokens of a user beside the events."""
    scenarios: int
    texts: Mapping[str, Mapping[str, int]]
    runs: Sequence[Run]
    """Runs of embed."""

    def of(self, users: int, events: int, texts: str, length: str) -> Cost:
        """Return the cost of so many users; `texts` and `length` name counts of `count_texts`."""
        values = users * self.values
        seconds, measured = _seconds(users, self.runs)
        return Cost(
            users=users,
            vectors=users * self.scenarios,
            texts=sum(row[texts] for row in self.texts.values()),
            encoder=sum(row[length] for row in self.texts.values()),
            language_model=users * self.fixed_tokens + events,
            user_embeddings_bytes=values * FLOAT32,
            user_vectors_bytes=values * DTYPE.itemsize,
            online_bytes=values * DTYPE.itemsize,
            seconds=seconds,
            measured=measured,
        )


def _seconds(users: int, runs: Sequence[Run]) -> tuple[float | None, str | None]:
    """Return the seconds of embed for so many users, and the run that gives the time per user.

    It is the run with the nearest number of users, because a run also has costs that do not depend on the users.
    """
    finished = [
        (embedded, (run.finished_at - run.started_at).total_seconds(), run.day)
        for run in runs
        if run.finished_at and (embedded := run.handoff(EmbedHandoff).embedded)
    ]
    if not users or not finished:
        return None, None
    embedded, seconds, day = min(reversed(finished), key=lambda run: abs(math.log(run[0] / users)))
    return users * seconds / embedded, f"embed for {day}: {embedded:,} users in {seconds:.1f} s"


def _source_texts(count: Mapping[str, int], max_tokens: int) -> Texts:
    saved = 1 - count["encoded"] / count["read"] if count["read"] else 0.0
    return Texts(
        **{name: count[name] for name in ("used", "distinct", "read", "encoded", "longest", "cut")},
        saved=saved,
        max_tokens=max_tokens,
    )


def _tokens(deployment: Deployment, users: Mapping[str, Any], folder: Path | None) -> Tokens:
    config = network_config(deployment)
    texts = {UNIVERSAL: None} if config.focus == "universal" else registry.scenario_instructions(deployment)
    if folder is None:
        lengths = [len((text or "").split()) + 1 for text in texts.values()]
    else:
        lengths = Tokenizers.load(folder).instruction_ids([*texts.values()]).lengths.tolist()
    max_events = sum(source.max_events for source in config.sources)
    return Tokens(
        unit="words" if folder is None else "tokens",
        tokenizer=None if folder is None else folder.name,
        profile=_distribution(users, config.fixed_tokens, max_events),
        instructions=dict(zip(texts, lengths, strict=True)),
        whole=_distribution(users, config.fixed_tokens + sum(lengths), max_events),
    )


def _distribution(users: Mapping[str, Any], fixed: int, max_events: int) -> Distribution:
    """Return the distribution of the users' events plus a fixed number of tokens."""
    possible = fixed + max_events
    if not users["users"]:
        return Distribution(mean=None, median=None, high=None, most=None, possible=possible)
    median, high = users["quantiles"]
    return Distribution(
        mean=fixed + users["mean"],
        median=fixed + median,
        high=fixed + high,
        most=fixed + users["most"],
        possible=possible,
    )
