"""Saved states: what a killed training goes on from. A state is a folder beside the checkpoint's files.

Batches, dropout and the learning rate are functions of the seed and the step, so a state needs none of their own.
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

STATE = "state-"
STATE_FILE, WEIGHTS_FILE, OPTIMIZER_FILE, BEST_FILE = (
    "state.json",
    "weights.safetensors",
    "optimizer.pt",
    "best.safetensors",
)
Weights = Mapping[str, Tensor]


@dataclass(kw_only=True)
class State:
    """A training between two steps: the weights that it changes and what it knows of them."""

    weights: Weights
    optimizer: torch.optim.Optimizer
    history: History = field(default_factory=History)
    best: Weights = field(default_factory=dict)
    """Copies of the weights of the lowest validation loss; empty where they are not kept."""


def copied(weights: Weights) -> dict[str, Tensor]:
    """Return copies in the CPU's memory."""
    return {name: weight.detach().to("cpu", copy=True) for name, weight in weights.items()}


@torch.no_grad()
def put(weights: Weights, values: Weights) -> None:
    """Write values into weights of the same names."""
    for name, weight in weights.items():
        weight.copy_(values[name])


def save_state(out: Path, mark: str, state: State) -> None:
    """Write a state of the fingerprint `mark`, then remove the older ones."""
    folder = out / f"{STATE}{state.history.step}"
    with atomic_folder(folder, "state.part") as part:
        save_file(copied(state.weights), part / WEIGHTS_FILE)
        save_file(dict(state.best), part / BEST_FILE)
        torch.save(state.optimizer.state_dict(), part / OPTIMIZER_FILE)
        content = {"fingerprint": mark, "history": asdict(state.history)}
        (part / STATE_FILE).write_text(json.dumps(content), encoding="utf-8")
    for path in saved_states(out):
        if path != folder:
            shutil.rmtree(path)


def load_state(path: Path, mark: str, state: State) -> bool:
    """Put a saved state back; False, and nothing done, where it is of other data or settings.

    Raises
    ------
    CheckpointError
        When it cannot be read.
    """
    try:
        content = json.loads((path / STATE_FILE).read_text(encoding="utf-8"))
        if content["fingerprint"] != mark:
            return False
        put(state.weights, load_file(path / WEIGHTS_FILE))
        state.optimizer.load_state_dict(torch.load(path / OPTIMIZER_FILE, map_location="cpu", weights_only=True))
        state.best, state.history = load_file(path / BEST_FILE), History(**content["history"])
    except Exception as error:  # whatever torch and safetensors make of broken bytes
        raise CheckpointError(
            f"the saved state {path} cannot be read ({error}): remove it, and training starts afresh"
        ) from error
    return True


def saved_states(out: Path) -> list[Path]:
    """Return the saved states of a folder, the newest first."""
    return sorted(out.glob(f"{STATE}*"), key=lambda path: int(path.name.removeprefix(STATE)), reverse=True)
