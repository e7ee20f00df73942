"""A draft: the folder in which a release is built until it is accepted.

`new_draft` makes the folder, `seal` writes its manifest, `accept` moves it to its name among the releases.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from model.atomic_write import sync
from model.data.text import EVENT_FILE, LANGUAGE_FILE
from model.serving import release
from model.serving.hashes import hash_file, hash_json, hash_vectors
from model.serving.release import INSTRUCTIONS, MANIFEST, NETWORK, FocusEntry, Release, ReleaseError
from model.serving.vector_spec import VECTOR_SPEC_KEY, as_json

DAY_SECONDS = 86_400


@contextlib.contextmanager
def new_draft(releases: str | Path) -> Iterator[Path]:
    """Yield an empty folder beside the releases, and remove what is left of it at the end."""
    releases = Path(releases)
    releases.mkdir(parents=True, exist_ok=True)
    for killed in releases.glob(".draft-*"):  # no export takes a day
        if time.time() - killed.stat().st_mtime > DAY_SECONDS:
            shutil.rmtree(killed, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=".draft-", dir=releases))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_vectors(path: Path, vectors: Mapping[str, np.ndarray]) -> None:
    """Write float32 vectors by name, such as the instruction vectors, [I, H] by scenario."""
    # `save_file` would give the file to its owner alone, and a cluster's workers may be another user.
    path.write_bytes(save({name: np.ascontiguousarray(vector, np.float32) for name, vector in vectors.items()}))


def seal(
    folder: Path,
    *,
    checkpoint: str,
    precision: str,
    vector_spec: Mapping[str, Any],
    texts: Mapping[str, str | None],
    focus: FocusEntry | None = None,
) -> Release:
    """Write the manifest of the files in a draft, and read it back.

    Parameters
    ----------
    folder : Path
        A draft that holds at least the files of `release.REQUIRED` and an event graph.
    checkpoint : str
        Hash of the checkpoint.
    precision : str
        What the graphs compute in.
    vector_spec : mapping
        `Deployment.vector_spec()`.
    texts : mapping of scenario to instruction text or None
        Its scenarios are those of `instructions.safetensors`; its order is the release's.
    focus : FocusEntry or None
        The network's focus.

    Raises
    ------
    ReleaseError
        A file that a release needs is missing, or the scenarios are not those of the vectors.
    """
    names = sorted(
        entry.relative_to(folder).as_posix()
        for entry in folder.rglob("*")
        if entry.is_file() and entry.name != MANIFEST
    )
    if missing := release.missing_files(names):
        raise ReleaseError(f"{folder} lacks {missing}; a release needs it")
    vectors = release.read_vectors(folder / INSTRUCTIONS)
    if set(vectors) != set(texts):
        raise ReleaseError(f"{INSTRUCTIONS} holds {sorted(vectors)}, the release is to serve {sorted(texts)}")
    files = {name: hash_file(folder / name) for name in names}
    plain_spec = as_json(vector_spec)
    manifest: dict[str, Any] = {
        "format": release.FORMAT,
        "model_version": _model_version(files, plain_spec, precision),
        "checkpoint": checkpoint,
        "precision": precision,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "instructions": {
            scenario: {"text": text, "hash": hash_vectors(vectors[scenario])} for scenario, text in texts.items()
        },
        VECTOR_SPEC_KEY: plain_spec,
        "files": files,
    }
    manifest |= {} if focus is None else {"focus": asdict(focus)}  # else it stays as it was before focus
    manifest["digest"] = hash_json(manifest)
    text = json.dumps(manifest, indent=2, ensure_ascii=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
    return release.read(folder)


def accept(folder: Path, releases: str | Path) -> Release:
    """Move a sealed draft to its name among the releases, whole or not at all, and return the release.

    Where the same release is there already, that one is returned.

    Raises
    ------
    ReleaseError
        The draft, or the release that already has its name, fails its check.
    """
    sealed = release.read(folder)
    target = Path(releases) / sealed.name
    if target.exists() and not (target / MANIFEST).exists():
        raise ReleaseError(f"{target} has this release's name and no {MANIFEST}; {release.repair_advice(target)}")
    if not target.exists():
        folder.chmod(0o755)  # mkdtemp lets only the owner read it
        for entry in folder.rglob("*"):
            sync(entry)
        sync(folder)
        try:
            folder.rename(target)
        except OSError:
            if not target.exists():  # else another export of the same was faster
                raise
        sync(target.parent)
    return release.read(target)


def _model_version(files: Mapping[str, str], spec: Any, precision: str) -> str:
    """Return the hash of what shapes a vector whatever the instruction."""
    shapes = {
        name: files[name]
        for name in files
        if name.endswith((".onnx", ".onnx.data")) or name in (NETWORK, EVENT_FILE, LANGUAGE_FILE)
    }
    return hash_json({"files": shapes, VECTOR_SPEC_KEY: spec, "precision": precision})
