"""A step's gradients are those of one plain forward over the whole batch, however it is read."""

import itertools
import json
import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file, save_file

from model.data.pairs import SampledBatch
from model.network.network import InstructUE
from model.network.tensors import PairOutputs
from model.training.dataset import Batches, prepare_dataset
from model.training.grad_cache import GradCache, frozen_text_vectors
from model.training.losses import Losses, contrastive_loss, language_loss, within_question_loss
from model.training.processes import processes, same_weights
from model.training.training import train
from model.training.training_config import TrainingConfig
from tests.support.made_up import network_config, yes_no_tables

PLAIN = TrainingConfig(profiles_per_step=7, weight_lm=0.5, weight_cl=2.0, temperature=0.2)
SHORT = replace(PLAIN, steps=3, warmup_steps=1, validate_every=2, save_every=2, validation_profiles=6)


WITHIN = {"universal_pairs": 4, "shared_questions": True, "weight_within_question": 1.5, "weight_instruction_text": 0.5}
"""The losses within a question, beside the paper's."""


def small_data() -> tuple:
    """Tables in which half of the questions have a second answer beside their `none`, of one user."""
    config = network_config(head=24)  # an embedding of another width than the backbone
    config = replace(config, encoder=replace(config.encoder, layers=1), backbone=replace(config.backbone, layers=1))
    profiles, pairs = yes_no_tables(24, events=6, searches=2)
    rows = pairs.to_pylist()
    user = next(row["user_id"] for row in rows if row["split"] == "train")
    for row in rows:
        if row["user_id"] == user and row["question"] in ("likes_0", "likes_1", "likes_2"):
            row |= {"answer": "Yes, a lot.", "is_none": False}
    return profiles, pa.Table.from_pylist(rows, pairs.schema), config


def example(training: TrainingConfig, *, dropout: float = 0.0) -> tuple[GradCache, SampledBatch]:
    """A network and the first batch that it is trained on."""
    config, _, dataset, _ = prepare_dataset(*small_data(), training)
    torch.manual_seed(0)
    network = InstructUE(config)
    for part in network.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = dropout
        elif hasattr(part, "attention_dropout"):
            part.attention_dropout = dropout
    cache = GradCache(network=network, dataset=dataset, texts=dataset.event_ids, training=training, seed=0)
    return cache, Batches(dataset, training, 0).batch(0)


def gradients(cache: GradCache, sampled: SampledBatch) -> tuple[list[float], dict[str, torch.Tensor]]:
    """The losses and gradients of a step."""
    losses = cache.backward(sampled, 0)
    result = {name: weight.grad.clone() for name, weight in cache.network.named_parameters()}
    return numbers(losses), result


def numbers(losses: Losses) -> list[float]:
    return [losses.total.item(), *(term.item() for term in losses.terms.values())]


def literal(
    cache: GradCache, sampled: SampledBatch, outputs: list[PairOutputs]
) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Eq. 5 over all that was read, in one graph."""
    training, pairs = cache.training, cache.dataset.pairs
    users, answers, instructions = torch.cat([output.embeddings_3QH for output in outputs], dim=1)
    question, answer = pairs.question_R[sampled.pair_Q], pairs.answer_R[sampled.pair_Q]
    cut_off = pairs.cut_off_U[sampled.users_B][sampled.row_Q]
    within = {
        "question_Q": np.where(sampled.is_universal_Q, question + 1000, question),
        "answer_Q": answer,
        "cut_off_Q": cut_off if training.center_by_cut_off else np.full(len(cut_off), 7),
    }
    is_yes = np.array([text.startswith("Yes") for text in pairs.answers])
    several = [
        q for q in set(question) if len(set(pairs.answer_R[(pairs.question_R == q) & is_yes[pairs.answer_R]])) > 1
    ]
    of_one_answer = is_yes[answer] & ~np.isin(question, several)
    logits, tokens = (torch.cat([getattr(output, name) for output in outputs]) for name in ("logits_NV", "tokens_N"))
    terms = {
        "weight_lm": language_loss(logits, tokens),
        "weight_cl": contrastive_loss(users, answers, torch.from_numpy(answer), temperature=training.temperature),
        "weight_within_question": within_question_loss(users, answers, compared_Q=is_yes[answer], **within),
        "weight_instruction_text": within_question_loss(users, instructions, compared_Q=of_one_answer, **within),
    }
    terms = {name: term for name, term in terms.items() if getattr(training, name)}
    total = sum(getattr(training, name) * term for name, term in terms.items())
    cache.network.zero_grad()
    total.backward()
    result = {
        name: torch.zeros_like(weight) if weight.grad is None else weight.grad
        for name, weight in cache.network.named_parameters()
    }
    return [total.item(), *(term.item() for term in terms.values())], result


def same(one: tuple, other: tuple, tolerance: float = 1e-5) -> None:
    assert one[0] == pytest.approx(other[0], abs=tolerance)
    for name, gradient in one[1].items():
        assert (gradient - other[1][name]).abs().max().item() < tolerance, name


@pytest.mark.parametrize("profiles_per_forward", [None, 7, 3, 1])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"general_pairs": 0},  # a profile may have no pair at all
        WITHIN,
        WITHIN
        | {"general_pairs": 0, "instructed_pairs": 0, "weight_lm": 0.0, "weight_cl": 0.0, "center_by_cut_off": False},
    ],
)
def test_gradients_are_those_of_one_forward(profiles_per_forward: int | None, changes: dict[str, Any]) -> None:
    training = replace(PLAIN, profiles_per_forward=profiles_per_forward, **changes)
    cache, sampled = example(training)
    if "general_pairs" in changes:  # the second and the last profile
        kept = np.isin(sampled.row_Q, (1, 6), invert=True)
        arrays = ("row_Q", "pair_Q", "instruction_Q", "is_universal_Q")
        sampled = replace(sampled, **{name: getattr(sampled, name)[kept] for name in arrays})
    batch, ids = cache.dataset.collate(sampled), cache.dataset.instruction_text_ids
    expected = literal(cache, sampled, [cache.network(batch, cache.texts, cache.dataset.answer_ids, ids)])
    assert len(expected[0]) == 1 + len(training.loss_weights)
    assert all(loss > 0.01 for loss in expected[0])
    assert max(gradient.abs().max().item() for gradient in expected[1].values()) > 0.01
    same(gradients(cache, sampled), expected)
    # Without gradients, as for the validation split.
    assert numbers(cache.losses(sampled)) == pytest.approx(expected[0], abs=1e-5)


def test_a_pair_has_the_text_embeddings_of_its_answer_and_instruction() -> None:
    profiles, written, config = small_data()
    _, tokenizers, dataset, _ = prepare_dataset(profiles, written, config, PLAIN)
    cache, sampled = example(PLAIN)
    batch, pairs, network = cache.dataset.collate(sampled), dataset.pairs, cache.network.eval()
    texts = {
        1: [pairs.answers[pairs.answer_R[pair]] for pair in sampled.pair_Q],
        2: [pairs.instructions[number] or "" for number in sampled.instruction_Q],
    }
    with torch.no_grad():
        output = network(batch, cache.texts, dataset.answer_ids, dataset.instruction_text_ids)
        for part, of_pairs in texts.items():
            for q, text in enumerate(of_pairs):
                ids = tokenizers.language.encode(text, add_special_tokens=False).ids
                hidden = network.decoder(torch.tensor([[*ids, tokenizers.end]])).last_hidden_state[0, -1]
                expected = torch.nn.functional.normalize(network.head.weight @ hidden, dim=-1)
                assert (output.embeddings_3QH[part, q] - expected).abs().max() < 1e-5


def test_dropout_falls_on_the_same_places_in_both_readings() -> None:
    cache, sampled = example(replace(PLAIN, profiles_per_forward=3), dropout=0.3)
    calls = []
    hook = cache.network.register_forward_pre_hook(lambda network, given: calls.append((torch.get_rng_state(), given)))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    result = gradients(cache, sampled)
    assert torch.equal(torch.get_rng_state(), before)  # the global random state is unchanged
    hook.remove()
    assert len(calls) == 6
    assert not torch.equal(calls[0][0], calls[1][0])
    outputs = []
    for chance, given in calls[:3]:
        torch.set_rng_state(chance)
        outputs.append(cache.network(*given))
    same(result, literal(cache, sampled, outputs))
    torch.manual_seed(6)
    same(gradients(cache, sampled), result)  # a function of seed and step alone
    other = cache.backward(sampled, 1)
    assert abs(other.total.item() - result[0][0]) > 1e-4


def test_attention_of_the_last_layer_has_dropout_in_training_alone() -> None:
    """The language loss reads the packed suffixes alone; answers are read by whole layers."""

    def language() -> tuple[float, float]:
        held_out, trained = cache.losses(sampled), cache.backward(sampled, 0)
        return held_out.terms["language"].item(), trained.terms["language"].item()

    cache, sampled = example(PLAIN)
    held_out, trained = language()
    cache.network.decoder.layers[-1].self_attn.attention_dropout = 0.5
    with_dropout = language()
    assert with_dropout[0] == held_out
    assert abs(with_dropout[1] - trained) > 1e-4


def test_half_precision_reads_nearly_the_same_and_keeps_weights_whole() -> None:
    cache, sampled = example(replace(PLAIN, profiles_per_forward=3))
    halved = replace(cache, training=replace(cache.training, precision="bf16"))
    losses, whole = gradients(cache, sampled)
    half_losses, half = gradients(halved, sampled)
    assert half_losses == pytest.approx(losses, rel=0.02)
    assert half_losses != losses
    flat, half_flat = (torch.cat([part.flatten() for part in result.values()]) for result in (whole, half))
    assert half_flat.dtype == torch.float32
    assert torch.cosine_similarity(flat, half_flat, dim=0).item() > 0.99


def texts_encoded(cache: GradCache, _: SampledBatch) -> dict[str, torch.Tensor]:
    """The vectors of all texts, and how many of them this process encoded."""
    encode, counts = cache.network.encode_events, []

    def counted(source: str, ids_TL: torch.Tensor, mask_TL: torch.Tensor) -> torch.Tensor:
        counts.append(len(ids_TL))
        return encode(source, ids_TL, mask_TL)

    cache.network.encode_events = counted
    bills, searches = frozen_text_vectors(cache.network, cache.dataset)
    return {"bills": bills, "searches": searches, "encoded": torch.tensor(sum(counts))}


CASES: dict[str, dict[str, Any]] = {
    "whole": {},
    "parts": {"profiles_per_forward": 2},
    "lone": {"profiles_per_step": 1},
    "within": WITHIN,
}
"""Changes of `PLAIN` by name."""


def in_this_process(out: Path) -> None:
    """What both one process and two of them do: a step's gradients, and a training."""
    out.mkdir(parents=True, exist_ok=True)
    main, number = processes().is_main_process, processes().process_index
    torch.manual_seed(number)
    layer = torch.nn.Linear(3, 3)
    same_weights(layer)
    save_file(layer.state_dict(), out / f"layer-{number}.safetensors")
    encoded = texts_encoded(*example(PLAIN))
    save_file(encoded, out / f"texts-{number}.safetensors")
    for name, changes in CASES.items():
        losses, result = gradients(*example(replace(PLAIN, **changes)))
        if main:
            save_file(result | {"losses": torch.tensor(losses)}, out / f"{name}.safetensors")
    train(*small_data(), replace(SHORT, **WITHIN), out / "checkpoint")


@pytest.mark.slow
def test_two_processes_are_one(tmp_path: Path) -> None:
    """Seven profiles do not divide by two, and one leaves a process with nothing to read."""
    in_this_process(tmp_path / "one")
    launched = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    run = subprocess.run(
        [*launched, "-m", "tests.model.training.test_grad_cache", str(tmp_path / "two")],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    layers = [load_file(tmp_path / path)["weight"] for path in ("one/layer-0.safetensors", "two/layer-1.safetensors")]
    assert torch.equal(*layers)
    lone, *shared = (
        load_file(tmp_path / path)
        for path in ("one/texts-0.safetensors", "two/texts-0.safetensors", "two/texts-1.safetensors")
    )
    texts = [len(lone["bills"]), len(lone["searches"])]
    shares = [sum(texts), sum((count + 1) // 2 for count in texts), sum(count // 2 for count in texts)]
    assert [result["encoded"].item() for result in (lone, *shared)] == shares
    for result, source in itertools.product(shared, ("bills", "searches")):
        assert (result[source] - lone[source]).abs().max().item() < 1e-5
    assert run.stdout.count("step 3 of 3") == 1  # the first process alone logs
    for name in CASES:
        one, two = (load_file(tmp_path / folder / f"{name}.safetensors") for folder in ("one", "two"))
        for key, expected in one.items():
            assert (two[key] - expected).abs().max().item() < 1e-5, (name, key)
    one, two = (
        [json.loads(line) for line in (tmp_path / folder / "checkpoint" / "metrics.jsonl").read_text().splitlines()]
        for folder in ("one", "two")
    )
    assert [line["step"] for line in one] == [2, 3]
    assert two == [pytest.approx(line, rel=1e-5) for line in one]
    assert json.loads((tmp_path / "two" / "checkpoint" / "metrics.json").read_text())["processes"] == 2
    weights = [load_file(tmp_path / folder / "checkpoint" / "model.safetensors") for folder in ("one", "two")]
    # On the mean: of a gradient that is 0 but for rounding, such as a key's bias, AdamW makes whole steps.
    apart = torch.cat([(weights[1][key] - weight).abs().flatten() for key, weight in weights[0].items()])
    assert apart.mean().item() < 1e-5


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stdout)
    in_this_process(Path(sys.argv[1]))
