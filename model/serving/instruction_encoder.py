"""The text embeddings of instructions, and how well a release knows an instruction; by onnxruntime, without torch.

    encoder = InstructionEncoder(release)
    direction_H = encoder.encode("Will this user order food often?")
    known = encoder.nearest(direction_H)          # the nearest question of the training, and its cosine
    focused_UH = focus(universal_UH, direction_H, release.focus.scale)

Shapes: U users, T texts, I tokens of an instruction, V vocabulary, L tokens of the longest text, N instructions of the
training, H width of the backbone, of a text embedding that of an embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from safetensors import safe_open

from model.data.arrays import Floats
from model.data.known_texts import KnownTexts, unit
from model.data.text import Tokenizers
from model.errors import InstructUEError
from model.serving import release as releases
from model.serving.onnx_session import CPU, open_session
from model.serving.release import Release

LEAST_COSINE = 0.42
"""The least cosine with a question of the training at which an instruction counts as understood.

In the trials that this rests on, a paraphrase of a training question had .97 to .99, an instruction about a
subject that the questions touch had .50 and ranked users as well as the others, and instructions about no subject had
.28 to .34. The limit is half-way between the last two."""


class InstructionError(InstructUEError):
    """An instruction without words, or vectors that cannot be compared with it."""


@dataclass(frozen=True, kw_only=True)
class KnownQuestion:
    """The question of the training that is nearest to an instruction."""

    question: str
    cosine: float
    """Of the two text embeddings."""

    @property
    def is_understood(self) -> bool:
        """Whether the instruction is near enough to the question."""
        return self.cosine >= LEAST_COSINE

    @property
    def warning(self) -> str | None:
        """What to say about an instruction that is not understood; None for one that is."""
        if self.is_understood:
            return None
        return (
            f"the instruction is not understood: the nearest question of the training is {self.question!r}, with a "
            f"cosine of {self.cosine:.2f} (understood: {LEAST_COSINE} or more); word it like a question of the "
            "questions file, or add such a question and train again"
        )


class InstructionEncoder:
    """The text graph, the token table and the training's questions of a release with focus.

    Raises
    ------
    ReleaseError
        The release has no focus, or the graph cannot be opened.
    """

    def __init__(self, release: Release, *, providers: Sequence[str] = (CPU,), threads: int | None = None) -> None:
        self.scale = release.require_focus().scale
        self._tokens = release.path / releases.TOKENS
        self._questions = release.path / releases.QUESTIONS
        self._graph = open_session(release.path / releases.TEXT_GRAPH, providers, threads)
        self._tokenizers = Tokenizers.load(release.path)
        self._known: KnownTexts | None = None
        if releases.KNOWN_TEXTS in release.files:
            self._known = KnownTexts.read(release.path / releases.KNOWN_TEXTS)
            self._sentence_graph = open_session(release.path / releases.SENTENCE_GRAPH, providers, threads)

    def encode(self, instruction: str) -> Floats:
        """Return the unit text embedding of an instruction, float32 [H].

        With a pretrained instruction encoder it is the direction by the known texts (`model.data.known_texts`).

        Raises
        ------
        InstructionError
            The instruction is blank.
        """
        if not instruction.strip():
            raise InstructionError("the instruction is blank: write what to ask of a user")
        if self._known is not None:
            ids_1L, mask_1L = self._tokenizers.sentence_ids([instruction.strip()]).padded(np.zeros(1, np.int64))
            inputs = {"input_ids": ids_1L, "attention_mask": mask_1L}
            return self._known.directions(unit(self._sentence_graph.run(["vectors"], inputs)[0]))[0]
        return self._read([self._vectors(self._tokenizers.answer_ids([instruction.strip()])[0].tolist())])[0]

    def instruction_vectors(self, instruction: str) -> Floats:
        """Return the instruction vectors of a text, float32 [I, H], `<USER>` last, for `Runtime.embed(others=...)`."""
        return self._vectors(self._tokenizers.instruction_ids([instruction])[0].tolist())

    def directions(self, instructions: Sequence[Floats]) -> Floats:
        """Return float32 [T, H], the text embeddings of instruction vectors [I, H], `<USER>` last; zeros without words.

        They equal those of `InstructUE.directions`, with a pretrained instruction encoder too: a tuned instruction has
        vectors and no words.
        """
        end_1H = self._vectors([self._tokenizers.end])
        return self._read([np.concatenate([vectors_IH[:-1], end_1H]) for vectors_IH in instructions])

    def nearest(self, direction_H: Floats) -> KnownQuestion:
        """Return the question of the training whose text embedding has the highest cosine."""
        questions = releases.read_vectors(self._questions)
        names = sorted(questions)
        return nearest_question(names, np.stack([questions[name] for name in names]), direction_H)

    def _vectors(self, ids: Sequence[int]) -> Floats:
        """Return the vectors of these tokens, [L, H]; the rest of the table is not read."""
        with safe_open(self._tokens, framework="numpy") as file:
            table = file.get_slice("tokens")
            return np.concatenate([table[token : token + 1] for token in ids])

    def _read(self, texts: Sequence[Floats]) -> Floats:
        lengths_T = np.array([len(vectors_LH) for vectors_LH in texts])
        mask_TL = np.arange(max(lengths_T)) < lengths_T[:, None]
        vectors_TLH = np.zeros((*mask_TL.shape, texts[0].shape[1]), np.float32)
        vectors_TLH[mask_TL] = np.concatenate(texts)
        inputs = {"vectors": vectors_TLH, "attention_mask": mask_TL.astype(np.int64)}
        embeddings_TH: Floats = self._graph.run(["embeddings"], inputs)[0]
        return embeddings_TH * (lengths_T > 1)[:, None].astype(np.float32)


def nearest_question(names: Sequence[str], questions_NH: Floats, direction_H: Floats) -> KnownQuestion:
    """Return the question whose text embedding, a row of `questions_NH`, has the highest cosine with a direction."""
    cosines_N = questions_NH @ direction_H
    best = int(cosines_N.argmax())
    return KnownQuestion(question=names[best], cosine=round(float(cosines_N[best]), 4))


def focus(embeddings_UH: Floats, directions_UH: Floats, scale: float) -> Floats:
    """Return centred embeddings focused along directions, [U, H] or one [H], L2-normalised (`model.network.focus`)."""
    along_U1 = (embeddings_UH * directions_UH).sum(-1, keepdims=True)
    focused_UH = embeddings_UH + np.float32(scale) * along_U1 * directions_UH
    return focused_UH / np.linalg.norm(focused_UH, axis=-1, keepdims=True)
