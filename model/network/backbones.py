"""The transformers within the network: a BERT-class encoder and a causal language model, fresh or pretrained.

Any of transformers' will do: `AutoModel` and `AutoModelForCausalLM` make them of a configuration, `from_pretrained`
fills in the weights, by hub id or from a folder. LoRA comes by peft, in place, so that names and structure stay
transformers' own. A checkpoint holds the configuration and every weight, and needs no hub.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from tokenizers import Tokenizer
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
)
from transformers.utils import CONFIG_NAME, cached_file, logging
from transformers.utils.hub import extract_commit_hash

from model.data.config import BackboneConfig, EncoderConfig, Lora, NetworkConfig, initial_std
from model.data.text import (
    PAD,
    USER_TOKEN,
    Tokenizers,
    end_with,
    literal,
    token_id,
    train_event_tokenizer,
    train_language_tokenizer,
)
from model.errors import InstructUEError

Found = TypeVar("Found")
Module = TypeVar("Module", bound=nn.Module)
Part = TypeVar("Part", EncoderConfig, BackboneConfig)


FILES = (".json", ".txt", ".model", ".safetensors", ".bin")
"""Endings of a folder's files that decide a pretrained model: configuration, tokenizer, weights."""


class PretrainedError(InstructUEError):
    """A pretrained model that cannot be had, or is not of the kind that is needed."""


def text_encoder(config: EncoderConfig, max_tokens: int, *, pretrained: bool) -> PreTrainedModel:
    """Return an encoder that reads up to so many tokens; `pretrained`: with its pretrained weights, if it has any.

    Raises
    ------
    PretrainedError
        The model cannot be had, lacks weights, or reads fewer tokens.
    """
    shape = _bert(config, max_tokens) if config.architecture is None else _configuration(config.architecture)
    model = _made(AutoModel, shape, config.pretrained if pretrained else None)
    # RoBERTa counts positions from after its padding's.
    before = 1 + getattr(getattr(model, "embeddings", None), "padding_idx", -1)
    reach = getattr(shape, "max_position_embeddings", before + max_tokens) - before
    if reach < max_tokens:
        raise PretrainedError(
            f"the encoder {config.pretrained} reads {reach} tokens, a source asks for {max_tokens}: "
            "lower the source's max_tokens, or name another encoder"
        )
    if hasattr(model, "pooler"):
        setattr(model, "pooler", None)  # noqa: B010 -- a layer behind the hidden states that nothing here reads
    return _adapted(model, config.lora)


def language_model(config: BackboneConfig, *, pretrained: bool) -> PreTrainedModel:
    """Return a causal language model; `pretrained`: with its pretrained weights, if it has any.

    New rows of its token table begin as the mean of the others.

    Raises
    ------
    PretrainedError
        The model cannot be had, or lacks weights.
    """
    shape = _qwen2(config) if config.architecture is None else _configuration(config.architecture)
    model = _made(AutoModelForCausalLM, shape, config.pretrained if pretrained else None)
    if len(_table(model)) < config.vocabulary:
        model.resize_token_embeddings(config.vocabulary, mean_resizing=False)
    if config.new_tokens:
        with torch.no_grad():
            for weight_VH in {id(table): table for table in (_table(model), _head(model))}.values():
                known_V = torch.ones(len(weight_VH), dtype=torch.bool)
                known_V[list(config.new_tokens)] = False
                weight_VH[list(config.new_tokens)] = weight_VH[known_V].mean(0)
    return _adapted(model, config.lora, config.new_tokens)


def with_tokenizers(
    config: NetworkConfig, event_texts: set[str], language_texts: set[str]
) -> tuple[NetworkConfig, Tokenizers]:
    """Return the tokenizers, the pretrained models' own or trained on these texts, and the config that fits them.

    The config then says what its pretrained models say of themselves: architecture, sizes, the row of `<USER>`.

    Raises
    ------
    PretrainedError
        A model cannot be had.
    """
    encoder, backbone = _described(config.encoder), _described(config.backbone)
    if encoder.pretrained is None:
        event = train_event_tokenizer(event_texts, encoder.vocabulary)
        encoder = replace(encoder, vocabulary=event.get_vocab_size())
    else:
        event = literal(_tokenizer(encoder.pretrained)[0])
    if backbone.pretrained is None:
        language = train_language_tokenizer(
            language_texts | (event_texts if config.reading == "tokens" else set()), backbone.vocabulary
        )
        backbone = replace(backbone, vocabulary=language.get_vocab_size())
    else:
        language = _language_tokenizer(backbone.pretrained)
        backbone = replace(
            backbone,
            vocabulary=max(backbone.vocabulary, language.get_vocab_size()),
            new_tokens=(token_id(language, USER_TOKEN),),
        )
    return replace(config, encoder=encoder, backbone=backbone), Tokenizers(event=event, language=language)


def identities(config: NetworkConfig) -> dict[str, str]:
    """Return what tells each pretrained model from another of the same name: the hub's commit, or its files' hash.

    Raises
    ------
    PretrainedError
        The model cannot be had.
    """
    named = {part.pretrained for part in (config.encoder, config.backbone) if part.pretrained is not None}
    return {name: _identity(name) for name in sorted(named)}


def _identity(pretrained: str) -> str:
    config = str(_had(pretrained, lambda name: cached_file(name, CONFIG_NAME)))
    commit: str | None = extract_commit_hash(config, None)
    if commit is not None:
        return commit
    digest = hashlib.sha256()
    for path in sorted(path for path in Path(config).parent.iterdir() if path.suffix in FILES):
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _described(part: Part) -> Part:
    """The part with its pretrained model's architecture and sizes; a fresh one as it is."""
    if part.pretrained is None:
        return part
    shape = _had(part.pretrained, lambda name: AutoConfig.from_pretrained(name))
    sizes = {
        "width": shape.hidden_size,
        "layers": shape.num_hidden_layers,
        "heads": shape.num_attention_heads,
        "vocabulary": shape.vocab_size,
        "feedforward": getattr(shape, "intermediate_size", None) or 4 * shape.hidden_size,
    }
    if isinstance(part, BackboneConfig):
        sizes["kv_heads"] = getattr(shape, "num_key_value_heads", None) or shape.num_attention_heads
    return replace(part, architecture=json.loads(json.dumps(shape.to_diff_dict(), default=str)), **sizes)


def _language_tokenizer(pretrained: str) -> Tokenizer:
    """A pretrained language model's tokenizer, with `<USER>`, its texts ended by its own end token."""
    tokenizer, end = _tokenizer(pretrained)
    if end is None:
        raise PretrainedError(f"the tokenizer of {pretrained} names no eos_token: set one in its tokenizer_config.json")
    tokenizer.add_special_tokens([USER_TOKEN])
    end_with(tokenizer, end)
    return literal(tokenizer)


def merged(module: Module) -> Module:
    """Return a copy whose low-rank updates are part of the weights they update: what a graph is made of."""
    copy = deepcopy(module)
    for name, layer in list(copy.named_modules()):
        if isinstance(layer, LoraLayer):
            layer.merge()
            copy.set_submodule(name, layer.get_base_layer())
    return copy


def _table(model: PreTrainedModel) -> nn.Parameter:
    return model.get_input_embeddings().get_parameter("weight")


def _head(model: PreTrainedModel) -> nn.Parameter:
    return model.get_output_embeddings().get_parameter("weight")


def _adapted(model: PreTrainedModel, lora: Lora | None, new_tokens: tuple[int, ...] = ()) -> PreTrainedModel:
    if lora is None:
        return model
    chosen = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets) or "all-linear",
        trainable_token_indices=list(new_tokens) or None,
    )
    try:
        inject_adapter_in_model(chosen, model)  # in place
    except ValueError as error:
        names = sorted({name.rpartition(".")[2] for name, part in model.named_modules() if isinstance(part, nn.Linear)})
        raise PretrainedError(
            f"lora.targets {list(lora.targets)} fit no layer of {type(model).__name__} ({error}): "
            f"use some of {', '.join(names)}"
        ) from error
    return model


def _made(kind: Any, shape: PretrainedConfig, pretrained: str | None) -> PreTrainedModel:
    """A model of that shape, its weights fresh or the pretrained ones, in fp32."""
    if pretrained is None:
        fresh: PreTrainedModel = kind.from_config(shape, dtype=torch.float32)
        return fresh
    model, said = _had(
        pretrained, lambda name: kind.from_pretrained(name, config=shape, dtype=torch.float32, output_loading_info=True)
    )
    missing = sorted(key for key in said["missing_keys"] if "pooler" not in key)
    if missing or said["mismatched_keys"]:
        raise PretrainedError(
            f"{pretrained} is no whole {type(model).__name__}: {len(missing)} weights are missing, "
            f"such as {missing[:1]}, {len(said['mismatched_keys'])} have another shape; name another"
        )
    return model


def _had(name: str, load: Callable[[str], Found]) -> Found:
    """What is loaded from a hub or a folder, or what to do where it is not there."""
    try:
        with _quiet():
            return load(name)
    except (OSError, ValueError) as error:
        why = str(error).strip().partition("\n")[0]
        fetch = (
            "a folder that `save_pretrained` wrote has config.json, model.safetensors and tokenizer.json"
            if Path(name).is_dir()
            else f"where there is a network, `hf download {name} --local-dir FOLDER` fetches it; name that folder here"
        )
        raise PretrainedError(f"the pretrained model {name!r} cannot be had ({why}): {fetch}") from error


def _tokenizer(pretrained: str) -> tuple[Tokenizer, str | None]:
    """A fast tokenizer as the `tokenizers` library knows it, and its end token."""
    loaded = _had(pretrained, lambda name: AutoTokenizer.from_pretrained(name))
    if not loaded.is_fast:
        raise PretrainedError(f"the tokenizer of {pretrained} has no tokenizer.json: save it as a fast one")
    tokenizer = Tokenizer.from_str(loaded.backend_tokenizer.to_str())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer, loaded.eos_token


def _configuration(architecture: Any) -> PretrainedConfig:
    values = dict(architecture)
    return AutoConfig.for_model(values.pop("model_type"), **values)


def _bert(sizes: EncoderConfig, max_tokens: int) -> BertConfig:
    # No dropout: a network of this size, trained for minutes, does not live to overfit.
    return BertConfig(
        vocab_size=sizes.vocabulary,
        hidden_size=sizes.width,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        intermediate_size=sizes.feedforward,
        max_position_embeddings=max_tokens,
        type_vocab_size=1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=initial_std(sizes.width),
    )


def _qwen2(sizes: BackboneConfig) -> Qwen2Config:
    return Qwen2Config(
        vocab_size=sizes.vocabulary,
        hidden_size=sizes.width,
        intermediate_size=sizes.feedforward,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.kv_heads,
        tie_word_embeddings=True,
        initializer_range=initial_std(sizes.width),
        pad_token_id=PAD,
        bos_token_id=None,
        eos_token_id=None,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """transformers' bars and remarks; what matters of them is raised."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
