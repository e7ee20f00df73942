"""Measure the networks of the preset `paper` on a GPU: tokens per second, share of the bf16 peak, and memory.

Run `python -m benchmarks.gpu` on a GPU; `--small` runs two layers on any device. The shapes are those of gte-base
(BERT) and Qwen2.5-0.5B; the weights are random, which does not change the speed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from benchmarks.report import RESULTS, Row, write
from model.data.segments import PROFILE
from model.network.packing import pack

REPEATS = 5
PAIRS, SUFFIX = 5, 24
"""The number of question-answer pairs packed behind a profile, and the tokens of each, a third of them the answer."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A point of the sweep: a batch of sequences of `length` tokens, packed suffixes included."""

    batch: int
    length: int
    training: bool = True
    checkpointing: bool = False

    def __str__(self) -> str:
        mode = "training" if self.training else "embedding"
        return f"{mode}{', checkpointed' if self.checkpointing else ''}, {self.batch} x {self.length}"


@dataclass(frozen=True, kw_only=True)
class Speed:
    """The speed of a network at a shape; `memory` is the peak in GiB, 0 without a GPU."""

    tokens_per_second: float
    flops_per_second: float
    memory: float


def language_model(small: bool) -> Qwen2ForCausalLM:
    """Return a network with the shape of Qwen2.5-0.5B."""
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=1000 if small else 151936,
            hidden_size=896,
            intermediate_size=4864,
            num_hidden_layers=2 if small else 24,
            num_attention_heads=14,
            num_key_value_heads=2,
            max_position_embeddings=32768,
            tie_word_embeddings=True,
        )
    )


def encoder(small: bool) -> BertModel:
    """Return a network with the shape of gte-base."""
    return BertModel(
        BertConfig(num_hidden_layers=2 if small else 12, vocab_size=1000 if small else 30522), add_pooling_layer=False
    )


def read_pairs(network: PreTrainedModel, shape: Shape) -> Tensor:
    """Return a loss over packed profiles: at each `<USER>`, and for training at the answers' next tokens."""
    device = network.device
    ids_BS = torch.randint(3, network.config.vocab_size, (shape.batch, shape.length), device=device)
    segment_S = torch.full((shape.length,), PROFILE, device=device)
    for pair in range(PAIRS):
        end = shape.length - pair * SUFFIX
        segment_S[end - SUFFIX : end] = PAIRS - pair
    embeds_BSH = network.get_input_embeddings()(ids_BS)
    mask, positions_BS = pack(segment_S.expand(shape.batch, -1), embeds_BSH.dtype)
    hidden_BSH = network.base_model(
        inputs_embeds=embeds_BSH, attention_mask=mask, position_ids=positions_BS, use_cache=False
    ).last_hidden_state
    users_BKH = hidden_BSH[:, shape.length - PAIRS * SUFFIX + 2 * SUFFIX // 3 - 1 :: SUFFIX]
    loss = users_BKH.float().square().mean()
    if shape.training:
        answers = _answers(shape.length)
        logits = network.get_output_embeddings()(hidden_BSH[:, answers])
        loss = loss + nn.functional.cross_entropy(logits.flatten(0, 1).float(), ids_BS[:, answers].flatten())
    return loss


def read_texts(network: PreTrainedModel, shape: Shape) -> Tensor:
    """Return a loss over the first hidden state of event texts."""
    ids_TL = torch.randint(3, network.config.vocab_size, (shape.batch, shape.length), device=network.device)
    vectors_TE: Tensor = network(input_ids=ids_TL).last_hidden_state[:, 0]
    return vectors_TE.float().square().mean()


def _answers(length: int) -> list[int]:
    """Return the positions of the answers of the packed suffixes."""
    return [place for place in range(length - PAIRS * SUFFIX, length) if (length - place - 1) % SUFFIX < SUFFIX // 3]


def flops(network: PreTrainedModel, shape: Shape) -> float:
    """Return the operations of a step: two for each matrix weight and token, full attention, backward twice forward."""
    tokens, sizes = shape.batch * shape.length, network.config
    tables = {id(module.weight) for module in network.modules() if isinstance(module, nn.Embedding)}
    weights = sum(weight.numel() for weight in network.parameters() if weight.dim() == 2 and id(weight) not in tables)
    work = 2.0 * weights * tokens + 4.0 * sizes.num_hidden_layers * sizes.hidden_size * tokens * shape.length
    if shape.training and network.get_output_embeddings() is not None:
        work += 2.0 * sizes.hidden_size * sizes.vocab_size * shape.batch * len(_answers(shape.length))
    return work * (3 if shape.training else 1)


def measure(network: PreTrainedModel, read: Callable[[PreTrainedModel, Shape], Tensor], shape: Shape) -> Speed:
    """Run a shape a few times, with fp32 weights in bf16 autocast, as in training (`precision: bf16`)."""
    device = network.device
    network.train(shape.training)
    if shape.checkpointing:
        network.activation_checkpointing_enable({"use_reentrant": False})
    else:
        network.activation_checkpointing_disable()
    best = float("inf")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for repeat in range(REPEATS + 1):
        begin = _now(device)
        with torch.autocast(device.type, torch.bfloat16), torch.set_grad_enabled(shape.training):
            loss = read(network, shape)
        if shape.training:
            loss.backward()
        if repeat:  # the first compiles and allocates
            best = min(best, _now(device) - begin)
    memory = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0.0
    return Speed(
        tokens_per_second=shape.batch * shape.length / best,
        flops_per_second=flops(network, shape) / best,
        memory=memory,
    )


def peak(device: torch.device, size: int) -> float:
    """Return operations per second of a large bf16 matrix product, the best of some."""
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    best = float("inf")
    for _ in range(4 * REPEATS):
        begin = _now(device)
        left @ right
        best = min(best, _now(device) - begin)
    return 2.0 * size**3 / best


def sweep(small: bool) -> Iterator[tuple[str, Any, Callable[[PreTrainedModel, Shape], Tensor], list[Shape]]]:
    """Yield each network with its shapes: profiles of up to the paper's 560 events, texts of up to its 50 tokens."""
    for name, make, read, lengths, batches in (
        ("Qwen2.5-0.5B", language_model, read_pairs, (256, 768, 1536), (8, 32, 128)),
        ("gte-base", encoder, read_texts, (16, 32, 50), (256, 1024, 4096)),
    ):
        shapes = [Shape(batch=batch, length=length) for length in lengths for batch in batches]
        middle = Shape(batch=batches[1], length=lengths[1])
        shapes += [replace(middle, checkpointing=True), replace(middle, training=False)]
        if small:
            shapes = [Shape(batch=2, length=lengths[0]), Shape(batch=2, length=lengths[0], training=False)]
        yield name, make, read, shapes


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def main() -> None:
    """Measure every shape and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="Two layers and little batches; writes no results.")
    arguments = parser.parse_args()
    if not torch.cuda.is_available() and not arguments.small:
        raise SystemExit("this machine has no GPU: --small runs on the CPU")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    where = torch.cuda.get_device_name() if device.type == "cuda" else "the CPU, without a GPU"
    torch.manual_seed(0)
    most = peak(device, 1024 if arguments.small else 8192)
    rows = [Row(name="one large bf16 matrix product", value=most / 1e12, unit="TFLOP/s")]
    for name, make, read, shapes in sweep(arguments.small):
        network = make(arguments.small).to(device)
        for shape in shapes:
            try:
                speed = measure(network, read, shape)
            except torch.OutOfMemoryError:
                rows.append(Row(name=f"{name}, {shape}: out of memory", value=0.0, unit="tokens/s"))
            else:
                rows += [
                    Row(name=f"{name}, {shape}", value=speed.tokens_per_second, unit="tokens/s"),
                    Row(name="its share of the peak", value=speed.flops_per_second / most),
                ]
                rows += [Row(name="its memory", value=speed.memory, unit="GiB")] if device.type == "cuda" else []
            network.zero_grad()
            if device.type == "cuda":
                torch.cuda.empty_cache()
        del network
    layers = "two layers of " if arguments.small else ""
    text = (
        f"On {where}: forward and backward of {layers}the paper's networks, random fp32 weights read in bf16, "
        f"batch x tokens, the best of {REPEATS}. A sequence of the language model is a profile with {PAIRS} packed "
        f"suffixes of {SUFFIX} tokens under the packed mask. The share counts two operations for each weight and "
        "token, attention over the whole square, and the backward pass as twice the forward one; layers read again "
        "for checkpointing do not count."
    )
    with tempfile.TemporaryDirectory() as folder:
        write("gpu", rows, text, Path(folder) if arguments.small else RESULTS)


if __name__ == "__main__":
    main()
