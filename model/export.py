"""From a checkpoint to a release: the ONNX graphs, the instruction vectors, and the gates between them.

The user graph carries no vocabulary: instructions travel beside it as vectors out of the checkpoint's token table,
so that a new scenario needs no new graph (`add_instructions`). A release is accepted only where onnxruntime gives
the vectors that torch gives, whatever a user's batch, order and padding.

Shapes: B users, N events of a source, E width of an event vector, K instructions, I tokens of one, L tokens of all
of them end to end, H width of an embedding; in the event graph T texts, L tokens of the longest.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim

from model import checkpoint as checkpoints
from model import inference
from model import release as releases
from model.network import InstructUE, ProfileTensors
from model.profiles import Floats, Profiles, read_profiles
from model.release import Release, ReleaseError
from model.runtime import Runtime, event_graph
from model.text import TokenIds, Tokenizers

COSINE = {"fp32": 0.9999}
"""The least cosine, by precision, between onnxruntime and torch and between one batch and another."""
CHECKPOINT_FILES = (checkpoints.CONFIG_FILE, checkpoints.WEIGHTS_FILE, releases.EVENT_TOKENIZER,
                    releases.LANGUAGE_TOKENIZER)


def export(checkpoint: Path, into: Path, *, scenarios: Mapping[str, str | None], shaping: Mapping[str, Any],
           deployment: str, profiles: pa.Table) -> Release:
    """Make, check and accept a release.

    Parameters
    ----------
    checkpoint : Path
        A trained checkpoint's folder.
    into : Path
        The folder of releases.
    scenarios : mapping of scenario to instruction text or None
        What to serve, in this order; None is the universal mode.
    shaping : mapping
        `Deployment.shaping()`.
    deployment : str
        The full deployment file, kept in the release.
    profiles : pyarrow.Table
        Rows of `training_profiles` or `user_profiles` that the gates are tried on; some dozens are enough.

    Raises
    ------
    ReleaseError
        A gate that fails; nothing is left behind.
    """
    network, tokenizers, _ = checkpoints.load_checkpoint(checkpoint)
    with releases.draft(into) as folder:
        (folder / releases.NETWORK).write_text(network.config.to_json(), encoding="utf-8")
        tokenizers.save(folder)
        export_graphs(network, folder)
        releases.write_vectors(folder / releases.INSTRUCTIONS, instruction_vectors(network, tokenizers, scenarios))
        facts = {"checkpoint": checkpoint_hash(checkpoint), "precision": "fp32", "shaping": shaping}
        return _finish(folder, into, network, tokenizers, facts, dict(scenarios), deployment, profiles,
                       _training_metrics(checkpoint))


def add_instructions(release: Release, checkpoint: Path, scenarios: Mapping[str, str | None], *, deployment: str,
                     profiles: pa.Table) -> Release:
    """Make a release with the same graphs and `model_version` that serves these scenarios too.

    Vectors of a scenario that is served already in the same words stay as they are. Parameters are those of `export`.

    Raises
    ------
    ReleaseError
        The checkpoint is not the one that the release came from, or a gate fails.
    """
    found = checkpoint_hash(checkpoint)
    if found != release.checkpoint:
        raise ReleaseError(f"release {release.path.name} came from checkpoint {release.checkpoint[:12]}, {checkpoint} "
                           f"is {found[:12]}; give the one it came from, or export whole")
    network, tokenizers, _ = checkpoints.load_checkpoint(checkpoint)
    texts = {scenario: instruction.text for scenario, instruction in release.instructions.items()}
    new = {scenario: text for scenario, text in scenarios.items() if texts.get(scenario, "") != text}
    with releases.draft(release.path.parent) as folder:
        shutil.copytree(release.path, folder, dirs_exist_ok=True)
        vectors = release.vectors() | instruction_vectors(network, tokenizers, new)
        releases.write_vectors(folder / releases.INSTRUCTIONS, vectors)
        facts = {"checkpoint": found, "precision": release.precision, "shaping": release.shaping}
        return _finish(folder, release.path.parent, network, tokenizers, facts, texts | new, deployment, profiles,
                       json.loads((release.path / "metrics.json").read_text(encoding="utf-8")))


def instruction_vectors(network: InstructUE, tokenizers: Tokenizers,
                        scenarios: Mapping[str, str | None]) -> dict[str, Floats]:
    """Return float32 [I, H] for each scenario: the vectors of its instruction's tokens and of `<USER>`."""
    return {scenario: inference.instruction_vectors(network, tokenizers, [text])[0][0].float().cpu().numpy()
            for scenario, text in scenarios.items()}


def checkpoint_hash(folder: Path) -> str:
    """SHA-256 over what a checkpoint's vectors depend on: network, weights, tokenizers."""
    try:
        hashes = [releases.hash_file(folder / name) for name in CHECKPOINT_FILES]
    except OSError as error:
        raise ReleaseError(f"checkpoint {folder}: {error.filename} {error.strerror}; run `instructue train`") from None
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def export_graphs(network: InstructUE, folder: Path) -> None:
    """Write `user.onnx` and an event graph for each encoder, with every axis dynamic."""
    texts, tokens = Dim("texts"), Dim("tokens")
    # A tensor of its own for each input: the exporter takes the same tensor twice for one input.
    example = (_ones(3, 5), _ones(3, 5))
    for name, encoder in zip(network.config.encoder_names, network.encoders, strict=True):
        _export(encoder, example, ({0: texts, 1: tokens},) * 2, ["input_ids", "attention_mask"], "vectors",
                folder / event_graph(name))
    inputs, shapes, names = _user_inputs(network)
    _export(UserGraph(network), inputs, shapes, names, "embeddings", folder / releases.USER_GRAPH)


class UserGraph(nn.Module):
    """`InstructUE.forward_users` with instructions end to end, so that a short one is not padded to the longest.

    Inputs by name: per source `events_<s>` [B, N, E], `mask_<s>` and `gaps_<s>` [B, N], `age_<s>` [B]; `numbers`
    [B, F, W] and `categories` [B, C] where the network has such columns; `instructions` [L, H], `segments` [L] with
    the number of each token's instruction, from 1, and `users` [K], where in L each instruction's `<USER>` stands.
    Output: `embeddings` [B, K, H].
    """

    def __init__(self, network: InstructUE) -> None:
        super().__init__()
        self.network = network

    def forward(self, events: list[Tensor], masks: list[Tensor], gaps: list[Tensor], ages: list[Tensor],
                tabular: dict[str, Tensor], instructions_LH: Tensor, segments_L: Tensor, users_K: Tensor) -> Tensor:
        profile = ProfileTensors(events_BNE=tuple(events), masks_BN=tuple(masks), gaps_BN=tuple(gaps),
                                 ages_B=tuple(ages), numbers_BFW=tabular.get("numbers"),
                                 categories_BC=tabular.get("categories"))
        tokens_BPH, mask_BP = self.network.read_profile(profile)
        users = tokens_BPH.shape[0]
        hidden_BLH = self.network.read_suffixes(tokens_BPH, mask_BP, instructions_LH[None].expand(users, -1, -1),
                                                segments_L[None].expand(users, -1))
        return F.normalize(hidden_BLH[:, users_K], dim=-1)


def _user_inputs(network: InstructUE) -> tuple[tuple[Any, ...], tuple[Any, ...], list[str]]:
    """Example inputs of the user graph, their dynamic axes and their names, in one order."""
    config, users, tokens = network.config, Dim("users"), Dim("tokens")
    names = [source.name for source in config.sources]
    event_axes = [{0: users, 1: Dim(f"events_{name}")} for name in names]
    lengths = range(3, 3 + len(names))  # all unlike, so that no axis is taken for another
    tabular, columns = {}, config.tabular
    if columns.numbers:
        tabular["numbers"] = torch.zeros(2, len(columns.numbers), columns.code_width)
    if columns.categories:
        tabular["categories"] = _ones(2, len(columns.categories))
    inputs = ([torch.zeros(2, length, config.encoder.width) for length in lengths],
              [_ones(2, length) for length in lengths], [_ones(2, length) for length in lengths],
              [_ones(2) for _ in names], tabular,
              torch.zeros(len(names) + 5, config.backbone.width), _ones(len(names) + 5), _ones(len(names) + 4))
    shapes = (event_axes, event_axes, event_axes, [{0: users}] * len(names), {name: {0: users} for name in tabular},
              {0: tokens}, {0: tokens}, {0: Dim("scenarios")})
    flat = [f"{part}_{name}" for part in ("events", "mask", "gaps", "age") for name in names]
    return inputs, shapes, [*flat, *tabular, "instructions", "segments", "users"]


def _ones(*shape: int) -> Tensor:
    return torch.ones(shape, dtype=torch.int64)


def _export(graph: nn.Module, inputs: tuple[Any, ...], shapes: tuple[Any, ...], names: list[str], output: str,
            path: Path) -> None:
    with _silence():
        program = torch.onnx.export(graph.eval(), inputs, dynamo=True, dynamic_shapes=shapes, input_names=names,
                                    output_names=[output], verbose=False)
    assert program is not None
    onnx.save(_bare(program.model_proto), path)


def _bare(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The graph without stack traces and other remarks: the same network gives the same bytes anywhere."""
    for part in (proto, proto.graph, *proto.graph.node, *proto.graph.initializer, *proto.graph.value_info,
                 *proto.graph.input, *proto.graph.output, *proto.functions):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    return proto


@contextmanager
def _silence() -> Iterator[None]:
    """The exporter's remarks are about operators and axes that nobody here named."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _finish(folder: Path, into: Path, network: InstructUE, tokenizers: Tokenizers, facts: dict[str, Any],
            texts: dict[str, str | None], deployment: str, profiles: pa.Table, metrics: dict[str, Any]) -> Release:
    sealed = releases.seal(folder, **facts, texts=texts)
    metrics = metrics | {"gates": check_gates(Runtime(sealed, threads=1), network, tokenizers, profiles)}
    (folder / "deployment.yaml").write_text(deployment, encoding="utf-8")
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "MODEL_CARD.md").write_text(model_card(sealed, network, metrics), encoding="utf-8")
    releases.seal(folder, **facts, texts=texts)
    return releases.accept(folder, into)


def check_gates(runtime: Runtime, network: InstructUE, tokenizers: Tokenizers, profiles: pa.Table) -> dict[str, Any]:
    """Compare a release with its network, and with itself under other batches.

    Returns
    -------
    dict
        The least cosines found: `events` by source (event vectors against the network's), `torch` by scenario
        (embeddings against the network's, one scenario at a time), `batch` over all (a user alone against the user
        among others, and in reversed order); `profiles`, how many were tried.

    Raises
    ------
    ReleaseError
        A cosine below the precision's least, or no profile to try.
    model.runtime.VectorError
        A vector that is zero or not a number.
    """
    if not len(profiles):
        raise ReleaseError("no profiles to try the release on; give some rows of training_profiles")
    profiles = pa.concat_tables([profiles, _empty(profiles)])
    rows = read_profiles(profiles, network.config)
    ids = [tokenizers.event_ids(events.texts, source.max_tokens)
           for source, events in zip(network.config.sources, rows.sources, strict=True)]
    together_UKH = runtime.embed(profiles)
    few = min(len(profiles), 8)
    alone_UKH = np.concatenate([runtime.embed(profiles.slice(len(profiles) - few + user, 1)) for user in range(few)])
    reversed_UKH = runtime.embed(profiles.take(np.arange(len(profiles))[::-1]))[::-1]
    found = {f"event graph of {name}": value for name, value in _event_cosines(runtime, network, rows, ids).items()}
    by_scenario = dict(zip(runtime.scenarios, _least_cosine(
        together_UKH, _torch_vectors(runtime, network, rows, ids)).tolist(), strict=True))
    found |= {f"torch in scenario {name}": value for name, value in by_scenario.items()}
    found["another batch"] = float(_least_cosine(alone_UKH, together_UKH[-few:]).min())
    found["another order"] = float(_least_cosine(reversed_UKH, together_UKH).min())
    least = COSINE[runtime.release.precision]
    failed = [f"{name} {value:.6f}" for name, value in found.items() if not value >= least]
    if failed:
        raise ReleaseError(f"the release is refused, for its vectors differ (least cosine {least}) from those of "
                           f"{'; '.join(failed)}: export from a checkpoint of this version")
    return {"cosines": found, "profiles": len(profiles)}


def _event_cosines(runtime: Runtime, network: InstructUE, rows: Profiles, ids: list[TokenIds]) -> dict[str, float]:
    cosines = {}
    for source, events, tokens in zip(network.config.sources, rows.sources, ids, strict=True):
        if events.texts:
            ids_TL, mask_TL = map(torch.from_numpy, tokens.padded(np.arange(len(tokens))))
            with torch.no_grad():
                expected_TE = network.encode_events(source.name, ids_TL, mask_TL)
            found_TE = torch.from_numpy(runtime.encode_texts(source.name, events.texts))
            cosines[source.name] = float(F.cosine_similarity(found_TE, expected_TE).min())
    return cosines


def _torch_vectors(runtime: Runtime, network: InstructUE, rows: Profiles, ids: list[TokenIds]) -> Floats:
    """[U, K, H] by the network itself, one scenario a forward."""
    instructions = runtime.release.vectors()
    vectors = []
    with torch.no_grad():
        profile = network.profile_tensors(rows.batch(np.arange(len(rows))), ids)
        for scenario in runtime.scenarios:
            vectors_1IH = torch.from_numpy(instructions[scenario])[None]
            mask_1I = torch.ones(vectors_1IH.shape[:2], dtype=torch.int64)
            vectors.append(network.forward_users(profile, vectors_1IH, mask_1I)[:, 0])
    return np.asarray(torch.stack(vectors, 1).numpy(), dtype=np.float32)


def _empty(profiles: pa.Table) -> pa.Table:
    """One more user, of whom nothing is known: the profile on which a mean or a softmax is most easily no number."""
    empty: dict[str, Any] = {}
    for field in profiles.schema:
        several = pa.types.is_list(field.type) or pa.types.is_large_list(field.type)
        empty[field.name] = [] if several else {} if pa.types.is_struct(field.type) else None
    if "profile_hash" in empty:
        empty["profile_hash"] = "nothing known"
    return pa.Table.from_pylist([empty], profiles.schema)


def _least_cosine(one_UKH: Floats, other_UKH: Floats) -> Floats:
    """[K]; NaN where a vector is not a number."""
    cosine_UK: Floats = np.einsum("ukh,ukh->uk", one_UKH, other_UKH)
    return cosine_UK.min(axis=0)


def _training_metrics(checkpoint: Path) -> dict[str, Any]:
    path = checkpoint / "metrics.json"
    return {"training": json.loads(path.read_text(encoding="utf-8"))} if path.exists() else {}


def model_card(release: Release, network: InstructUE, metrics: Mapping[str, Any]) -> str:
    """What this release is, for a person: Markdown."""
    config = network.config
    weights = sum(weight.numel() for weight in network.parameters())
    columns = [*release.shaping.get("numbers", []), *release.shaping.get("categories", [])]
    lines = [
        f"# InstructUE release {release.name}", "",
        "Turns a user's profile and an instruction into one unit vector "
        f"of {config.backbone.width} numbers, to be compared by cosine.", "",
        f"- model_version `{release.model_version}`",
        f"- checkpoint `{release.checkpoint}`",
        f"- precision {release.precision}; {weights:,} weights, the language model's token table and head included",
        f"- made {release.created_at}", "",
        "## What it reads", "", "| source | events at most | tokens of a text | days back | template |",
        "| --- | --- | --- | --- | --- |",
        *(f"| {source['name']} | {source['max_events']} | {source['max_tokens']} | {source['window_days']} "
          f"| `{source['template']}` |" for source in release.shaping.get("sources", [])), "",
        f"Tabular: {', '.join(columns) or 'none'}.",
        "", "## Scenarios", "", "| scenario | instruction |", "| --- | --- |",
        *(f"| {name} | {instruction.text or '(none)'} |" for name, instruction in release.instructions.items()), "",
        "## Gates", "",
        f"Least cosine on {metrics['gates']['profiles']} profiles between onnxruntime's vectors and those of", "",
        *(f"- {name}: {value:.6f}" for name, value in metrics["gates"]["cosines"].items()), "",
        "Figures of the training are in metrics.json.", "",
        "## Limits", "",
        "It knows what its training users did and were asked about; an instruction far from those questions gives a "
        "vector all the same. Vectors of different model_versions are not to be compared.", "",
    ]
    return "\n".join(lines)
