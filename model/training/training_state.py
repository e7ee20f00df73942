"""Saved states: the folders from which an interrupted training resumes, beside the checkpoint's files.

Batches, dropout and the learning rate are functions of the seed and the step, so a state does not hold them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.atomic_write import atomic_folder
from model.training.checkpoint import CheckpointError
from model.training.history import History

PREFIX = "state-"
PART = "state.part"
"""Name of a state's folder while it is written."""
STATE_FILE, WEIGHTS_FILE, OPTIMIZER_FILE, BEST_FILE = (
    "state.json",
    "weights.safetensors",
    "optimizer.pt",
    "best.safetensors",
)
Weights = Mapping[str, Tensor]


@dataclass(kw_only=True)
class TrainingState:
    """A training between two steps.

    Attributes
    ----------
    weights, optimizer
        The weights that are trained, by name, and their optimiser.
    history
        The losses so far.
    best
        Copies of the weights with the lowest validation loss; empty where early stopping is off.
    """

    weights: Weights
    optimizer: torch.optim.Optimizer
    history: History = field(default_factory=History)
    best: Weights = field(default_factory=dict)


def cpu_copies(weights: Weights) -> dict[str, Tensor]:
    """Return copies of the weights in the CPU's memory."""
    return {name: weight.detach().to("cpu", copy=True) for name, weight in weights.items()}


@torch.no_grad()
def set_weights(weights: Weights, values: Weights) -> None:
    """Copy values into the weights of the same names."""
    for name, weight in weights.items():
        weight.copy_(values[name])


def save_state(out: Path, fingerprint: str, state: TrainingState) -> None:
    """Write the state of the training with this fingerprint, then remove the older states."""
    folder = out / f"{PREFIX}{state.history.step}"
    with atomic_folder(folder, PART) as part:
        save_file(cpu_copies(state.weights), part / WEIGHTS_FILE)
        save_file(dict(state.best), part / BEST_FILE)
        torch.save(state.optimizer.state_dict(), part / OPTIMIZER_FILE)
        content = {"fingerprint": fingerprint, "history": asdict(state.history)}
        (part / STATE_FILE).write_text(json.dumps(content), encoding="utf-8")
    for path in saved_states(out):
        if path != folder:
            shutil.rmtree(path)


def load_state(path: Path, fingerprint: str, state: TrainingState) -> bool:
    """Read a saved state into `state`; return False, and change nothing, where its fingerprint is another.

    Raises
    ------
    CheckpointError
        When it cannot be read.
    """
    try:
        content = json.loads((path / STATE_FILE).read_text(encoding="utf-8"))
        if content["fingerprint"] != fingerprint:
            return False
        set_weights(state.weights, load_file(path / WEIGHTS_FILE))
        state.optimizer.load_state_dict(torch.load(path / OPTIMIZER_FILE, map_location="cpu", weights_only=True))
        state.best, state.history = load_file(path / BEST_FILE), History(**content["history"])
    except Exception as error:  # torch and safetensors raise many kinds for broken bytes
        raise CheckpointError(
            f"the saved state {path} cannot be read ({error}): remove it, and training starts afresh"
        ) from error
    return True


def saved_states(out: Path) -> list[Path]:
    """Return the saved states of a folder, the newest first."""
    return sorted(out.glob(f"{PREFIX}*"), key=lambda path: int(path.name.removeprefix(PREFIX)), reverse=True)
