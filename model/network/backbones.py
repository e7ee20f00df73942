"""The transformers of the network: a BERT-class encoder and a causal language model, fresh or pretrained.

Every architecture of transformers that `AutoModel` or `AutoModelForCausalLM` builds can be used. A checkpoint holds
the configuration and every weight, and needs no hub.

Shapes: V vocabulary, H width of the backbone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    BertConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
)

from model.data.config import NetworkConfig
from model.data.text import PAD, USER_TOKEN, Tokenizers, token_id, train_event_tokenizer, train_language_tokenizer
from model.data.transformer_config import BackboneConfig, EncoderConfig, initial_std
from model.network.lora import add_lora
from model.network.pretrained import (
    PretrainedError,
    event_tokenizer,
    language_tokenizer,
    load_weights,
    with_architecture,
)


def text_encoder(config: EncoderConfig, max_tokens: int, *, pretrained: bool) -> PreTrainedModel:
    """Return an encoder of event texts.

    Parameters
    ----------
    max_tokens
        The most tokens of a text.
    pretrained
        Load the pretrained weights, where the config names a pretrained model; otherwise all weights are fresh.

    Raises
    ------
    PretrainedError
        The model cannot be loaded, lacks weights, or reads fewer tokens.
    """
    architecture = _bert(config, max_tokens) if config.architecture is None else _architecture(config.architecture)
    model = _build(AutoModel, architecture, config.pretrained if pretrained else None)
    # RoBERTa counts positions from the one after its padding's.
    first = 1 + getattr(getattr(model, "embeddings", None), "padding_idx", -1)
    limit = getattr(architecture, "max_position_embeddings", first + max_tokens) - first
    if limit < max_tokens:
        raise PretrainedError(
            f"the encoder {config.pretrained} reads {limit} tokens, a source asks for {max_tokens}: "
            "lower the source's max_tokens, or name another encoder"
        )
    if hasattr(model, "pooler"):
        setattr(model, "pooler", None)  # noqa: B010 -- nothing reads this layer
    return add_lora(model, config.lora)


def language_model(config: BackboneConfig, *, pretrained: bool) -> PreTrainedModel:
    """Return a causal language model; each new row of its token table is the mean of the other rows.

    Parameters
    ----------
    pretrained
        Load the pretrained weights, where the config names a pretrained model; otherwise all weights are fresh.

    Raises
    ------
    PretrainedError
        The model cannot be loaded, or lacks weights.
    """
    architecture = _qwen2(config) if config.architecture is None else _architecture(config.architecture)
    model = _build(AutoModelForCausalLM, architecture, config.pretrained if pretrained else None)
    if len(_table(model)) < config.vocabulary:
        model.resize_token_embeddings(config.vocabulary, mean_resizing=False)
    if config.new_tokens:
        with torch.no_grad():
            for weight_VH in {id(table): table for table in (_table(model), _head(model))}.values():
                known_V = torch.ones(len(weight_VH), dtype=torch.bool)
                known_V[list(config.new_tokens)] = False
                weight_VH[list(config.new_tokens)] = weight_VH[known_V].mean(0)
    return add_lora(model, config.lora, config.new_tokens)


def with_tokenizers(
    config: NetworkConfig, event_texts: set[str], language_texts: set[str]
) -> tuple[NetworkConfig, Tokenizers]:
    """Return the config completed by its tokenizers, and the tokenizers.

    A pretrained model brings its own tokenizer; a fresh one has a tokenizer trained on these texts. The config gets
    the vocabularies' sizes, and the architecture and the row of `<USER>` of pretrained models.

    Raises
    ------
    PretrainedError
        A model cannot be loaded.
    """
    encoder, backbone = with_architecture(config.encoder), with_architecture(config.backbone)
    if encoder.pretrained is None:
        event = train_event_tokenizer(event_texts, encoder.vocabulary)
        encoder = replace(encoder, vocabulary=event.get_vocab_size())
    else:
        event = event_tokenizer(encoder.pretrained)
    if backbone.pretrained is None:
        language = train_language_tokenizer(
            language_texts | (event_texts if config.reading == "tokens" else set()), backbone.vocabulary
        )
        backbone = replace(backbone, vocabulary=language.get_vocab_size())
    else:
        language = language_tokenizer(backbone.pretrained)
        backbone = replace(
            backbone,
            vocabulary=max(backbone.vocabulary, language.get_vocab_size()),
            new_tokens=(token_id(language, USER_TOKEN),),
        )
    reader, instruction = config.instruction_encoder, None
    if reader is not None:
        assert reader.pretrained is not None
        instruction = event_tokenizer(reader.pretrained)
        reader = with_architecture(reader)
    config = replace(config, encoder=encoder, backbone=backbone, instruction_encoder=reader)
    return config, Tokenizers(event=event, language=language, instruction=instruction)


def _table(model: PreTrainedModel) -> nn.Parameter:
    return model.get_input_embeddings().get_parameter("weight")


def _head(model: PreTrainedModel) -> nn.Parameter:
    return model.get_output_embeddings().get_parameter("weight")


def _build(auto_class: Any, architecture: PretrainedConfig, pretrained: str | None) -> PreTrainedModel:
    """Return a model of an architecture, in fp32; its weights are fresh where no pretrained model is named."""
    if pretrained is not None:
        return load_weights(auto_class, architecture, pretrained)
    fresh: PreTrainedModel = auto_class.from_config(architecture, dtype=torch.float32)
    return fresh


def _architecture(fields: Mapping[str, Any]) -> PretrainedConfig:
    values = dict(fields)
    return AutoConfig.for_model(values.pop("model_type"), **values)


def _bert(sizes: EncoderConfig, max_tokens: int) -> BertConfig:
    # No dropout: a network of this size is trained for too few steps to overfit.
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
