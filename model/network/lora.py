"""Low-rank updates (LoRA) of a model's weights, by peft.

They are added in place, so that names and structure stay those of transformers.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TypeVar

from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import PreTrainedModel

from model.data.transformer_config import Lora
from model.network.pretrained import PretrainedError

Module = TypeVar("Module", bound=nn.Module)


def add_lora(model: PreTrainedModel, lora: Lora | None, new_tokens: tuple[int, ...] = ()) -> PreTrainedModel:
    """Freeze a model's weights and add low-rank updates to it; None: return it unchanged.

    Parameters
    ----------
    new_tokens
        Rows of the token table that are trained beside the updates.

    Raises
    ------
    PretrainedError
        No layer of the model has one of the names in `lora.targets`.
    """
    if lora is None:
        return model
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets) or "all-linear",
        trainable_token_indices=list(new_tokens) or None,
    )
    try:
        inject_adapter_in_model(config, model)  # in place
    except ValueError as error:
        names = sorted({name.rpartition(".")[2] for name, part in model.named_modules() if isinstance(part, nn.Linear)})
        raise PretrainedError(
            f"lora.targets {list(lora.targets)} fit no layer of {type(model).__name__} ({error}): "
            f"use some of {', '.join(names)}"
        ) from error
    return model


def merge_lora(module: Module) -> Module:
    """Return a copy whose low-rank updates are added to the weights that they update; a graph is made of it."""
    copy = deepcopy(module)
    for name, layer in list(copy.named_modules()):
        if isinstance(layer, LoraLayer):
            layer.merge()
            copy.set_submodule(name, layer.get_base_layer())
    return copy
