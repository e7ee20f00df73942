"""The inputs of a training: everything that decides its checkpoint.

They are the deployment's vector spec, network and training settings, the versions of the tables and the seed. Their
hash names the checkpoint's folder, and `inputs.json` in it holds them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

from jobs.config.deployment import Deployment
from jobs.training.registry import NoCheckpointError, checkpoints_folder
from model.atomic_write import atomic_write_text
from model.data.config import Category, EventSource, NetworkConfig, Number, Tabular
from model.data.transformer_config import BackboneConfig, EncoderConfig
from model.serving.release import ReleaseError
from model.serving.vector_spec import VECTOR_SPEC_KEY, differences
from model.training.training_config import TrainingConfig

Part = TypeVar("Part", EncoderConfig, BackboneConfig)

TABLES = ("training_profiles", "userqa")
"""The tables that a training reads."""
INPUTS = "inputs.json"
STUDY_KEYS = ("rendered", "left_out")
"""Keys of inputs that only a study writes, never `instructue train`."""


def training_inputs(
    deployment: Deployment, config: NetworkConfig, training: TrainingConfig, versions: Mapping[str, int], seed: int
) -> dict[str, Any]:
    """Return the inputs of a training, as JSON values."""
    inputs = {
        VECTOR_SPEC_KEY: deployment.vector_spec(),
        "versions": {name: versions[name] for name in TABLES},
        "seed": seed,
        "network": json.loads(config.to_json()),
        "training": asdict(training),
    }
    if config.encoder.pretrained or config.backbone.pretrained or config.instruction_encoder:
        from model.network.pretrained import pretrained_identities  # transformers takes seconds to import

        inputs["pretrained"] = pretrained_identities(config)
    return inputs


def checkpoint_folder(deployment: Deployment, inputs: Mapping[str, Any], *, write: bool = True) -> Path:
    """Return the folder of the checkpoint that these inputs decide.

    Parameters
    ----------
    write : bool
        Make the folder and write the inputs into it.
    """
    text = json.dumps(inputs, indent=2, ensure_ascii=False)
    folder = checkpoints_folder(deployment) / hashlib.sha256(text.encode()).hexdigest()[:12]
    if write:
        atomic_write_text(folder / INPUTS, text + "\n")
    return folder


def check_inputs(checkpoint: Path, deployment: Deployment) -> None:
    """Check that a checkpoint was trained with the deployment's vector spec and network.

    Raises
    ------
    NoCheckpointError
        `instructue train` did not write it, or its inputs cannot be read.
    ReleaseError
        Keys that differ, with both values; or a study trained it.
    """
    try:
        inputs = json.loads((checkpoint / INPUTS).read_text(encoding="utf-8"))
        trained_spec = inputs[VECTOR_SPEC_KEY]
    except OSError:
        raise NoCheckpointError(f"{checkpoint} was not written by `instructue train`: it has no {INPUTS}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise NoCheckpointError(
            f"{checkpoint / INPUTS} cannot be read ({error}); run `instructue train` again"
        ) from None
    if of_study := [key for key in STUDY_KEYS if key in inputs]:
        raise ReleaseError(
            f"{checkpoint} was trained to be compared, without what an evaluation left out ({of_study[0]}): "
            "export the checkpoint of `instructue train`"
        )
    lines = differences(deployment.vector_spec(), trained_spec, "training")
    if "network" in inputs:
        config = json.loads(network_config(deployment).to_json())
        lines += differences(_comparable(config), _comparable(inputs["network"]), "training", "model.network")
    if lines:
        raise ReleaseError(
            f"the deployment differs from what {checkpoint.name} was trained on:\n"
            + "\n".join(f"  {line}" for line in lines)
            + "\nrestore these keys, or run userqa and train again"
        )


def network_config(deployment: Deployment) -> NetworkConfig:
    """Return the network of a deployment: its sources and columns, and the sizes and switches of `model.network`."""
    network = deployment.model.network
    sources = tuple(
        EventSource(name=source.name, max_events=source.max_events, max_tokens=source.max_tokens)
        for source in deployment.sources
    )
    tabular = Tabular(
        numbers=tuple(Number(name=name) for name in deployment.numbers),
        categories=tuple(Category(name=name) for name in deployment.categories),
    )
    return NetworkConfig(
        sources=sources,
        tabular=tabular,
        encoder=_located(network.encoder, deployment),
        backbone=_located(network.backbone, deployment),
        shared_encoder=network.shared_encoder,
        adapter=network.adapter,
        pooled_tokens=network.pooled_tokens,
        time_bands=network.time_bands,
        readout=network.readout,
        head=network.head,
        focus=network.focus,
        instruction_encoder=network.instruction_encoder and _located(network.instruction_encoder, deployment),
    )


def training_config(deployment: Deployment, steps: int | None = None) -> TrainingConfig:
    """Return the training settings of a deployment, with another number of steps where one is given."""
    return deployment.model.training if steps is None else replace(deployment.model.training, steps=steps)


def _located(part: Part, deployment: Deployment) -> Part:
    """Return the part with the absolute path of a pretrained model; a name without a leading point stays as it is."""
    if part.pretrained is None or not part.pretrained.startswith("."):
        return part
    return replace(part, pretrained=str((deployment.path.parent / part.pretrained).resolve()))


def _comparable(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a network without the parts that the vector spec has and without the paths of pretrained models."""
    parts = {
        part: {key: value for key, value in config[part].items() if key != "pretrained"}
        for part in ("encoder", "backbone", "instruction_encoder")
        if part in config
    }
    return {key: value for key, value in config.items() if key not in ("sources", "tabular")} | parts
