"""Small models in the formats in which transformers' pretrained ones come: a folder with config, weights, tokenizer."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    GPT2Config,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    RobertaConfig,
)

from tests.support.made_up import INTERESTS, PLACES

TEXTS = [f"paid ~{band} for {interest} at {place}" for band in (8, 64) for interest in INTERESTS for place in PLACES]
LANGUAGE = ["What does this user like?", "The user likes coffee.", "How many bills does this user have? few some many"]
ENCODERS = ("bert", "roberta", "distilbert", "electra")
LANGUAGE_MODELS = ("qwen2", "qwen3", "llama", "gpt2")


def save_encoder(folder: Path, kind: str, seed: int = 1) -> Path:
    """A BERT-class encoder: WordPiece and [CLS] text [SEP], or of RoBERTa's kind; the seed draws its weights."""
    torch.manual_seed(seed)
    tokenizer = _byte_level(TEXTS, ["<s>", "<pad>", "</s>", "<unk>"]) if kind == "roberta" else _word_piece(TEXTS)
    if kind == "roberta":
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
        )
        named = {"cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    else:
        named = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named).save_pretrained(folder)
    rows = tokenizer.get_vocab_size()
    sizes = {
        "vocab_size": rows,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": 40,
        "initializer_range": 0.3,
    }
    config = {
        "bert": lambda: BertConfig(**sizes),
        "roberta": lambda: RobertaConfig(**sizes, pad_token_id=1, bos_token_id=0, eos_token_id=2),
        "distilbert": lambda: DistilBertConfig(
            vocab_size=rows,
            dim=32,
            n_layers=2,
            n_heads=4,
            hidden_dim=48,
            max_position_embeddings=40,
            initializer_range=0.3,
        ),
        "electra": lambda: ElectraConfig(**sizes, embedding_size=16),
    }[kind]()
    AutoModel.from_config(config).save_pretrained(folder)
    return folder


def save_language_model(folder: Path, kind: str) -> Path:
    """A causal language model with an end token of its own and a few rows to spare, as Qwen2.5 has them."""
    torch.manual_seed(2)
    tokenizer = _byte_level(LANGUAGE, ["<|endoftext|>", "<|im_end|>"])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    ).save_pretrained(folder)
    spare = 5 if kind == "qwen2" else 0
    sizes = {
        "vocab_size": tokenizer.get_vocab_size() + spare,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "initializer_range": 0.3,
    }
    config = {
        "qwen2": lambda: Qwen2Config(**sizes, tie_word_embeddings=True),
        "qwen3": lambda: Qwen3Config(**sizes, head_dim=8, tie_word_embeddings=True),
        "llama": lambda: LlamaConfig(**sizes, tie_word_embeddings=False),
        "gpt2": lambda: GPT2Config(
            vocab_size=sizes["vocab_size"],
            n_embd=32,
            n_layer=2,
            n_head=4,
            n_inner=48,
            n_positions=256,
            initializer_range=0.3,
        ),
    }[kind]()
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def _word_piece(texts: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer.train_from_iterator(
        texts, trainers.WordPieceTrainer(vocab_size=300, special_tokens=specials, show_progress=False)
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def _byte_level(texts: list[str], specials: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=specials,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    return tokenizer
