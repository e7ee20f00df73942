"""The presets: an encoder and a backbone that are used together, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from model.data.transformer_config import BackboneConfig, EncoderConfig, Lora


@dataclass(frozen=True, kw_only=True)
class Preset:
    """An encoder and a backbone that go together."""

    encoder: EncoderConfig
    backbone: BackboneConfig


PRESETS: Mapping[str, Preset] = {
    # Trained from scratch on a laptop's CPU in minutes.
    "tiny": Preset(
        encoder=EncoderConfig(width=64, layers=2, heads=4, feedforward=128, vocabulary=8192),
        backbone=BackboneConfig(width=128, layers=2, heads=4, kv_heads=4, feedforward=256, vocabulary=4096),
    ),
    # The paper's models; rank, scale and targets are the follow-up's.
    "paper": Preset(
        encoder=EncoderConfig(
            pretrained="thenlper/gte-base",
            lora=Lora(targets=("query", "key", "value", "dense")),
            width=768,
            layers=12,
            heads=12,
            feedforward=3072,
            vocabulary=30522,
        ),
        backbone=BackboneConfig(
            pretrained="Qwen/Qwen2.5-0.5B-Instruct",
            lora=Lora(targets=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")),
            width=896,
            layers=24,
            heads=14,
            kv_heads=2,
            feedforward=4864,
            vocabulary=151936,
        ),
    ),
}
