"""Export of a checkpoint as a release: graphs, instruction vectors and model card, tested by the gates.

Instructions are stored beside the graphs, as vectors of the checkpoint's token table, so that a new scenario needs no
new graph (`add_instructions`). A release that fails a gate is not written.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from model.data.arrays import Floats
from model.data.known_texts import KnownTexts
from model.data.text import EVENT_FILE, LANGUAGE_FILE, Tokenizers
from model.network import inference
from model.network.lora import merge_lora
from model.network.network import InstructUE
from model.serving import release as releases
from model.serving import release_draft
from model.serving.card import TUNED, model_card
from model.serving.gates import check_gates
from model.serving.graphs import export_graphs
from model.serving.hashes import hash_file
from model.serving.onnx_runtime import Runtime
from model.serving.release import FocusEntry, Release, ReleaseError
from model.serving.release_draft import new_draft, write_vectors
from model.training import checkpoint as checkpoints
from model.training.focus import QUESTIONS_FILE
from model.training.known_texts import KNOWN_TEXTS_FILE, sentence_embeddings

CHECKPOINT_FILES = (checkpoints.CONFIG_FILE, checkpoints.WEIGHTS_FILE, EVENT_FILE, LANGUAGE_FILE)
DEPLOYMENT, METRICS, CARD = "deployment.yaml", "metrics.json", "MODEL_CARD.md"


def export(
    checkpoint: Path,
    into: Path,
    *,
    scenarios: Mapping[str, str | None],
    vector_spec: Mapping[str, Any],
    deployment: str,
    profiles: pa.Table,
    decoder: bool = False,
) -> Release:
    """Make, check and accept a release.

    Parameters
    ----------
    checkpoint : Path
        A trained checkpoint's folder.
    into : Path
        The folder of releases.
    scenarios : mapping of scenario to instruction text or None
        What to serve, in this order; None is the universal mode.
    vector_spec : mapping
        `Deployment.vector_spec()`.
    deployment : str
        The full deployment file, kept in the release.
    profiles : pyarrow.Table
        Rows of `training_profiles` or `user_profiles` on which the gates compare vectors; some dozens are enough.
    decoder : bool
        Whether to include the decoder, a copy of the checkpoint, with which `ask` answers in words.

    Raises
    ------
    ReleaseError
        A gate that fails; nothing is left behind.
    """
    network, tokenizers, _ = checkpoints.load_checkpoint(checkpoint)
    with new_draft(into) as folder:
        (folder / releases.NETWORK).write_text(network.config.to_json(), encoding="utf-8")
        tokenizers.save(folder)
        export_graphs(network, folder)
        vectors = instruction_vectors(network, tokenizers, scenarios)
        write_vectors(folder / releases.INSTRUCTIONS, vectors)
        if network.config.focus:
            _add_focus(checkpoint, network, folder)
            write_vectors(folder / releases.DIRECTIONS, _directions(network, tokenizers, folder, vectors, scenarios))
        (folder / DEPLOYMENT).write_text(deployment, encoding="utf-8")
        if decoder:
            _add_decoder(checkpoint, folder)
        seal = partial(
            release_draft.seal,
            folder,
            checkpoint=checkpoint_hash(checkpoint),
            precision="fp32",
            vector_spec=vector_spec,
            texts=scenarios,
            focus=_focus_entry(network),
        )
        _pass_gates(seal, network, tokenizers, profiles, _training_metrics(checkpoint))
        return release_draft.accept(folder, into)


def add_instructions(
    release: Release,
    checkpoint: Path,
    scenarios: Mapping[str, str | None],
    *,
    deployment: str,
    profiles: pa.Table,
    decoder: bool = False,
) -> Release:
    """Make a release with the same graphs and `model_version` that serves these scenarios too.

    Vectors of a scenario that is served already in the same words, or tuned, stay as they are. Parameters are those of
    `export`; a decoder that the release has stays.

    Raises
    ------
    ReleaseError
        The checkpoint is not the one that the release came from, or a gate fails.
    """
    _check_checkpoint(release, checkpoint)
    network, tokenizers, _ = checkpoints.load_checkpoint(checkpoint)
    texts = {scenario: instruction.text for scenario, instruction in release.instructions.items()}
    # Tuned vectors, whose text is None, stay whatever the scenario's words.
    new = {scenario: text for scenario, text in scenarios.items() if texts.get(scenario, "") not in (None, text)}
    return _with_vectors(
        release,
        network,
        tokenizers,
        instruction_vectors(network, tokenizers, new),
        texts | new,
        deployment=deployment,
        profiles=profiles,
        metrics=read_metrics(release),
        decoder=checkpoint if decoder else None,
    )


def add_tuned(
    release: Release,
    checkpoint: Path,
    scenario: str,
    vectors: Floats,
    facts: Mapping[str, Any],
    *,
    deployment: str,
    profiles: pa.Table,
) -> Release:
    """Make a release with the same graphs and `model_version` in which one scenario has tuned vectors.

    Parameters
    ----------
    scenario : str
        One that the release serves.
    vectors : numpy.ndarray
        float32 [I, H], see `model.training.tuning`.
    facts : mapping
        Facts about the tuning, stored in the metrics under `tuned`, by scenario.

    The others are those of `export`.

    Raises
    ------
    ReleaseError
        The checkpoint is not the one that the release came from, or a gate fails.
    """
    _check_checkpoint(release, checkpoint)
    network, tokenizers, _ = checkpoints.load_checkpoint(checkpoint)
    texts = {name: instruction.text for name, instruction in release.instructions.items()}
    metrics = read_metrics(release)
    return _with_vectors(
        release,
        network,
        tokenizers,
        {scenario: vectors},
        texts | {scenario: None},
        deployment=deployment,
        profiles=profiles,
        metrics=metrics | {TUNED: metrics.get(TUNED, {}) | {scenario: dict(facts)}},
    )


def _with_vectors(
    release: Release,
    network: InstructUE,
    tokenizers: Tokenizers,
    vectors: Mapping[str, Floats],
    texts: Mapping[str, str | None],
    *,
    deployment: str,
    profiles: pa.Table,
    metrics: dict[str, Any],
    decoder: Path | None = None,
) -> Release:
    """Write a copy of the release in which these vectors are added or replaced, with a checkpoint as decoder."""
    with new_draft(release.path.parent) as folder:
        shutil.copytree(release.path, folder, dirs_exist_ok=True)
        write_vectors(folder / releases.INSTRUCTIONS, release.vectors() | dict(vectors))
        if release.focus:
            known = releases.read_vectors(release.path / releases.DIRECTIONS)
            new = _directions(network, tokenizers, folder, vectors, texts)
            write_vectors(folder / releases.DIRECTIONS, known | new)
        (folder / DEPLOYMENT).write_text(deployment, encoding="utf-8")
        if decoder:
            _add_decoder(decoder, folder)
        seal = partial(
            release_draft.seal,
            folder,
            checkpoint=release.checkpoint,
            precision=release.precision,
            vector_spec=release.vector_spec,
            texts=texts,
            focus=release.focus,
        )
        _pass_gates(seal, network, tokenizers, profiles, metrics)
        return release_draft.accept(folder, release.path.parent)


def read_metrics(release: Release) -> dict[str, Any]:
    """Return the content of a release's metrics.json: `gates`, `training`, and `tuned` for each tuned scenario."""
    return dict(json.loads((release.path / METRICS).read_text(encoding="utf-8")))


def _add_decoder(checkpoint: Path, folder: Path) -> None:
    into = folder / releases.DECODER
    into.mkdir(exist_ok=True)
    for name in CHECKPOINT_FILES:
        shutil.copyfile(checkpoint / name, into / name)


def _add_focus(checkpoint: Path, network: InstructUE, folder: Path) -> None:
    """Write what reads an instruction that is given on the spot, and the texts that it is compared with."""
    files = {QUESTIONS_FILE: releases.QUESTIONS}
    if network.instruction_encoder is not None:
        files[KNOWN_TEXTS_FILE] = releases.KNOWN_TEXTS
    for name, into in files.items():
        try:
            shutil.copyfile(checkpoint / name, folder / into)
        except OSError as error:
            raise ReleaseError(f"checkpoint {checkpoint}: {name} {error.strerror}; train into it again") from None
    with torch.no_grad():
        table_VH = merge_lora(network).token_vectors(torch.arange(network.config.backbone.vocabulary))
    write_vectors(folder / releases.TOKENS, {"tokens": table_VH.float().numpy()})


def _focus_entry(network: InstructUE) -> FocusEntry | None:
    if network.focus is None:
        return None
    return FocusEntry(form=str(network.config.focus), scale=float(network.focus.scale))


@torch.no_grad()
def _directions(
    network: InstructUE,
    tokenizers: Tokenizers,
    folder: Path,
    vectors: Mapping[str, Floats],
    texts: Mapping[str, str | None],
) -> dict[str, Floats]:
    """Return the direction of each scenario's focus, float32 [H].

    It is the text embedding of the scenario's instruction vectors. With a pretrained instruction encoder, that of an
    instruction in words is the direction by the known texts of the release in `folder`.
    """
    directions = {}
    known = None if network.instruction_encoder is None else KnownTexts.read(folder / releases.KNOWN_TEXTS)
    for scenario, vectors_IH in vectors.items():
        text = texts[scenario]
        if known is not None and text is not None:
            directions[scenario] = known.directions(sentence_embeddings(network, tokenizers, [text]))[0]
            continue
        mask_1I = torch.ones(1, len(vectors_IH), dtype=torch.int64)
        directions[scenario] = network.directions(torch.from_numpy(vectors_IH)[None], mask_1I)[0].float().numpy()
    return directions


def _check_checkpoint(release: Release, checkpoint: Path) -> None:
    digest = checkpoint_hash(checkpoint)
    if digest != release.checkpoint:
        raise ReleaseError(
            f"release {release.path.name} came from checkpoint {release.checkpoint[:12]}, {checkpoint} "
            f"is {digest[:12]}; give the one it came from, or export whole"
        )


def instruction_vectors(
    network: InstructUE, tokenizers: Tokenizers, scenarios: Mapping[str, str | None]
) -> dict[str, Floats]:
    """Return float32 [I, H] for each scenario: the vectors of its instruction's tokens and of `<USER>`."""
    return {
        scenario: inference.instruction_vectors(network, tokenizers, [text])[0][0].float().cpu().numpy()
        for scenario, text in scenarios.items()
    }


def checkpoint_hash(folder: Path) -> str:
    """Return the SHA-256 of the files that decide a checkpoint's vectors: network, weights, tokenizers."""
    try:
        hashes = [hash_file(folder / name) for name in CHECKPOINT_FILES]
    except OSError as error:
        raise ReleaseError(f"checkpoint {folder}: {error.filename} {error.strerror}; run `instructue train`") from None
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def _pass_gates(
    seal: Callable[[], Release],
    network: InstructUE,
    tokenizers: Tokenizers,
    profiles: pa.Table,
    metrics: dict[str, Any],
) -> None:
    """Check a draft by the gates, and write metrics and model card into it."""
    sealed = seal()
    metrics = metrics | {"gates": check_gates(Runtime(sealed, threads=1), network, tokenizers, profiles)}
    (sealed.path / METRICS).write_text(json.dumps(metrics, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (sealed.path / CARD).write_text(model_card(sealed, network, metrics), encoding="utf-8")
    seal()


def _training_metrics(checkpoint: Path) -> dict[str, Any]:
    metrics = checkpoints.read_metrics(checkpoint)
    return {"training": metrics} if metrics else {}
