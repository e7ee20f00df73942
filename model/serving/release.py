"""A release: the folder that vectors are made with. It never changes once it is accepted.

    manifest.json            what the folder is, and the SHA-256 of every other file
    event_<source>.onnx      text to event vector; one `event.onnx` where the sources share an encoder
    user.onnx                a profile and instruction vectors to embeddings
    instructions.safetensors one float32 [I, H] tensor per scenario, `<USER>` last
    directions.safetensors   with focus: each scenario's text embedding, float32 [H]; zeros without an instruction
    questions.safetensors    with focus: the text embedding of each instruction of the training, under its words
    text.onnx                with focus: the token vectors of an instruction to its text embedding
    tokens.safetensors       with focus: the vector of each token, float32 [V, H]
    sentence.onnx            with an instruction encoder: a text to its sentence embedding; with its
                             instruction_tokenizer.json
    known_texts.safetensors  with an instruction encoder: what a sentence embedding is compared with
    event_tokenizer.json     language_tokenizer.json     network.json     deployment.yaml
    metrics.json             MODEL_CARD.md
    decoder/                 the checkpoint, where `ask` answers in words; vectors need none of it

`model_version` hashes what shapes a vector whatever the instruction, and nothing else: if only a metric, a date
or a table's name changes, no user is embedded again. Each scenario's instruction vectors have a hash of their own: if a
scenario is added, only that scenario is embedded. No file is a pickle, and reading a release needs no torch.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from model.data.text import EVENT_FILE, LANGUAGE_FILE
from model.errors import InstructUEError
from model.serving.hashes import hash_file, hash_json
from model.serving.vector_spec import VECTOR_SPEC_KEY, differences

FORMAT = 1
MANIFEST = "manifest.json"
INSTRUCTIONS = "instructions.safetensors"
NETWORK = "network.json"
USER_GRAPH = "user.onnx"
TEXT_GRAPH = "text.onnx"
DIRECTIONS = "directions.safetensors"
QUESTIONS = "questions.safetensors"
TOKENS = "tokens.safetensors"
SENTENCE_GRAPH = "sentence.onnx"
KNOWN_TEXTS = "known_texts.safetensors"
REQUIRED = (INSTRUCTIONS, NETWORK, EVENT_FILE, LANGUAGE_FILE, USER_GRAPH)
DECODER = "decoder"


class ReleaseError(InstructUEError):
    """A release that cannot be written, read or used with this deployment."""


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """A scenario's instruction."""

    text: str | None
    """None: universal, or tuned."""
    hash: str
    """Of its vectors."""


@dataclass(frozen=True, kw_only=True)
class FocusEntry:
    """A release's focus (`model.network.focus`)."""

    form: str
    """`suffix` or `universal`."""
    scale: float


@dataclass(frozen=True, kw_only=True)
class Release:
    """A release whose files are those of its manifest.

    Attributes
    ----------
    path : Path
        The folder.
    model_version : str
        64 hexadecimal digits: graphs, tokenizers, network with its statistics, vector spec, precision.
    checkpoint : str
        Hash of the checkpoint that the graphs and instruction vectors were made from.
    precision : str
        `fp32`.
    vector_spec : dict
        `Deployment.vector_spec()` at the export, as plain data.
    instructions : dict of str to Instruction
        Every scenario served, `universal` first.
    created_at : str
        ISO 8601, UTC.
    files : dict of str to str
        SHA-256 of each file, by name.
    focus : FocusEntry or None
        None: embeddings are neither centred nor focused.
    """

    path: Path
    model_version: str
    checkpoint: str
    precision: str
    vector_spec: dict[str, Any]
    instructions: dict[str, Instruction]
    created_at: str
    files: dict[str, str]
    focus: FocusEntry | None = None

    @property
    def name(self) -> str:
        """The folder's name, a hash of the contents: the same export again has the same name."""
        hashes = {scenario: instruction.hash for scenario, instruction in self.instructions.items()}
        hashes |= {name: file_hash for name, file_hash in self.files.items() if name.startswith(f"{DECODER}/")}
        return f"{self.model_version[:12]}-{hash_json(hashes)[:8]}"

    @property
    def decoder(self) -> Path:
        """The folder of the checkpoint that answers in words.

        Raises
        ------
        ReleaseError
            The release has none.
        """
        if not any(name.startswith(f"{DECODER}/") for name in self.files):
            raise ReleaseError(
                f"release {self.path.name} has no decoder, so it can embed and not answer; run "
                "`instructue export --instructions --decoder`, which keeps its graphs and model_version"
            )
        return self.path / DECODER

    @property
    def scenarios(self) -> tuple[str, ...]:
        """The scenarios that the release has vectors for, `universal` among them."""
        return tuple(self.instructions)

    def vectors(self) -> dict[str, np.ndarray]:
        """Return the instruction vectors by scenario, float32 [I, H], `<USER>` last."""
        return read_vectors(self.path / INSTRUCTIONS)

    def require_focus(self) -> FocusEntry:
        """Return the focus.

        Raises
        ------
        ReleaseError
            The release has none.
        """
        if self.focus is None:
            raise ReleaseError(
                f"release {self.path.name} has no focus, so its vectors cannot be compared with an instruction: set "
                "`focus: universal` under model.network, then train and export again"
            )
        return self.focus

    def check_deployment(self, vector_spec: Mapping[str, Any], instructions: Mapping[str, str | None]) -> None:
        """Refuse a deployment whose vectors this release does not make.

        Parameters
        ----------
        vector_spec : mapping
            `Deployment.vector_spec()`.
        instructions : mapping of scenario to instruction text or None
            The required scenarios; the release may serve more.

        Raises
        ------
        ReleaseError
            Keys of the vector spec differ, a scenario is missing, or a scenario has another instruction.
        """
        if lines := differences(vector_spec, self.vector_spec):
            raise ReleaseError(
                f"the deployment differs from release {self.path.name} in what shapes a vector:\n"
                + "\n".join(f"  {line}" for line in lines)
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
        There is no release, a file is missing, a byte was changed, or this version does not read the format.
    """
    path = Path(path)
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except OSError:
        raise ReleaseError(f"{path} is no release: it has no {MANIFEST}; run `instructue export`") from None
    except ValueError as error:
        raise ReleaseError(f"{path / MANIFEST} is not JSON ({error}); {repair_advice(path)}") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ReleaseError(f"{path / MANIFEST} is not of format {FORMAT}; {repair_advice(path)}")
    digest = manifest.pop("digest", None)
    if digest != hash_json(manifest):
        raise ReleaseError(f"{path / MANIFEST} was changed after the export; {repair_advice(path)}")
    try:
        instructions = {scenario: Instruction(**entry) for scenario, entry in manifest["instructions"].items()}
        fields = {
            field: manifest[field] for field in ("model_version", "checkpoint", "precision", "created_at", "files")
        }
        fields["focus"] = FocusEntry(**manifest["focus"]) if "focus" in manifest else None
        release = Release(path=path, instructions=instructions, vector_spec=manifest[VECTOR_SPEC_KEY], **fields)
    except (KeyError, TypeError, AttributeError) as error:
        raise ReleaseError(
            f"{path / MANIFEST} lacks what format {FORMAT} holds ({error}); {repair_advice(path)}"
        ) from None
    if missing := missing_files(release.files):
        raise ReleaseError(f"{path / MANIFEST} lists no {missing}; {repair_advice(path)}")
    for name, expected in release.files.items():
        _check_file(path, name, expected)
    return release


def read_vectors(path: Path) -> dict[str, np.ndarray]:
    """Return the vectors in a file by name, such as the instruction vectors, float32 [I, H] by scenario."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ReleaseError(f"{path} cannot be read ({error}); {repair_advice(path.parent)}") from None


def event_graph(encoder: str) -> str:
    """Return the file of an encoder's graph; `shared` is the encoder that all sources share."""
    return "event.onnx" if encoder == "shared" else f"event_{encoder}.onnx"


def missing_files(names: Collection[str]) -> str:
    """Return the files that a release needs and that are not among these, with commas between; empty: none."""
    missing = sorted({*REQUIRED} - {*names})
    return ", ".join(missing if any(_is_event_graph(name) for name in names) else [*missing, "event graph"])


def repair_advice(folder: Path) -> str:
    """Return how a broken release is repaired: the same export has the same name, so the folder must go first."""
    return f"copy the whole folder again, or remove {folder} and export again"


def _check_file(folder: Path, name: str, expected: str) -> None:
    try:
        actual = hash_file(folder / name)
    except OSError as error:
        raise ReleaseError(f"release {folder.name} lacks {name} ({error.strerror}); {repair_advice(folder)}") from None
    if actual != expected:
        raise ReleaseError(
            f"release {folder.name}: {name} was changed after the export (SHA-256 {actual[:12]}, "
            f"manifest {expected[:12]}); {repair_advice(folder)}"
        )


def _is_event_graph(name: str) -> bool:
    return name == "event.onnx" or (name.startswith("event_") and name.endswith(".onnx"))
