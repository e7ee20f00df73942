"""The model card of a release: its parts, its inputs, its training and the results of its gates, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean
from typing import Any

from model.data.config import NetworkConfig
from model.data.transformer_config import BackboneConfig, EncoderConfig
from model.network.network import InstructUE
from model.serving.release import Release

TUNED = "tuned"
"""The key of the tuned scenarios in the metrics: facts about each tuning, by scenario."""


def model_card(release: Release, network: InstructUE, metrics: Mapping[str, Any]) -> str:
    """Return the description of a release, as Markdown."""
    weights = sum(weight.numel() for weight in network.parameters())
    columns = [*release.vector_spec.get("numbers", []), *release.vector_spec.get("categories", [])]
    lines = [
        f"# InstructUE release {release.name}",
        "",
        "Turns a user's profile and an instruction into one unit vector "
        f"of {network.config.embedding_width} numbers, to be compared by cosine.",
        "",
        f"- model_version `{release.model_version}`",
        f"- checkpoint `{release.checkpoint}`",
        f"- precision {release.precision}; {weights:,} weights, the language model's token table and head included",
        f"- made {release.created_at}",
        "",
        "## What it is made of",
        "",
        *_parts(network.config),
        *_focus(release),
        *_trained(metrics.get("training", {})),
        "",
        "## What it reads",
        "",
        "| source | events at most | tokens of a text | days back | template |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| {source['name']} | {source['max_events']} | {source['max_tokens']} | {source['window_days']} "
            f"| `{source['template']}` |"
            for source in release.vector_spec.get("sources", [])
        ),
        "",
        f"Tabular: {', '.join(columns) or 'none'}.",
        "",
        "## Scenarios",
        "",
        "| scenario | instruction |",
        "| --- | --- |",
        *(
            f"| {name} | {instruction.text or _without_text(metrics.get(TUNED, {}).get(name))} |"
            for name, instruction in release.instructions.items()
        ),
        "",
        "## Gates",
        "",
        f"Least cosine on {metrics['gates']['profiles']} profiles between onnxruntime's vectors and those of",
        "",
        *(f"- {name}: {value:.6f}" for name, value in metrics["gates"]["cosines"].items()),
        "",
        "Figures of the training are in metrics.json.",
        "",
        "## Limits",
        "",
        "The training users' behaviour and questions decide what it represents; an instruction far from these "
        "questions gives a vector all the same. Vectors of different model_versions cannot be compared.",
        "",
    ]
    return "\n".join(lines)


def _parts(config: NetworkConfig) -> list[str]:
    """Return lines about the parts of a network."""
    return [
        f"- encoder{'' if config.shared_encoder else ' of each source'}: {_transformer(config.encoder)}; an event's "
        f"vector is {'its first state' if config.encoder.pooling == 'cls' else 'the mean of its states'}",
        f"- backbone: {_transformer(config.backbone)}; the embedding is "
        f"{'the state at <USER>' if config.readout == 'user' else 'the mean of all states'}"
        f"{'' if config.head is None else f', through a Linear to {config.head} numbers'}",
        f"- pooled tokens {_switch(config.pooled_tokens)}, bands of time {_switch(config.time_bands)}, "
        f"adapter {config.adapter}",
    ]


def _focus(release: Release) -> list[str]:
    """Return a line about the focus of a release that has one."""
    if release.focus is None:
        return []
    read = "its `<USER>`" if release.focus.form == "suffix" else "`<USER>` without an instruction"
    return [
        f"- focus `{release.focus.form}`: the vector read at {read} is centred on the training users and stretched "
        f"along the instruction's own text embedding, with a scale of {release.focus.scale:.3f}; "
        "`questions.safetensors` has the instructions of the training"
    ]


def _transformer(part: EncoderConfig | BackboneConfig) -> str:
    sizes = f"{part.layers} layers of width {part.width}, {part.vocabulary:,} tokens"
    origin = f"{part.pretrained} ({sizes})" if part.pretrained else f"trained from scratch ({sizes})"
    return origin if part.lora is None else f"{origin}, adapted by LoRA of rank {part.lora.r}"


def _switch(on: bool) -> str:
    return "on" if on else "off"


def _trained(training: Mapping[str, Any]) -> list[str]:
    """Return lines about the training of a checkpoint, from its metrics."""
    if not training:
        return []
    settings, step = training["training"], training["checkpoint_step"]
    last: Mapping[str, float] = next((check for check in training["validation"] if check["step"] == step), {})
    read = f"{training['profiles']:,} profiles and {training['pairs']:,} question-answer pairs"
    lines = [
        f"- trained for {len(training['curve']['loss'])} steps of {settings['profiles_per_step']} profiles on "
        f"{read}, seed {training['seed']}"
    ]
    if "loss" in last:
        terms = ", ".join(f"{name} {value:.3f}" for name, value in last.items() if name not in ("step", "loss"))
        lines.append(f"- validation loss {last['loss']:.3f} ({terms}) after step {last['step']}")
    if aucs := [scores["auc"] for scores in training.get("questions", {}).values()]:
        lines.append(
            f"- AUC of the answers to its questions, on validation users: mean {mean(aucs):.3f} over {len(aucs)} "
            f"questions, from {min(aucs):.3f} to {max(aucs):.3f}"
        )
    return lines


def _without_text(tuned: Mapping[str, Any] | None) -> str:
    """Return the entry of a scenario without an instruction in words."""
    return f"tuned on {tuned['users']} users, from: {tuned['instruction']}" if tuned else "(none)"
