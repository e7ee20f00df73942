"""What embedding costs: the texts that the encoders read, the tokens of the language model, bytes and seconds.

Two neighbouring days of profiles are compared: what differs is what embed would do on the later one.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from feature_repo.vectors import DTYPE
from jobs.config.deployment import Deployment
from jobs.lake import run_log
from jobs.lake.handoff import EmbedHandoff
from jobs.lake.run_log import Run
from jobs.lake.spark_tables import midnight_column
from jobs.training import registry
from jobs.training.train import network_config
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
    """Length of all that are used, each as often as it is."""
    encoded: int
    """Length of the distinct ones: what the encoder reads where it reads each once."""
    saved: float
    """Share of the encoder's work that this saves."""
    longest: int
    """Of the longest, before `max_tokens` cuts it."""
    max_tokens: int
    cut: int
    """Distinct texts that `max_tokens` cuts; where lengths are words, those that it is sure to cut."""


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """How a number of tokens is spread over the users; None where there are no users."""

    mean: float | None
    median: float | None
    high: float | None
    """95 % of the users have no more."""
    most: int | None
    possible: int
    """Of a user at every source's `max_events`."""


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """What the language model reads of a user, as the network lays it out."""

    unit: Literal["tokens", "words"]
    """Of texts and instructions: words while there is no tokenizer. A word is a token or more."""
    tokenizer: str | None
    """The folder of the release or checkpoint that it is part of."""
    profile: Distribution
    """Pooled, boundary, event and tabular tokens."""
    instructions: dict[str, int]
    """By scenario, `<USER>` included."""
    whole: Distribution
    """The profile and every instruction: what one forward reads."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What embedding some users in every scenario takes."""

    users: int
    vectors: int
    texts: int
    """Distinct texts of their profiles."""
    encoder: int
    """Length of these texts, each read once, in the unit of `Tokens`."""
    language_model: int
    """Tokens that it reads."""
    user_embeddings_bytes: int
    """Of the vectors alone, as in the next two."""
    user_vectors_bytes: int
    online_bytes: int
    """Written: a user's former row is replaced."""
    seconds: float | None
    """Of embed; None where no run of it tells how long a user takes."""
    measured: str | None
    """The run that tells."""


@dataclass(frozen=True, kw_only=True)
class CostEstimate:
    """What embed would do on a day."""

    users: int
    """Eligible users."""
    changed: int
    """Of them, those whose profile differs from the day before's, the new ones among them."""
    new: int
    ended: int
    """Users of the day before who fall out."""
    texts: dict[str, Texts]
    """By source."""
    new_texts: int
    """Distinct texts that no profile of the day before has."""
    tokens: Tokens
    everyone: Cost
    """All users: the first day, and the first day of every model."""
    day: Cost
    """The users whom the day changes."""


def estimate_costs(rows: DataFrame, deployment: Deployment, before: date, as_of: date) -> CostEstimate:
    """Count what embed would do on a day.

    Parameters
    ----------
    rows : DataFrame
        Columns of `user_profiles` but `day`: every eligible user's profile at `before` and at `as_of`.

    Raises
    ------
    TokenizerError
        The release's or checkpoint's tokenizer cannot be read.
    """
    folder = tokenizers_folder(deployment)
    users = _compared(rows, deployment, before, as_of)
    count, read = _counted(users), _read(_measured(_distinct(users, deployment), folder), deployment, folder)
    tokens = _tokens(deployment, count, folder)
    laid_out, width = network_config(deployment), _width(deployment, folder)
    fixed = laid_out.fixed_tokens + sum(tokens.instructions.values())
    embed_runs = [run for run in run_log.read_runs(deployment, "embed") if run.status == "ok"]

    def cost(users: int, events: int, texts: str, length: str) -> Cost:
        vectors = users * len(deployment.scenario_names)
        values = vectors * width
        seconds, measured = _seconds(users, embed_runs)
        return Cost(
            users=users,
            vectors=vectors,
            texts=sum(row[texts] for row in read.values()),
            encoder=sum(row[length] for row in read.values()),
            language_model=users * fixed + events,
            user_embeddings_bytes=values * FLOAT32,
            user_vectors_bytes=values * DTYPE.itemsize,
            online_bytes=values * DTYPE.itemsize,
            seconds=seconds,
            measured=measured,
        )

    return CostEstimate(
        users=count["users"],
        changed=count["changed"],
        new=count["new"],
        ended=count["ended"],
        texts={source.name: _source_texts(read[source.name], source.max_tokens) for source in deployment.sources},
        new_texts=sum(row["new"] for row in read.values()),
        tokens=tokens,
        everyone=cost(count["users"], count["events"], "distinct", "encoded"),
        day=cost(count["changed"], count["changed_events"], "wanted", "wanted_length"),
    )


def tokenizers_folder(deployment: Deployment) -> Path | None:
    """The release in use, or else the checkpoint that was trained last; None before either is there."""
    if registry.has_current_release(deployment):
        return registry.current_release(deployment)
    if registry.has_current_checkpoint(deployment):
        return registry.current_checkpoint(deployment)
    return None


def _width(deployment: Deployment, folder: Path | None) -> int:
    """Of an embedding; a pretrained backbone's own is known once it was trained."""
    config = network_config(deployment)
    for path in () if folder is None else (folder / NETWORK, folder / "config.json"):
        if path.exists():
            config = NetworkConfig.from_json(path.read_text(encoding="utf-8"))
    return config.embedding_width


def _compared(rows: DataFrame, deployment: Deployment, before: date, as_of: date) -> DataFrame:
    """Each user of either day with both profiles' texts, `then` and `now`, null on a day without a profile."""
    names = [source.name for source in deployment.sources]
    profile = F.struct("profile_hash", *[F.col(f"{name}.text").alias(name) for name in names])
    sides = [
        F.any_value(F.when(F.col("as_of") == midnight_column(day), profile), True).alias(side)
        for side, day in (("then", before), ("now", as_of))
    ]
    here = F.col("now").isNotNull()
    return (
        rows.groupBy("user_id")
        .agg(*sides)
        .withColumns(
            {
                "here": here,
                "changed": here & ~F.col("now.profile_hash").eqNullSafe(F.col("then.profile_hash")),
                "events": F.when(here, sum((F.size(f"now.{name}") for name in names), F.lit(0))),
            }
        )
    )


def _counted(users: DataFrame) -> dict[str, Any]:
    row = users.agg(
        F.count_if("here").alias("users"),
        F.count_if("changed").alias("changed"),
        F.count_if(F.col("here") & F.col("then").isNull()).alias("new"),
        F.count_if(~F.col("here")).alias("ended"),
        F.coalesce(F.sum("events"), F.lit(0)).alias("events"),
        F.coalesce(F.sum(F.when(F.col("changed"), F.col("events"))), F.lit(0)).alias("changed_events"),
        F.avg("events").alias("mean"),
        F.max("events").alias("most"),
        F.percentile("events", [0.5, 0.95]).alias("shares"),
    ).first()
    assert row is not None
    return row.asDict()


def _distinct(users: DataFrame, deployment: Deployment) -> DataFrame:
    """Each distinct text of a source: how often the day has it, whether the day before does, whether a changed user."""

    def each(side: str, name: str) -> Column:
        texts = F.coalesce(F.col(f"{side}.{name}"), F.array().cast("array<string>"))
        return F.transform(
            texts,
            lambda text: F.struct(F.lit(name).alias("source"), text.alias("text"), F.lit(side == "now").alias("now")),
        )

    every = F.concat(*[each(side, source.name) for side in ("then", "now") for source in deployment.sources])
    now, changed = F.col("now"), F.col("changed")
    return (
        users.select("changed", F.inline(every))
        .groupBy("source", "text")
        .agg(F.count_if(now).alias("used"), F.bool_or(~now).alias("before"), F.bool_or(now & changed).alias("wanted"))
    )


def _measured(texts: DataFrame, folder: Path | None) -> DataFrame:
    """The texts with `length`: tokens, `<cls>` included and none cut off, or words where there is no tokenizer."""
    if folder is None:
        return texts.withColumn("length", F.size(F.split("text", " ")))

    def measured(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        tokenizers = Tokenizers.load(folder)
        for batch in batches:
            ids = tokenizers.event_ids(batch["text"].to_pylist(), sys.maxsize)
            yield batch.append_column("length", pa.array(ids.lengths, pa.int32()))

    return texts.mapInArrow(
        measured, "source string, text string, used bigint, before boolean, wanted boolean, length int"
    )


def _read(texts: DataFrame, deployment: Deployment, folder: Path | None) -> dict[str, dict[str, int]]:
    """By source: how many texts, and their lengths as the encoder reads them."""
    limits = F.create_map(
        *[F.lit(value) for source in deployment.sources for value in (source.name, source.max_tokens)]
    )
    limit, length, used, wanted = limits[F.col("source")], F.col("length"), F.col("used") > 0, F.col("wanted")
    # Every word is a token, and a text has its `<cls>` besides.
    read, cut = (length, length + 1 > limit) if folder is None else (F.least(length, limit), length > limit)
    counts = {
        "used": F.sum("used"),
        "distinct": F.count_if(used),
        "read": F.sum(F.col("used") * read),
        "encoded": F.sum(F.when(used, read)),
        "longest": F.max(F.when(used, length)),
        "cut": F.count_if(used & cut),
        "new": F.count_if(used & ~F.col("before")),
        "wanted": F.count_if(wanted),
        "wanted_length": F.sum(F.when(wanted, read)),
    }
    rows = texts.groupBy("source").agg(*[F.coalesce(value, F.lit(0)).alias(name) for name, value in counts.items()])
    found = {row["source"]: {name: int(row[name]) for name in counts} for row in rows.collect()}
    return {source.name: found.get(source.name, dict.fromkeys(counts, 0)) for source in deployment.sources}


def _source_texts(read: Mapping[str, int], max_tokens: int) -> Texts:
    saved = 1 - read["encoded"] / read["read"] if read["read"] else 0.0
    return Texts(
        **{name: read[name] for name in ("used", "distinct", "read", "encoded", "longest", "cut")},
        saved=saved,
        max_tokens=max_tokens,
    )


def _tokens(deployment: Deployment, count: Mapping[str, Any], folder: Path | None) -> Tokens:
    laid_out = network_config(deployment)
    texts = registry.scenario_instructions(deployment)
    if folder is None:
        lengths = [len((text or "").split()) + 1 for text in texts.values()]
    else:
        lengths = Tokenizers.load(folder).instruction_ids([*texts.values()]).lengths.tolist()

    def spread(more: int) -> Distribution:
        possible = more + sum(source.max_events for source in laid_out.sources)
        if not count["users"]:
            return Distribution(mean=None, median=None, high=None, most=None, possible=possible)
        median, high = count["shares"]
        return Distribution(
            mean=more + count["mean"],
            median=more + median,
            high=more + high,
            most=more + count["most"],
            possible=possible,
        )

    return Tokens(
        unit="words" if folder is None else "tokens",
        tokenizer=None if folder is None else folder.name,
        profile=spread(laid_out.fixed_tokens),
        instructions=dict(zip(texts, lengths, strict=True)),
        whole=spread(laid_out.fixed_tokens + sum(lengths)),
    )


def _seconds(users: int, embed_runs: Sequence[Run]) -> tuple[float | None, str | None]:
    """As long for each user as the run took whose number of users is nearest: a run also has costs of its own."""
    measured = [
        (embedded, (run.finished_at - run.started_at).total_seconds(), run.day)
        for run in embed_runs
        if run.finished_at and (embedded := run.handoff(EmbedHandoff).embedded)
    ]
    if not users or not measured:
        return None, None
    embedded, took, day = min(reversed(measured), key=lambda run: abs(math.log(run[0] / users)))
    return users * took / embedded, f"embed for {day}: {embedded:,} users in {took:.1f} s"
