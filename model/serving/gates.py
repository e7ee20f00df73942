"""The gates of a release: onnxruntime's vectors equal torch's, and do not depend on the other users of a batch.

Shapes: U users, K scenarios, H width of the backbone (and of an embedding, unless there is a head), T texts, L tokens
of the longest, E width of an event vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F

from model.data.arrays import Floats
from model.data.profiles import Profiles, read_profiles, text_ids
from model.data.text import TokenIds, Tokenizers
from model.network.network import InstructUE
from model.serving import release as releases
from model.serving.instruction_encoder import InstructionEncoder
from model.serving.onnx_runtime import Runtime
from model.serving.release import Release, ReleaseError

COSINE = {"fp32": 0.9999}
"""The least cosine, by precision, between onnxruntime and torch and between one batch and another."""


def check_gates(runtime: Runtime, network: InstructUE, tokenizers: Tokenizers, profiles: pa.Table) -> dict[str, Any]:
    """Compare a release's vectors with those of its network, and with its own in other batches.

    Returns
    -------
    dict
        `cosines`, the least ones: `event graph of <source>` (event vectors against the network's), `torch in scenario
        <scenario>` (embeddings against the network's, one scenario at a time), `another batch` (a user alone against
        the user among others), `another order` (the users reversed) and, with focus and an instruction, `text graph`
        (the instructions' text embeddings against the network's), with an instruction encoder `sentence graph` (the
        instructions' directions against the network's); `profiles`, the number of profiles.

    Raises
    ------
    ReleaseError
        A cosine below the precision's least, or no profile to compare.
    model.serving.onnx_runtime.VectorError
        A vector that is zero or not a number.
    """
    if not len(profiles):
        raise ReleaseError("no profiles to try the release on; give some rows of training_profiles")
    profiles = pa.concat_tables([profiles, _empty(profiles)])
    rows = read_profiles(profiles, network.config)
    ids = text_ids(rows, network.config, tokenizers)
    together_UKH = runtime.embed(profiles)
    few = min(len(profiles), 8)
    alone_UKH = np.concatenate([runtime.embed(profiles.slice(len(profiles) - few + user, 1)) for user in range(few)])
    reversed_UKH = runtime.embed(profiles.take(np.arange(len(profiles))[::-1]))[::-1]
    cosines = {f"event graph of {name}": value for name, value in _event_cosines(runtime, network, rows, ids).items()}
    by_scenario = dict(
        zip(
            runtime.scenarios,
            _least_cosine(together_UKH, _torch_vectors(runtime, network, rows, ids)).tolist(),
            strict=True,
        )
    )
    cosines |= {f"torch in scenario {name}": value for name, value in by_scenario.items()}
    cosines["another batch"] = float(_least_cosine(alone_UKH, together_UKH[-few:]).min())
    cosines["another order"] = float(_least_cosine(reversed_UKH, together_UKH).min())
    cosines |= _text_cosines(runtime.release, network)
    least = COSINE[runtime.release.precision]
    failed = [f"{name} {value:.6f}" for name, value in cosines.items() if not value >= least]
    if failed:
        raise ReleaseError(
            f"the release is refused, for its vectors differ (least cosine {least}) from those of "
            f"{'; '.join(failed)}: export from a checkpoint of this version"
        )
    return {"cosines": cosines, "profiles": len(profiles)}


@torch.no_grad()
def _text_cosines(release: Release, network: InstructUE) -> dict[str, float]:
    instructions = {name: vectors_IH for name, vectors_IH in release.vectors().items() if len(vectors_IH) > 1}
    if release.focus is None or not instructions:
        return {}
    encoder = InstructionEncoder(release, threads=1)
    ones = [torch.ones(1, len(vectors_IH), dtype=torch.int64) for vectors_IH in instructions.values()]
    torch_KH = [
        network.directions(torch.from_numpy(vectors_IH)[None], mask_1I)[0].numpy()
        for vectors_IH, mask_1I in zip(instructions.values(), ones, strict=True)
    ]
    cosines = {"text graph": _least_dot(encoder.directions([*instructions.values()]), np.stack(torch_KH))}
    texts = {name: release.instructions[name].text for name in instructions}
    onnx = {name: encoder.encode(text) for name, text in texts.items() if text is not None}
    if network.instruction_encoder is not None and onnx:
        stored = releases.read_vectors(release.path / releases.DIRECTIONS)
        cosines["sentence graph"] = _least_dot(np.stack([*onnx.values()]), np.stack([stored[name] for name in onnx]))
    return cosines


def _least_dot(one_KH: Floats, other_KH: Floats) -> float:
    return float(np.einsum("kh,kh->k", one_KH, other_KH).min())


def _event_cosines(runtime: Runtime, network: InstructUE, rows: Profiles, ids: Sequence[TokenIds]) -> dict[str, float]:
    cosines = {}
    for source, events, tokens in zip(network.config.sources, rows.sources, ids, strict=True):
        if events.texts:
            ids_TL, mask_TL = map(torch.from_numpy, tokens.padded(np.arange(len(tokens))))
            with torch.no_grad():
                expected_TE = network.encode_events(source.name, ids_TL, mask_TL)
            onnx_TE = torch.from_numpy(runtime.encode_texts(source.name, events.texts))
            cosines[source.name] = float(F.cosine_similarity(onnx_TE, expected_TE).min())
    return cosines


def _torch_vectors(runtime: Runtime, network: InstructUE, rows: Profiles, ids: Sequence[TokenIds]) -> Floats:
    """Return the network's vectors, `[U, K, H]`, one scenario in each forward pass."""
    instructions = runtime.release.vectors()
    focus = network.config.focus
    directions = releases.read_vectors(runtime.release.path / releases.DIRECTIONS) if focus else {}
    vectors = []
    with torch.no_grad():
        profile = network.profile_tensors(rows.batch(np.arange(len(rows))), ids)
        for scenario in runtime.scenarios:
            vectors_1IH = torch.from_numpy(instructions[scenario])[None]
            mask_1I = torch.ones(vectors_1IH.shape[:2], dtype=torch.int64)
            along_1H = torch.from_numpy(directions[scenario])[None] if focus else None
            vectors.append(network.forward_users(profile, vectors_1IH, mask_1I, along_1H)[:, 0])
    return np.asarray(torch.stack(vectors, 1).numpy(), dtype=np.float32)


def _empty(profiles: pa.Table) -> pa.Table:
    """Return a table of one user without events or attributes, for whom a mean or a softmax may be no number."""
    empty: dict[str, Any] = {}
    for field in profiles.schema:
        several = pa.types.is_list(field.type) or pa.types.is_large_list(field.type)
        empty[field.name] = [] if several else {} if pa.types.is_struct(field.type) else None
    if "profile_hash" in empty:
        empty["profile_hash"] = "nothing known"
    return pa.Table.from_pylist([empty], profiles.schema)


def _least_cosine(one_UKH: Floats, other_UKH: Floats) -> Floats:
    """Return the least cosine over the users, `[K]`; NaN where a vector is not a number."""
    cosine_UK: Floats = np.einsum("ukh,ukh->uk", one_UKH, other_UKH)
    return cosine_UK.min(axis=0)
