"""Pretrained models of a hub or a folder: their identity, architecture, weights and tokenizers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoTokenizer, PretrainedConfig, PreTrainedModel
from transformers.utils import CONFIG_NAME, cached_file, logging
from transformers.utils.hub import extract_commit_hash

from model.data.config import NetworkConfig
from model.data.text import USER_TOKEN, end_with, literal
from model.data.transformer_config import BackboneConfig, EncoderConfig
from model.errors import InstructUEError

Loaded = TypeVar("Loaded")
TransformerConfig = TypeVar("TransformerConfig", EncoderConfig, BackboneConfig)

FILES = (".json", ".txt", ".model", ".safetensors", ".bin")
"""Endings of the files of a folder that decide a pretrained model: configuration, tokenizer, weights."""


class PretrainedError(InstructUEError):
    """A pretrained model that cannot be loaded, or is not of the required kind."""


def pretrained_identities(config: NetworkConfig) -> dict[str, str]:
    """Return the identity of each pretrained model by its name: the hub's commit, or a hash of the folder's files.

    Raises
    ------
    PretrainedError
        A model cannot be loaded.
    """
    parts = (config.encoder, config.backbone, config.instruction_encoder)
    names = {part.pretrained for part in parts if part is not None and part.pretrained is not None}
    return {name: _identity(name) for name in sorted(names)}


def with_architecture(config: TransformerConfig) -> TransformerConfig:
    """Return the config with the architecture and sizes of its pretrained model; a fresh one is returned unchanged.

    Raises
    ------
    PretrainedError
        The model cannot be loaded.
    """
    if config.pretrained is None:
        return config
    architecture = _load(config.pretrained, lambda name: AutoConfig.from_pretrained(name))
    sizes = {
        "width": architecture.hidden_size,
        "layers": architecture.num_hidden_layers,
        "heads": architecture.num_attention_heads,
        "vocabulary": architecture.vocab_size,
        "feedforward": getattr(architecture, "intermediate_size", None) or 4 * architecture.hidden_size,
    }
    if isinstance(config, BackboneConfig):
        sizes["kv_heads"] = getattr(architecture, "num_key_value_heads", None) or architecture.num_attention_heads
    plain = json.loads(json.dumps(architecture.to_diff_dict(), default=str))
    return replace(config, architecture=plain, **sizes)


def load_weights(auto_class: Any, architecture: PretrainedConfig, pretrained: str) -> PreTrainedModel:
    """Return the pretrained model of an architecture, in fp32; `auto_class` is one of transformers' `AutoModel...`.

    Raises
    ------
    PretrainedError
        The model cannot be loaded, or weights are missing or have another shape.
    """
    model, loading = _load(
        pretrained,
        lambda name: auto_class.from_pretrained(
            name, config=architecture, dtype=torch.float32, output_loading_info=True
        ),
    )
    missing = sorted(key for key in loading["missing_keys"] if "pooler" not in key)
    if missing or loading["mismatched_keys"]:
        raise PretrainedError(
            f"{pretrained} is no whole {type(model).__name__}: {len(missing)} weights are missing, "
            f"such as {missing[:1]}, {len(loading['mismatched_keys'])} have another shape; name another"
        )
    return model


def event_tokenizer(pretrained: str) -> Tokenizer:
    """Return a pretrained encoder's tokenizer.

    Raises
    ------
    PretrainedError
        It cannot be loaded, or is not a fast one.
    """
    return literal(_fast_tokenizer(pretrained)[0])


def language_tokenizer(pretrained: str) -> Tokenizer:
    """Return a pretrained language model's tokenizer, with `<USER>`; its texts end with its own end token.

    Raises
    ------
    PretrainedError
        It cannot be loaded, is not a fast one, or has no end token.
    """
    tokenizer, end = _fast_tokenizer(pretrained)
    if end is None:
        raise PretrainedError(f"the tokenizer of {pretrained} names no eos_token: set one in its tokenizer_config.json")
    tokenizer.add_special_tokens([USER_TOKEN])
    end_with(tokenizer, end)
    return literal(tokenizer)


def _identity(pretrained: str) -> str:
    config = str(_load(pretrained, lambda name: cached_file(name, CONFIG_NAME)))
    commit: str | None = extract_commit_hash(config, None)
    if commit is not None:
        return commit
    digest = hashlib.sha256()
    for path in sorted(path for path in Path(config).parent.iterdir() if path.suffix in FILES):
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _fast_tokenizer(pretrained: str) -> tuple[Tokenizer, str | None]:
    """Return a tokenizer of the `tokenizers` library, and its end token, None where it has none."""
    loaded = _load(pretrained, lambda name: AutoTokenizer.from_pretrained(name))
    if not loaded.is_fast:
        raise PretrainedError(f"the tokenizer of {pretrained} has no tokenizer.json: save it as a fast one")
    tokenizer = Tokenizer.from_str(loaded.backend_tokenizer.to_str())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer, loaded.eos_token


def _load(name: str, load: Callable[[str], Loaded]) -> Loaded:
    """Return what `load` reads from a hub or a folder; a failure becomes a PretrainedError that names the remedy."""
    try:
        with _quiet():
            return load(name)
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        remedy = (
            "a folder that `save_pretrained` wrote has config.json, model.safetensors and tokenizer.json"
            if Path(name).is_dir()
            else f"where there is a network, `hf download {name} --local-dir FOLDER` fetches it; name that folder here"
        )
        raise PretrainedError(f"the pretrained model {name!r} cannot be had ({reason}): {remedy}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the progress bars and remarks of transformers; its errors are still raised."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
