"""Vectors of the labelled users under instructions, the instructions' text embeddings and their nearest questions.

A release with focus reads any instruction by itself. For one without, its checkpoint does, where the deployment's
folder of checkpoints has it; otherwise only the scenarios' vectors are there.

Shapes: U profiles, I tokens of an instruction, H width, N questions of the training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.config.deployment import UNIVERSAL, Deployment
from jobs.lake import delta
from jobs.lake.delta import MissingTableError
from jobs.training.registry import NoCheckpointError, source_checkpoint, tuned_scenarios
from model.data.arrays import Floats
from model.serving.instruction_encoder import KnownQuestion, nearest_question
from model.serving.onnx_runtime import Runtime
from model.serving.release import Release

if TYPE_CHECKING:
    from model.data.text import Tokenizers
    from model.network.network import InstructUE

VAGUE = ("Tell something about this user.", "Describe the user.", "What can be said about this user?")
"""Instructions without a subject; a scenario's figure is the mean over them."""
UNREAD = (
    "the release has no focus and its checkpoint is not there, so vague instructions and figures without labels are "
    "missing: set `focus: universal` under model.network, then train and export again"
)


class InstructionReader(Protocol):
    """Reads instructions that the release does not serve."""

    def instruction_vectors(self, instruction: str) -> Floats:
        """Return the vectors of the tokens and of `<USER>`, float32 [I, H]."""

    def encode(self, instruction: str) -> Floats:
        """Return the unit text embedding, float32 [H]."""

    def nearest(self, direction_H: Floats) -> KnownQuestion | None:
        """Return the nearest question of the training; None where its questions are not there."""


@dataclass(frozen=True, kw_only=True)
class Instructions:
    """The labelled users' vectors and the scenarios' instructions.

    Attributes
    ----------
    vectors
        float32 [U, H] each: `universal`; under a scenario's name those of its instruction in the deployment file;
        `VAGUE`.
    tuned
        float32 [U, H] of each scenario whose instruction the release has tuned.
    directions
        The text embedding, float32 [H], of each scenario's instruction and of `VAGUE`; empty without a reader.
    nearest
        The nearest question of the training, by scenario.
    missing
        What is missing and why; None: nothing.
    """

    vectors: Mapping[str, Floats]
    tuned: Mapping[str, Floats]
    directions: Mapping[str, Floats]
    nearest: Mapping[str, KnownQuestion]
    missing: str | None

    @property
    def served(self) -> dict[str, Floats]:
        """The vectors that the release serves, tuned ones in place of the scenario's own."""
        return {**self.vectors, **self.tuned}


def read_instructions(deployment: Deployment, release: Release, profiles: pa.Table) -> Instructions:
    """Embed the profiles under the scenarios' instructions and vague ones, as far as the release can read them."""
    runtime = Runtime(release, providers=deployment.model.providers)
    reader = _reader(deployment, release, runtime)
    texts = {scenario.name: scenario.instruction for scenario in deployment.scenarios}
    tuned = [name for name in tuned_scenarios(release) if name in texts]
    others, along, directions, nearest = {}, {}, {}, {}
    if reader is not None:
        directions = {name: reader.encode(text) for name, text in [*texts.items(), *zip(VAGUE, VAGUE, strict=True)]}
        nearest = {name: reader.nearest(directions[name]) for name in texts}
        sources = {text: text for text in VAGUE} | {_manual(name): name for name in tuned}
        others = {name: reader.instruction_vectors(texts.get(source, source)) for name, source in sources.items()}
        # The runtime would read them by the text graph, also where the release has a pretrained instruction encoder.
        along = {name: directions[source] for name, source in sources.items()} if release.focus else {}
    names = [UNIVERSAL, *texts, *others]
    vectors_UKH = runtime.embed(profiles, names, others=others, directions=along)
    embedded = dict(zip(names, np.moveaxis(vectors_UKH, 1, 0), strict=True))
    tuned_vectors = {name: embedded.pop(name) for name in tuned}
    embedded |= {name: embedded.pop(_manual(name)) for name in tuned if _manual(name) in embedded}
    return Instructions(
        vectors=embedded,
        tuned=tuned_vectors,
        directions=directions,
        nearest={name: known for name, known in nearest.items() if known is not None},
        missing=UNREAD if reader is None else None,
    )


def _manual(scenario: str) -> str:
    return f"manual {scenario}"  # a scenario's own name has no blank


def _reader(deployment: Deployment, release: Release, runtime: Runtime) -> InstructionReader | None:
    if release.focus is not None:
        return runtime.instruction_encoder
    try:
        checkpoint = source_checkpoint(deployment, release)
    except NoCheckpointError:
        return None
    from model.training.checkpoint import load_checkpoint  # torch takes seconds to import

    network, tokenizers, _ = load_checkpoint(checkpoint)
    return CheckpointReader(network, tokenizers, _questions(deployment))


class CheckpointReader:
    """Reads instructions by a network in torch."""

    def __init__(self, network: InstructUE, tokenizers: Tokenizers, questions: Sequence[str]) -> None:
        self._network, self._tokenizers, self._questions = network, tokenizers, questions
        self._questions_NH = self._encode(questions) if questions else None

    def instruction_vectors(self, instruction: str) -> Floats:
        """Return the vectors of the tokens and of `<USER>`, float32 [I, H]."""
        from model.serving.export import instruction_vectors

        return instruction_vectors(self._network, self._tokenizers, {"": instruction})[""]

    def encode(self, instruction: str) -> Floats:
        """Return the unit text embedding, float32 [H]: the instruction is read as an answer is."""
        direction_H: Floats = self._encode([instruction])[0]
        return direction_H

    def nearest(self, direction_H: Floats) -> KnownQuestion | None:
        """Return the question of `userqa` whose text embedding has the highest cosine; None without questions."""
        if self._questions_NH is None:
            return None
        return nearest_question(self._questions, self._questions_NH, direction_H)

    def _encode(self, texts: Sequence[str]) -> Floats:
        import torch

        with torch.inference_mode():
            ids = self._tokenizers.answer_ids(texts)
            return np.asarray(self._network.encode_answers(ids, np.arange(len(ids))).float().numpy(), np.float32)


def _questions(deployment: Deployment) -> list[str]:
    """Return the distinct instructions of `userqa`, sorted; none where there is no such table."""
    try:
        rows = delta.read_rows(delta.open_table(deployment, "userqa"), columns=["instruction"])
    except MissingTableError:
        return []
    return sorted(pc.unique(rows["instruction"]).drop_null().to_pylist())
