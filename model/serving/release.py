"""A release: the folder that vectors are made with. Once accepted it never changes.

    manifest.json            what the folder is, and the SHA-256 of every other file
    event_<source>.onnx      text to event vector; one `event.onnx` where the sources share an encoder
    user.onnx                a profile and instruction vectors to embeddings
    instructions.safetensors one float32 [I, H] tensor per scenario, `<USER>` last
    event_tokenizer.json     language_tokenizer.json     network.json     deployment.yaml
    metrics.json             MODEL_CARD.md
    decoder/                 the checkpoint, where `ask` is to answer in words; vectors need none of it

`model_version` hashes what shapes a vector whatever the instruction, and nothing else: a metric, a date or a
table's name may change without embedding every user again. Each scenario's instruction vectors have a hash of
their own, so a new scenario embeds itself alone. Nothing here is a pickle, and nothing needs torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from model.atomic_write import sync
from model.data.text import EVENT_FILE, LANGUAGE_FILE
from model.errors import InstructUEError

FORMAT = 1
MANIFEST = "manifest.json"
INSTRUCTIONS = "instructions.safetensors"
NETWORK = "network.json"
USER_GRAPH = "user.onnx"
REQUIRED = (INSTRUCTIONS, NETWORK, EVENT_FILE, LANGUAGE_FILE, USER_GRAPH)
DECODER = "decoder"


class ReleaseError(InstructUEError):
    """A release that cannot be written, read or used with this deployment."""


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """A scenario's text (None: universal, or tuned without a text) and its vectors' hash."""

    text: str | None
    hash: str


@dataclass(frozen=True, kw_only=True)
class Release:
    """A release folder whose files have been checked against its manifest.

    Attributes
    ----------
    path : Path
        The folder.
    model_version : str
        64 hexadecimal digits: graphs, tokenizers, network with its statistics, shaping part, precision.
    checkpoint : str
        Hash of the checkpoint that the graphs and instruction vectors were made from.
    precision : str
        `fp32`.
    shaping : dict
        `Deployment.shaping()` at the export, as plain data.
    instructions : dict of str to Instruction
        Every scenario served, `universal` first.
    created_at : str
        ISO 8601, UTC.
    files : dict of str to str
        SHA-256 of each file, by name.
    """

    path: Path
    model_version: str
    checkpoint: str
    precision: str
    shaping: dict[str, Any]
    instructions: dict[str, Instruction]
    created_at: str
    files: dict[str, str]

    @property
    def name(self) -> str:
        """The folder's name, made of what it holds: the same export again has the same name."""
        hashes = {scenario: instruction.hash for scenario, instruction in self.instructions.items()}
        hashes |= {name: found for name, found in self.files.items() if name.startswith(f"{DECODER}/")}
        return f"{self.model_version[:12]}-{_hash_json(hashes)[:8]}"

    @property
    def decoder(self) -> Path:
        """The folder of the checkpoint that answers in words; ReleaseError where the release has none."""
        if not any(name.startswith(f"{DECODER}/") for name in self.files):
            raise ReleaseError(
                f"release {self.path.name} has no decoder, so it can embed and not answer; run "
                "`instructue export --instructions --decoder`, which keeps its graphs and model_version"
            )
        return self.path / DECODER

    @property
    def scenarios(self) -> tuple[str, ...]:
        return tuple(self.instructions)

    def vectors(self) -> dict[str, np.ndarray]:
        """Instruction vectors by scenario, float32 [I, H], `<USER>` last."""
        return _read_vectors(self.path / INSTRUCTIONS)

    def check_deployment(self, shaping: Mapping[str, Any], instructions: Mapping[str, str | None]) -> None:
        """Refuse a deployment whose vectors this release would not make.

        Parameters
        ----------
        shaping : mapping
            `Deployment.shaping()`.
        instructions : mapping of scenario to instruction text or None
            The scenarios that are wanted; the release may serve more.

        Raises
        ------
        ReleaseError
            Keys of the shaping part that differ, with both values; scenarios missing or worded otherwise.
        """
        found = differences(shaping, self.shaping)
        if found:
            raise ReleaseError(
                f"the deployment differs from release {self.path.name} in what shapes a vector:\n"
                + "\n".join(f"  {difference}" for difference in found)
                + "\nrestore these keys, or assemble, train and export again"
            )
        missing = [scenario for scenario in instructions if scenario not in self.instructions]
        served = {scenario: instruction.text for scenario, instruction in self.instructions.items()}
        reworded = [
            scenario
            for scenario, text in instructions.items()
            if served.get(scenario) is not None and served[scenario] != text
        ]
        if missing or reworded:
            parts = [f"does not serve {', '.join(missing)}"] * bool(missing)
            parts += [f"has another instruction for {', '.join(reworded)}"] * bool(reworded)
            raise ReleaseError(
                f"release {self.path.name} {' and '.join(parts)}; run "
                "`instructue export --instructions`, which keeps the graphs and model_version"
            )


def read(path: str | Path) -> Release:
    """Read a release and check every file against its manifest.

    Raises
    ------
    ReleaseError
        No release there, a file missing, a byte changed, or a format this version does not know.
    """
    path = Path(path)
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except OSError:
        raise ReleaseError(f"{path} is no release: it has no {MANIFEST}; run `instructue export`") from None
    except ValueError as error:
        raise ReleaseError(f"{path / MANIFEST} is not JSON ({error}); {_mend(path)}") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ReleaseError(f"{path / MANIFEST} is not of format {FORMAT}; {_mend(path)}")
    digest = manifest.pop("digest", None)
    if digest != _hash_json(manifest):
        raise ReleaseError(f"{path / MANIFEST} was changed after the export; {_mend(path)}")
    try:
        instructions = {scenario: Instruction(**entry) for scenario, entry in manifest["instructions"].items()}
        fields = ("model_version", "checkpoint", "precision", "shaping", "created_at", "files")
        found = Release(path=path, instructions=instructions, **{field: manifest[field] for field in fields})
    except (KeyError, TypeError, AttributeError) as error:
        raise ReleaseError(f"{path / MANIFEST} lacks what format {FORMAT} holds ({error}); {_mend(path)}") from None
    if missing := _missing(found.files):
        raise ReleaseError(f"{path / MANIFEST} lists no {missing}; {_mend(path)}")
    for name, expected in found.files.items():
        _check_file(path, name, expected)
    return found


def seal(
    folder: Path, *, checkpoint: str, precision: str, shaping: Mapping[str, Any], texts: Mapping[str, str | None]
) -> Release:
    """Write the manifest of the files in `folder`, and read it back.

    Parameters
    ----------
    folder : Path
        A draft (see `draft`) that holds at least the files of `REQUIRED` and an event graph.
    checkpoint : str
        Hash of the checkpoint.
    precision : str
        What the graphs compute in.
    shaping : mapping
        `Deployment.shaping()`.
    texts : mapping of scenario to instruction text or None
        Its scenarios are those of `instructions.safetensors`; its order is the release's.

    Raises
    ------
    ReleaseError
        A file that a release needs is not there, or the scenarios are not those of the vectors.
    """
    names = sorted(
        entry.relative_to(folder).as_posix()
        for entry in folder.rglob("*")
        if entry.is_file() and entry.name != MANIFEST
    )
    if missing := _missing(names):
        raise ReleaseError(f"{folder} lacks {missing}; a release needs it")
    vectors = _read_vectors(folder / INSTRUCTIONS)
    if set(vectors) != set(texts):
        raise ReleaseError(f"{INSTRUCTIONS} holds {sorted(vectors)}, the release is to serve {sorted(texts)}")
    files = {name: hash_file(folder / name) for name in names}
    shaping = _plain(shaping)
    shapes = {
        name: files[name]
        for name in names
        if name.endswith((".onnx", ".onnx.data")) or name in (NETWORK, EVENT_FILE, LANGUAGE_FILE)
    }
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "model_version": _hash_json({"files": shapes, "shaping": shaping, "precision": precision}),
        "checkpoint": checkpoint,
        "precision": precision,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "instructions": {
            scenario: {"text": text, "hash": hash_vectors(vectors[scenario])} for scenario, text in texts.items()
        },
        "shaping": shaping,
        "files": files,
    }
    manifest["digest"] = _hash_json(manifest)
    text = json.dumps(manifest, indent=2, ensure_ascii=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
    return read(folder)


@contextlib.contextmanager
def draft(releases: str | Path) -> Iterator[Path]:
    """A folder beside the releases to build one in; whatever is left of it at the end is removed."""
    releases = Path(releases)
    releases.mkdir(parents=True, exist_ok=True)
    for killed in releases.glob(".draft-*"):  # no export takes a day
        if time.time() - killed.stat().st_mtime > 86_400:
            shutil.rmtree(killed, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=".draft-", dir=releases))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def accept(folder: Path, releases: str | Path) -> Release:
    """Move a sealed draft to its name, all of it or nothing; the same release again is the one that is there.

    Raises
    ------
    ReleaseError
        The draft, or the release that already has its name, fails its check.
    """
    sealed = read(folder)
    target = Path(releases) / sealed.name
    if target.exists() and not (target / MANIFEST).exists():
        raise ReleaseError(f"{target} has this release's name and no {MANIFEST}; {_mend(target)}")
    if not target.exists():
        folder.chmod(0o755)  # a draft is its owner's, a release everyone's to read
        for entry in folder.rglob("*"):
            sync(entry)
        sync(folder)
        try:
            folder.rename(target)
        except OSError:
            if not target.exists():  # else another export of the same was faster
                raise
        sync(target.parent)
    return read(target)


def write_vectors(path: Path, vectors: Mapping[str, np.ndarray]) -> None:
    """Write instruction vectors, float32 [I, H] by scenario."""
    save_file({name: np.ascontiguousarray(vector, np.float32) for name, vector in vectors.items()}, path)


def hash_vectors(vectors: np.ndarray) -> str:
    """SHA-256 of instruction vectors: their shape and little-endian float32 bytes."""
    vectors = np.ascontiguousarray(vectors, "<f4")
    return hashlib.sha256(f"{vectors.shape}".encode() + vectors.tobytes()).hexdigest()


def hash_file(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_file(folder: Path, name: str, expected: str) -> None:
    try:
        found = hash_file(folder / name)
    except OSError as error:
        raise ReleaseError(f"release {folder.name} lacks {name} ({error.strerror}); {_mend(folder)}") from None
    if found != expected:
        raise ReleaseError(
            f"release {folder.name}: {name} was changed after the export (SHA-256 {found[:12]}, "
            f"manifest {expected[:12]}); {_mend(folder)}"
        )


def _mend(folder: Path) -> str:
    """The same export again has the same name, and takes what lies there for itself: the folder must go first."""
    return f"copy the whole folder again, or remove {folder} and export again"


def _read_vectors(path: Path) -> dict[str, np.ndarray]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ReleaseError(f"{path} cannot be read ({error}); {_mend(path.parent)}") from None


def event_graph(encoder: str) -> str:
    """The file of an encoder's graph; `shared` is the one that all sources share."""
    return "event.onnx" if encoder == "shared" else f"event_{encoder}.onnx"


def _missing(names: Collection[str]) -> str:
    """What a release needs and is not among its files."""
    lacking = sorted({*REQUIRED} - {*names})
    return ", ".join(lacking if any(_is_event_graph(name) for name in names) else [*lacking, "event graph"])


def _is_event_graph(name: str) -> bool:
    return name == "event.onnx" or (name.startswith("event_") and name.endswith(".onnx"))


def _plain(value: Any) -> Any:
    """The value as JSON gives it back: tuples become lists."""
    return json.loads(json.dumps(value))


def _hash_json(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def differences(here: Any, there: Any, other: str = "release", key: str = "") -> list[str]:
    """Dotted keys at which two shaping parts differ, with both values; blocks with a name go by it."""
    here, there = _plain(here), _plain(there)
    if isinstance(here, list) and isinstance(there, list) and all(_named(item) for item in [*here, *there]):
        order_here, order_there = [item["name"] for item in here], [item["name"] for item in there]
        if order_here != order_there:
            return [f"{key}: {order_here} in the deployment, {order_there} in the {other}"]
        here, there = ({item["name"]: item for item in side} for side in (here, there))
    if isinstance(here, dict) and isinstance(there, dict):
        steps = {step: f"{key}.{step}" if key else step for step in (*here, *there)}
        return [
            difference
            for step, below in steps.items()
            for difference in differences(here.get(step), there.get(step), other, below)
        ]
    return [] if here == there else [f"{key}: {here!r} in the deployment, {there!r} in the {other}"]


def _named(item: Any) -> bool:
    return isinstance(item, dict) and "name" in item
