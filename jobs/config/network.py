"""The `model` section of the deployment file: a preset, its changes, and the training settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, ValidationInfo, WrapValidator, field_validator

from jobs.config.fields import TRUE_OR_FALSE, Integer, Section, Text, require_items
from model.data.config import Adapter, Focus, Readout
from model.data.presets import PRESETS
from model.data.transformer_config import BackboneConfig, EncoderConfig
from model.errors import ConfigError
from model.training.training_config import TrainingConfig


def _validate_dataclass(value: Any, validate: Callable[[Any], Any]) -> Any:
    """Return the dataclass, with its own ConfigError and a bool for a number as errors of this value."""
    try:
        result = validate(value)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    for key, given in value.items() if isinstance(value, dict) else ():
        if isinstance(given, bool) and not isinstance(getattr(result, key), bool):
            raise ValueError(f"{key} is {given}: {TRUE_OR_FALSE}")
    return result


def _require_untrained(part: EncoderConfig | BackboneConfig) -> EncoderConfig | BackboneConfig:
    if part.architecture is not None or (isinstance(part, BackboneConfig) and part.new_tokens):
        raise ValueError("architecture and new_tokens are filled in by training; remove them")
    return part


Setting = TypeVar("Setting")
Checked = Annotated[Setting, WrapValidator(_validate_dataclass)]
"""A dataclass of `model`, whose own checks become errors of the file."""


INSTRUCTION_ENCODER = {"pretrained": None, "lora": None, "pooling": "mean"}
"""What an instruction encoder's keys are without the file: it has no preset, and sentence encoders pool by the mean."""


class Network(Section):
    """The sizes and switches of a network; `model.data.config.NetworkConfig` documents them."""

    encoder: Annotated[Checked[EncoderConfig], AfterValidator(_require_untrained)]
    backbone: Annotated[Checked[BackboneConfig], AfterValidator(_require_untrained)]
    shared_encoder: bool = False
    adapter: Adapter = "mlp"
    pooled_tokens: bool = True
    time_bands: bool = True
    readout: Readout = "user"
    head: Integer | None = Field(default=None, ge=1)
    focus: Focus | None = None
    instruction_encoder: Annotated[Checked[EncoderConfig], AfterValidator(_require_untrained)] | None = None


class Model(Section):
    """The section `model`: the network, its training and its runtime."""

    preset: Literal["tiny", "paper"] = "tiny"
    network: Network = Field(default={}, validate_default=True)
    """The file holds only what differs from the preset."""
    training: Checked[TrainingConfig] = TrainingConfig()
    precision: Literal["fp32"] = "fp32"
    providers: Annotated[tuple[Text, ...], AfterValidator(require_items)] = ("CPUExecutionProvider",)

    @field_validator("network", mode="before")
    @classmethod
    def _complete_from_preset(cls, given: Any, info: ValidationInfo) -> Any:
        if not isinstance(given, dict):
            return given
        preset = PRESETS[info.data.get("preset", "tiny")]  # an unknown preset is an error of its own
        sizes = {part: asdict(getattr(preset, part)) for part in ("encoder", "backbone")}
        if given.get("instruction_encoder") is not None:
            sizes["instruction_encoder"] = sizes["encoder"] | INSTRUCTION_ENCODER
        return given | {
            part: size | given.get(part, {}) for part, size in sizes.items() if isinstance(given.get(part, {}), dict)
        }
