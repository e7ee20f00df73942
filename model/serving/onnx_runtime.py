"""The runtime of a release: one vector for each user and scenario, by onnxruntime and without torch.

    runtime = load("releases/3f2a...-9c1e...")
    vectors = runtime.embed(profiles, ["universal", "food"])      # float32 [users, 2, H]

Three things save time. An event text is encoded once in a call, and not at all while the cache of text vectors holds
it. Users of similar length share a batch. One forward pass over a profile gives the vectors of all scenarios.

Shapes: U users, K scenarios, H width of the backbone (and of an embedding, unless there is a head), E width of an event
vector, T distinct texts, L tokens of the longest of them, B users of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow as pa
from numpy.typing import NDArray

from model.data.arrays import Floats, Ints
from model.data.batching import batches_of_tokens
from model.data.config import NetworkConfig
from model.data.profiles import Profiles, SourceEvents, read_profiles
from model.data.text import Tokenizers
from model.errors import ConfigError, InstructUEError
from model.serving import release as releases
from model.serving.instruction_encoder import InstructionEncoder
from model.serving.onnx_session import CPU, open_session
from model.serving.release import Release, ReleaseError, event_graph
from model.serving.text_vectors import TextVectors

CACHED_TEXTS = 65_536
# The most tokens of a forward pass: few enough for a core's caches, enough to make its overhead negligible.
TOKENS_PER_TEXT_BATCH = 2_048
TOKENS_PER_USER_BATCH = 2_048


class VectorError(InstructUEError):
    """Profiles that have no vector, or a vector that is not of length 1."""


def load(
    path: str | Path, providers: Sequence[str] = (CPU,), threads: int | None = None, cached_texts: int = CACHED_TEXTS
) -> Runtime:
    """Check the files of a release and open it.

    Parameters
    ----------
    path : str or Path
        The release's folder.
    providers : sequence of str
        onnxruntime's execution providers; the first must be the one in use.
    threads : int, optional
        Threads of a forward pass; None: one for each core.
    cached_texts : int
        How many text vectors are kept between calls, for each source.

    Raises
    ------
    ReleaseError
        A changed or missing file, or a provider that this machine cannot use.
    """
    return Runtime(releases.read(path), providers=providers, threads=threads, cached_texts=cached_texts)


class Runtime:
    """Embed users by an open release; see `load`.

    Attributes
    ----------
    release : Release
        The open release.
    width : int
        Numbers of an embedding.
    """

    def __init__(
        self,
        release: Release,
        *,
        providers: Sequence[str] = (CPU,),
        threads: int | None = None,
        cached_texts: int = CACHED_TEXTS,
    ) -> None:
        self.release = release
        self._providers, self._threads = providers, threads
        self._network = _network(release.path / releases.NETWORK)
        self._tokenizers = Tokenizers.load(release.path)
        self._instructions = release.vectors()
        self._directions = releases.read_vectors(release.path / releases.DIRECTIONS) if self._network.focus else {}
        self.width = self._network.embedding_width

        def session(name: str) -> onnxruntime.InferenceSession:
            return open_session(release.path / name, providers, threads)

        encoders = {name: session(event_graph(name)) for name in self._network.encoder_names}
        self._encoders = {
            source.name: encoders[source.name if source.name in encoders else "shared"]
            for source in self._network.sources
        }
        self._user = session(releases.USER_GRAPH)
        inputs = {one.name for one in self._user.get_inputs()}
        unread = [source.name for source in self._network.sources if f"events_{source.name}" not in inputs]
        if unread:
            raise ReleaseError(
                f"{release.path / releases.USER_GRAPH} does not read {', '.join(unread)}, which "
                f"{releases.NETWORK} names: they are of two networks; export again"
            )
        # A cache for each source, since sources may differ in encoder and in tokens of a text.
        self._caches = {
            source.name: TextVectors(cached_texts, self._network.encoder.width) for source in self._network.sources
        }

    @property
    def scenarios(self) -> tuple[str, ...]:
        """Every scenario served, `universal` first."""
        return self.release.scenarios

    @cached_property
    def instruction_encoder(self) -> InstructionEncoder:
        """The release's text graph, opened when it is used first; ReleaseError without focus."""
        return InstructionEncoder(self.release, providers=self._providers, threads=self._threads)

    def embed(
        self,
        profiles: pa.Table,
        scenarios: Sequence[str] | None = None,
        *,
        others: Mapping[str, Floats] | None = None,
        directions: Mapping[str, Floats] | None = None,
    ) -> Floats:
        """Return a unit vector for each user and scenario.

        Parameters
        ----------
        profiles : pyarrow.Table
            Rows of `user_profiles`, whose `profile_hash`, if it is there, is not null.
        scenarios : sequence of str, optional
            Scenarios in the order of the result; None: all that are served.
        others : mapping of name to instruction vectors, optional
            float32 [I, H], `<USER>` last, under further names that `scenarios` may contain.
        directions : mapping of name to direction, optional
            float32 [H], the directions of `others` for a focus; the text embeddings of the rest are computed.

        Returns
        -------
        numpy.ndarray
            float32 [U, K, H], users in the table's order. The same user and scenario give the same vector whatever
            else is in the call.

        Raises
        ------
        ReleaseError
            A scenario that the release does not serve.
        VectorError
            A deactivated user, or a vector that is zero or not finite.
        model.data.profiles.ProfileError
            Rows that are no profiles of this network.
        """
        scenarios = self.scenarios if scenarios is None else tuple(scenarios)
        instructions = self._instruction_inputs(scenarios, others or {}, directions or {})
        if "profile_hash" in profiles.column_names and profiles["profile_hash"].null_count:
            raise VectorError(
                f"{profiles['profile_hash'].null_count} of {len(profiles)} profiles have no "
                "profile_hash: these users are deactivated and have no vector; leave them out"
            )
        rows = read_profiles(profiles, self._network)
        texts = [
            self._padded_texts(source.name, events)
            for source, events in zip(self._network.sources, rows.sources, strict=True)
        ]
        vectors_UKH = np.empty((len(rows), len(scenarios), self.width), np.float32)
        if scenarios:
            # With focus `universal` the graph reads `<USER>` alone.
            for users_B in self._batches(rows, len(instructions["segments"]) if "segments" in instructions else 1):
                inputs = self._inputs(rows, texts, users_B) | instructions
                vectors_UKH[users_B] = self._user.run(["embeddings"], inputs)[0]
        _check_vectors(vectors_UKH, profiles)
        return vectors_UKH

    def _instruction_inputs(
        self, scenarios: Sequence[str], others: Mapping[str, Floats], along: Mapping[str, Floats]
    ) -> dict[str, NDArray[Any]]:
        known = self._instructions | dict(others)
        unknown = [scenario for scenario in scenarios if scenario not in known]
        if unknown:
            raise ReleaseError(
                f"release {self.release.path.name} does not serve {', '.join(map(repr, unknown))}; "
                f"it serves {', '.join(self.scenarios)}; `instructue export --instructions` adds one"
            )
        vectors = [known[scenario] for scenario in scenarios]
        lengths_K = np.array([len(vector) for vector in vectors], np.int64)
        suffixes = {
            "instructions": np.concatenate([np.zeros((0, self._network.backbone.width), np.float32), *vectors]),
            "segments": np.repeat(np.arange(1, len(vectors) + 1), lengths_K),
            "users": np.cumsum(lengths_K) - 1,
        }
        if self._network.focus is None:
            return suffixes
        unread = {name: vectors_IH for name, vectors_IH in others.items() if name not in along}
        known_directions = self._directions | self._encode_directions(unread) | dict(along)
        inputs = {"directions": np.stack([known_directions[name] for name in scenarios])} if scenarios else {}
        return inputs if self._network.focus == "universal" else suffixes | inputs

    def _encode_directions(self, others: Mapping[str, Floats]) -> dict[str, Floats]:
        """Return the text embedding of each of these instruction vectors, by name."""
        if not others:
            return {}
        return dict(zip(others, self.instruction_encoder.directions([*others.values()]), strict=True))

    def encode_texts(self, source: str, texts: Sequence[str]) -> Floats:
        """Return float32 [T, E], the event vectors of a source's distinct texts; texts in the cache are not encoded."""
        cache = self._caches[source]
        vectors_TE, missing_M = cache.get(texts)
        if len(missing_M):
            missing = [texts[text] for text in missing_M.tolist()]
            ids = self._tokenizers.event_ids(missing, self._network.source(source).max_tokens)
            for batch_M in batches_of_tokens(ids.lengths, TOKENS_PER_TEXT_BATCH):
                ids_TL, mask_TL = ids.padded(batch_M)
                vectors_TE[missing_M[batch_M]] = self._encoders[source].run(
                    ["vectors"], {"input_ids": ids_TL, "attention_mask": mask_TL}
                )[0]
            cache.put(missing, vectors_TE[missing_M])
        return vectors_TE

    def _padded_texts(self, source: str, events: SourceEvents) -> Floats:
        """Return the vectors of the source's texts and a row of zeros for padding, `[T + 1, E]`."""
        return np.concatenate(
            [self.encode_texts(source, events.texts), np.zeros((1, self._network.encoder.width), np.float32)]
        )

    def _batches(self, rows: Profiles, instruction_tokens: int) -> list[Ints]:
        fixed = self._network.fixed_tokens + instruction_tokens
        return batches_of_tokens(rows.lengths_U + fixed, TOKENS_PER_USER_BATCH)

    def _inputs(self, rows: Profiles, texts: list[Floats], users_B: Ints) -> dict[str, NDArray[Any]]:
        batch = rows.batch(users_B)
        inputs: dict[str, NDArray[Any]] = {}
        for source, events, vectors_TE in zip(self._network.sources, batch.sources, texts, strict=True):
            text_T1 = np.append(events.texts_T, len(vectors_TE) - 1)
            inputs |= {
                f"events_{source.name}": vectors_TE[text_T1[events.text_BN]],
                f"mask_{source.name}": events.mask_BN,
                f"gaps_{source.name}": events.gaps_BN,
                f"age_{source.name}": events.age_B,
            }
        if batch.numbers_BFP.shape[1]:
            inputs["numbers"] = batch.numbers_BFP
        if batch.categories_BC.shape[1]:
            inputs["categories"] = batch.categories_BC
        return inputs


def _network(path: Path) -> NetworkConfig:
    try:
        return NetworkConfig.from_json(path.read_text(encoding="utf-8"))
    except ConfigError as error:
        raise ReleaseError(f"{path}: {error}") from None


def _check_vectors(vectors_UKH: Floats, profiles: pa.Table) -> None:
    norms_UK = np.sqrt(np.einsum("ukh,ukh->uk", vectors_UKH, vectors_UKH))
    bad = np.argwhere(~(np.abs(norms_UK - 1) < 1e-3))  # NaN compares as false
    if len(bad):
        user, scenario = bad[0]
        name = profiles["user_id"][int(user)].as_py() if "user_id" in profiles.column_names else f"row {user}"
        raise VectorError(
            f"{len(bad)} vectors are not of length 1, the first that of user {name!r} in scenario "
            f"number {scenario} ({norms_UK[user, scenario]}); export again, the gates test for this"
        )
