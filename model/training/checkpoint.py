"""A trained network in a folder: config.json, model.safetensors, the two tokenizers and metrics.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_model, save_model

from model.atomic_write import atomic_write_text
from model.data.config import NetworkConfig
from model.data.text import Tokenizers
from model.errors import ConfigError, InstructUEError
from model.network.network import InstructUE

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
METRICS_FILE = "metrics.json"


class CheckpointError(InstructUEError):
    """A folder that is no checkpoint, or an incomplete one."""


def save_checkpoint(folder: Path, network: InstructUE, tokenizers: Tokenizers, metrics: Mapping[str, Any]) -> None:
    """Write a checkpoint, in place of one that the folder may hold.

    The config is removed first and written last: a folder without one is not a complete checkpoint.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG_FILE).unlink(missing_ok=True)
    save_model(network, str(folder / WEIGHTS_FILE))
    tokenizers.save(folder)
    (folder / METRICS_FILE).write_text(json.dumps(metrics, ensure_ascii=False), encoding="utf-8")
    atomic_write_text(folder / CONFIG_FILE, network.config.to_json())


def load_checkpoint(folder: str | Path) -> tuple[InstructUE, Tokenizers, NetworkConfig]:
    """Return the network, ready to embed on the CPU, its tokenizers and its config.

    Raises
    ------
    CheckpointError
        When a file is missing or does not fit the others.
    """
    folder = Path(folder)
    try:
        config = NetworkConfig.from_json((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        tokenizers = Tokenizers.load(folder)
        network = InstructUE(config)
        load_model(network, str(folder / WEIGHTS_FILE))
    except (OSError, UnicodeDecodeError, RuntimeError, SafetensorError, ConfigError) as error:
        raise CheckpointError(f"{folder} is no whole checkpoint ({error}): train into it again") from error
    return network.eval(), tokenizers, config


def read_metrics(folder: Path) -> dict[str, Any]:
    """Return what training measured; nothing where a checkpoint has no metrics.

    Raises
    ------
    CheckpointError
        When the file cannot be read.
    """
    path = folder / METRICS_FILE
    if not path.exists():
        return {}
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}): remove {folder} and train again") from error
    return dict(metrics)
