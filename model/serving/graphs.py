"""The ONNX graphs of a network: texts to event vectors, profiles with instructions to embeddings.

The user graph carries no vocabulary: instructions come in as vectors. Every axis is dynamic, and the same network
gives the same bytes on any machine.

Shapes: B users, N events of a source, E width of an event vector, F numbers, W width of a number's code, C categories,
K instructions, L tokens of all of them end to end, H width of the backbone (and of an embedding, unless there is a
head), P tokens of a profile, S = P + L. In the event graph and the text graph: T texts, L tokens of the longest.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn
from torch.export import Dim

from model.data.config import Focus
from model.data.segments import PADDING, PROFILE
from model.network.last_layer import hidden_at, is_supported
from model.network.lora import merge_lora
from model.network.network import InstructUE
from model.network.packing import pack
from model.network.tensors import ProfileTensors
from model.serving.release import SENTENCE_GRAPH, TEXT_GRAPH, USER_GRAPH, event_graph

MOST_BYTES = 2**31 - 2**20
"""A protobuf holds no more than 2 GB: a larger graph's weights are in a file beside it, `<graph>.data`."""


def export_graphs(network: InstructUE, folder: Path) -> None:
    """Write `user.onnx` and an event graph for each encoder, with every axis dynamic; low-rank updates are merged.

    With focus, `text.onnx` too, which turns the token vectors of an instruction into its text embedding. With a
    pretrained instruction encoder, `sentence.onnx` too, which turns its tokens into its sentence embedding.
    """
    network = merge_lora(network)
    texts, tokens = Dim("texts"), Dim("tokens")
    # A separate tensor for each input: the exporter treats a tensor that is passed twice as one input.
    example = (_ones(3, 5), _ones(3, 5))
    for name, encoder in zip(network.config.encoder_names, network.encoders, strict=True):
        _export(
            encoder,
            example,
            ({0: texts, 1: tokens},) * 2,
            ["input_ids", "attention_mask"],
            "vectors",
            folder / event_graph(name),
        )
    inputs, shapes, names = _user_inputs(network)
    _export(USER_GRAPHS[network.config.focus](network), inputs, shapes, names, "embeddings", folder / USER_GRAPH)
    if network.config.focus:
        vectors = torch.zeros(3, 5, network.config.backbone.width)
        axes = ({0: texts, 1: tokens},) * 2
        names = ["vectors", "attention_mask"]
        _export(TextGraph(network), (vectors, _ones(3, 5)), axes, names, "embeddings", folder / TEXT_GRAPH)
    if network.instruction_encoder is not None:
        names, axes = ["input_ids", "attention_mask"], ({0: texts, 1: tokens},) * 2
        _export(network.instruction_encoder, example, axes, names, "vectors", folder / SENTENCE_GRAPH)


class UserGraph(nn.Module):
    """`InstructUE.forward_users` with instructions end to end and, of a Qwen2, the last layer at `<USER>` alone.

    A short instruction is not padded to the longest, and the last layer skips tokens that nothing reads. The gates
    compare the graph with `forward_users`.

    Inputs by name: per source `events_<s>` [B, N, E], `mask_<s>` and `gaps_<s>` [B, N], `age_<s>` [B]; `numbers`
    [B, F, W] and `categories` [B, C] where the network has such columns; `instructions` [L, H], `segments` [L] with
    the number of each token's instruction, from 1, and `users` [K], the position in L of each instruction's `<USER>`.
    Output: `embeddings` [B, K, H].
    """

    def __init__(self, network: InstructUE) -> None:
        super().__init__()
        self.network = network
        self.short_cut = is_supported(network.decoder) and network.config.readout == "user"

    def forward(
        self,
        events: list[Tensor],
        masks: list[Tensor],
        gaps: list[Tensor],
        ages: list[Tensor],
        tabular: dict[str, Tensor],
        instructions_LH: Tensor,
        segments_L: Tensor,
        users_K: Tensor,
    ) -> Tensor:
        """Return `embeddings` [B, K, H]."""
        profile = ProfileTensors(
            events_BNE=tuple(events),
            masks_BN=tuple(masks),
            gaps_BN=tuple(gaps),
            ages_B=tuple(ages),
            numbers_BFW=tabular.get("numbers"),
            categories_BC=tabular.get("categories"),
        )
        tokens_BPH, mask_BP = self.network.read_profile(profile)
        users, length = tokens_BPH.shape[:2]
        tokens_BSH = torch.cat([tokens_BPH, instructions_LH[None].expand(users, -1, -1)], dim=1)
        segments_BS = torch.cat([torch.where(mask_BP > 0, PROFILE, PADDING), segments_L[None].expand(users, -1)], dim=1)
        mask, positions_BS = pack(segments_BS, tokens_BSH.dtype)
        if self.short_cut:
            rows_K = length + users_K
            hidden_BKH = hidden_at(
                self.network.decoder,
                tokens_BSH,
                mask,
                positions_BS,
                lambda tensor, axis: tensor[:, rows_K] if axis == 1 else tensor[:, :, rows_K],
            )
            return self.network.embeddings(hidden_BKH)
        hidden_BSH = self.network.hidden(tokens_BSH, mask, positions_BS)
        scenarios = users_K.shape[0]
        row_Q = torch.arange(users, device=users_K.device)[:, None].expand(-1, scenarios).flatten()
        column_Q = users_K[None].expand(users, -1).flatten()
        users_QH = self.network.read_out(hidden_BSH, mask_BP, segments_BS[:, length:], row_Q, column_Q)
        return self.network.embeddings(users_QH).unflatten(0, (users, scenarios))


class SuffixFocusGraph(UserGraph):
    """`UserGraph` with a further input `directions` [K, H], along which each instruction's embeddings are focused."""

    def forward(  # type: ignore[override]
        self,
        events: list[Tensor],
        masks: list[Tensor],
        gaps: list[Tensor],
        ages: list[Tensor],
        tabular: dict[str, Tensor],
        instructions_LH: Tensor,
        segments_L: Tensor,
        users_K: Tensor,
        directions_KH: Tensor,
    ) -> Tensor:
        """Return `embeddings` [B, K, H]."""
        users_BKH = super().forward(events, masks, gaps, ages, tabular, instructions_LH, segments_L, users_K)
        focused_BKH: Tensor = self.network.focus(users_BKH, directions_KH)  # type: ignore[misc]
        return focused_BKH


class UniversalFocusGraph(UserGraph):
    """`UserGraph` that reads `<USER>` alone behind a profile; `directions` [K, H] take the place of instructions."""

    user_1H: Tensor

    def __init__(self, network: InstructUE) -> None:
        super().__init__(network)
        assert network.focus is not None
        self.register_buffer("user_1H", network.token_vectors(network.focus.user)[None].detach())

    def forward(  # type: ignore[override]
        self,
        events: list[Tensor],
        masks: list[Tensor],
        gaps: list[Tensor],
        ages: list[Tensor],
        tabular: dict[str, Tensor],
        directions_KH: Tensor,
    ) -> Tensor:
        """Return `embeddings` [B, K, H]."""
        first_1 = torch.zeros(1, dtype=torch.int64)
        users_B1H = super().forward(events, masks, gaps, ages, tabular, self.user_1H, first_1 + 1, first_1)
        focused_BKH: Tensor = self.network.focus(users_B1H, directions_KH)  # type: ignore[misc]
        return focused_BKH


USER_GRAPHS: dict[Focus | None, type[UserGraph]] = {
    None: UserGraph,
    "suffix": SuffixFocusGraph,
    "universal": UniversalFocusGraph,
}
"""The user graph of each form of `NetworkConfig.focus`."""


class TextGraph(nn.Module):
    """The text embeddings of instructions, `InstructUE.read_texts`, whose end token is among the vectors.

    Inputs: `vectors` [T, L, H] and `attention_mask` [T, L]. Output: `embeddings` [T, H].
    """

    def __init__(self, network: InstructUE) -> None:
        super().__init__()
        self.network = network

    def forward(self, vectors_TLH: Tensor, mask_TL: Tensor) -> Tensor:
        """Return `embeddings` [T, H]."""
        return self.network.embeddings(self.network.read_texts(vectors_TLH, mask_TL))


def _user_inputs(network: InstructUE) -> tuple[tuple[Any, ...], tuple[Any, ...], list[str]]:
    """Return example inputs of the user graph, their dynamic axes and their names, in one order."""
    config, users, tokens, scenarios = network.config, Dim("users"), Dim("tokens"), Dim("scenarios")
    names = [source.name for source in config.sources]
    event_axes = [{0: users, 1: Dim(f"events_{name}")} for name in names]
    lengths = range(3, 3 + len(names))  # all different, so that the exporter does not take two axes for one
    tabular, columns = {}, config.tabular
    if columns.numbers:
        tabular["numbers"] = torch.zeros(2, len(columns.numbers), columns.code_width)
    if columns.categories:
        tabular["categories"] = _ones(2, len(columns.categories))
    inputs: list[Any] = [
        [torch.zeros(2, length, config.encoder.width) for length in lengths],
        [_ones(2, length) for length in lengths],
        [_ones(2, length) for length in lengths],
        [_ones(2) for _ in names],
        tabular,
    ]
    shapes: list[Any] = [
        event_axes,
        event_axes,
        event_axes,
        [{0: users}] * len(names),
        {name: {0: users} for name in tabular},
    ]
    flat = [f"{part}_{name}" for part in ("events", "mask", "gaps", "age") for name in names] + [*tabular]
    length = len(names) + 5
    if config.focus != "universal":
        inputs += [torch.zeros(length, config.backbone.width), _ones(length), _ones(length - 1)]
        shapes += [{0: tokens}, {0: tokens}, {0: scenarios}]
        flat += ["instructions", "segments", "users"]
    if config.focus:
        inputs.append(torch.zeros(length - 1, config.embedding_width))
        shapes.append({0: scenarios})
        flat.append("directions")
    return (*inputs,), (*shapes,), flat


def _ones(*shape: int) -> Tensor:
    return torch.ones(shape, dtype=torch.int64)


def _export(
    graph: nn.Module, inputs: tuple[Any, ...], shapes: tuple[Any, ...], names: list[str], output: str, path: Path
) -> None:
    with _silence():
        program = torch.onnx.export(
            graph.eval(),
            inputs,
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=names,
            output_names=[output],
            verbose=False,
        )
    assert program is not None
    proto = _bare(program.model_proto)
    is_external = proto.ByteSize() > MOST_BYTES
    onnx.save(proto, path, save_as_external_data=is_external, location=f"{path.name}.data" if is_external else None)


def _bare(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Remove stack traces and other remarks from a graph, so that the same network gives the same bytes anywhere."""
    for part in (
        proto,
        proto.graph,
        *proto.graph.node,
        *proto.graph.initializer,
        *proto.graph.value_info,
        *proto.graph.input,
        *proto.graph.output,
        *proto.functions,
    ):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    return proto


@contextmanager
def _silence() -> Iterator[None]:
    """Silence the exporter's warnings, which are about its own operators and axes."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
