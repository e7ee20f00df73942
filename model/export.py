"""From a checkpoint to a release: its graphs, its instruction vectors and its card, held to the gates.

Instructions travel beside the graphs as vectors out of the checkpoint's token table, so that a new scenario needs no
new graph (`add_instructions`). A release that fails a gate is never seen.
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

from model import checkpoint as checkpoints
from model import inference
from model import release as releases
from model.card import model_card
from model.gates import check_gates
from model.graphs import export_graphs
from model.network import InstructUE
from model.profiles import Floats
from model.release import Release, ReleaseError
from model.runtime import Runtime
from model.text import EVENT_FILE, LANGUAGE_FILE, Tokenizers

CHECKPOINT_FILES = (checkpoints.CONFIG_FILE, checkpoints.WEIGHTS_FILE, EVENT_FILE, LANGUAGE_FILE)
DEPLOYMENT, METRICS, CARD = "deployment.yaml", "metrics.json", "MODEL_CARD.md"


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
        (folder / DEPLOYMENT).write_text(deployment, encoding="utf-8")
        seal = partial(releases.seal, folder, checkpoint=checkpoint_hash(checkpoint), precision="fp32",
                       shaping=shaping, texts=scenarios)
        _pass_gates(seal, network, tokenizers, profiles, _training_metrics(checkpoint))
        return releases.accept(folder, into)


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
        (folder / DEPLOYMENT).write_text(deployment, encoding="utf-8")
        seal = partial(releases.seal, folder, checkpoint=found, precision=release.precision, shaping=release.shaping,
                       texts=texts | new)
        _pass_gates(seal, network, tokenizers, profiles,
                    json.loads((release.path / METRICS).read_text(encoding="utf-8")))
        return releases.accept(folder, release.path.parent)


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


def _pass_gates(seal: Callable[[], Release], network: InstructUE, tokenizers: Tokenizers, profiles: pa.Table,
                metrics: dict[str, Any]) -> None:
    """Try a draft as it will be used, and write what was found into it."""
    sealed = seal()
    metrics = metrics | {"gates": check_gates(Runtime(sealed, threads=1), network, tokenizers, profiles)}
    (sealed.path / METRICS).write_text(json.dumps(metrics, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (sealed.path / CARD).write_text(model_card(sealed, network, metrics), encoding="utf-8")
    seal()


def _training_metrics(checkpoint: Path) -> dict[str, Any]:
    metrics = checkpoints.read_metrics(checkpoint)
    return {"training": metrics} if metrics else {}
