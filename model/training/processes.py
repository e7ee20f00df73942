"""The processes that train one network together, as `torchrun` starts them; usually there is one."""

from __future__ import annotations

import torch
from accelerate import PartialState
from accelerate.utils import broadcast, gather_object, parse_flag_from_env, reduce
from torch import Tensor, nn

from model.data.pairs import PairError


def processes() -> PartialState:
    """Return the number of processes, this one's index and its device."""
    # Without a GPU, accelerate ignores other processes unless it is set to use the CPU.
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available())


def same_weights(network: nn.Module) -> None:
    """Copy the weights of the first process to all; weights that each computes may differ in the last digits."""
    if processes().num_processes > 1:
        for weight in network.parameters():
            broadcast(weight.data)


def sum_over_processes(tensor: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes, the tensor itself where there is one process."""
    if processes().num_processes == 1:
        return tensor
    total: Tensor = reduce(tensor, "sum")
    return total


def check_same(value: str | int, what: str) -> None:
    """Refuse processes with different values, which would train different networks and wait for each other.

    Raises
    ------
    PairError
        A process has another value; `what` names it in the message.
    """
    if len(set(gather_object([value]))) > 1:
        raise PairError(f"one process sees {what} than the next: give all the same tables, settings and folders")
