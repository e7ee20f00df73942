"""Ask: an instruction -> each user's answer in words and embedding, from the latest profiles.

The release's decoder writes the words, in torch. Its graphs compute the embedding from the instruction's vectors, so
the embedding can be compared with every vector of the release.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from jobs.config.deployment import Deployment
from jobs.config.location import is_catalog_name
from jobs.lake import catalog, delta
from jobs.lake.handoff import AskHandoff
from jobs.lake.run_log import RunRecord
from jobs.lake.user_ids import user_ids
from jobs.training.labels import check_assembled
from jobs.training.registry import open_release
from model.data.arrays import Floats, equal_lists
from model.errors import InstructUEError
from model.progress import Progress, no_progress
from model.serving.onnx_runtime import Runtime
from model.serving.release import Release

logger = logging.getLogger(__name__)
USERS_PER_BATCH = 256
MAX_TOKENS = 64
"""Tokens of an answer, at most; training reads as many."""
SCHEMA = delta.arrow_schema(catalog.ANSWERS)
"""Schema of the table that `--all` writes."""
INSTRUCTION = "(instruction)"
"""The name of the instruction among the scenarios; no scenario can have this name."""


class AskError(InstructUEError):
    """Users without a profile, or a table that cannot hold answers."""


@dataclass(frozen=True, kw_only=True, eq=False)
class AskResult:
    """The model's answer about a user."""

    user_id: str
    as_of: datetime
    """The as_of of the profile."""
    answer: str
    similar: dict[str, float]
    """Cosine of the embedding and the user's vector in each scenario of the release."""
    embedding: Floats
    """[H]"""


@dataclass(frozen=True, kw_only=True)
class AskAllResult:
    """The result of one run of `ask --all`."""

    as_of: date
    table: str
    users: int
    release: str
    model_version: str
    seconds: float


def ask(
    deployment: Deployment, instruction: str, users: Iterable[object], *, release: str | Path | None = None
) -> list[AskResult]:
    """Answer an instruction for these users' latest profiles.

    Raises
    ------
    AskError
        The instruction is empty, no user is named, or a user has no profile.
    UserIdError
        A value is no user id.
    ReleaseError
        There is no release, it has no decoder, or it would not make this deployment's vectors.
    TableError
        A table is missing, or a day of profiles is half replaced.
    """
    ids = [*dict.fromkeys(user_ids(users))]
    if not ids:
        raise AskError("no user is named: give --user U, once for each, or --all")
    answerer = _Answerer(open_release(deployment, release), deployment, instruction)
    table = delta.open_table(deployment, "user_profiles")
    profiles = _latest(deployment, table, delta.last_day(table), ids)
    known = set(profiles["user_id"].to_pylist())
    missing = [user for user in ids if user not in known]
    if missing:
        raise AskError(
            f"no profile of {', '.join(map(repr, missing[:10]))}: name users of user_profiles, or run "
            "`instructue assemble` for a day on which they have events"
        )
    words, vectors_UKH = answerer(profiles, answerer.runtime.scenarios)
    cosines_UK = np.einsum("ukh,uh->uk", vectors_UKH[:, :-1], vectors_UKH[:, -1])
    names = answerer.runtime.scenarios
    return [
        AskResult(
            user_id=user,
            as_of=as_of,
            answer=answer,
            embedding=vectors_KH[-1],
            similar={name: round(float(cosine), 4) for name, cosine in zip(names, cosines_K, strict=True)},
        )
        for user, as_of, answer, vectors_KH, cosines_K in zip(
            profiles["user_id"].to_pylist(), profiles["as_of"].to_pylist(), words, vectors_UKH, cosines_UK, strict=True
        )
    ]


def ask_all(
    deployment: Deployment,
    instruction: str,
    table: str,
    *,
    as_of: date | None = None,
    release: str | Path | None = None,
    progress: Progress = no_progress,
) -> AskAllResult:
    """Write every user's answer and embedding into a Delta table; the same instruction and day replace their rows.

    Parameters
    ----------
    table : str
        A name in the lake, or a path or URI.
    as_of : date, optional
        The day whose latest profiles are read; None: the last that was assembled.
    progress : callable
        Called with the users done and their number.

    Raises
    ------
    AskError
        The instruction is empty, no user has a profile, or the table is not a table of answers.
    ReleaseError, TableError
        As for `ask`.
    """
    opened = open_release(deployment, release)
    answerer = _Answerer(opened, deployment, instruction)
    path = _target(deployment, table)
    day = as_of or delta.last_day(delta.open_table(deployment, "user_profiles"))
    with RunRecord.kept(deployment, "ask", day, model_version=opened.model_version) as run:
        before = run.former.handoff(AskHandoff).tables if run.former else ()
        run.handoff = AskHandoff(tables=tuple(sorted({*before, table})))
        profiles = _latest(deployment, run.open("user_profiles"), day)
        if not len(profiles):
            raise AskError(f"no user has a profile at {day}: run `instructue assemble --as-of {day}`")
        progress(0, len(profiles))
        rows = pa.concat_tables(_rows(answerer, profiles, day, progress))
        quoted = answerer.instruction.replace("'", "''")
        run.replacing()
        delta.replace_rows(path, rows, f"day = '{day.isoformat()}' AND instruction = '{quoted}'")
        run.rows_in = run.rows_out = len(rows)
        run.details = {"release": opened.path.name, "instruction": answerer.instruction}
        return AskAllResult(
            as_of=day,
            table=table,
            users=len(rows),
            release=opened.path.name,
            model_version=opened.model_version,
            seconds=run.seconds(),
        )


class _Answerer:
    """A release that answers one instruction, in words and as a vector."""

    def __init__(self, release: Release, deployment: Deployment, instruction: str) -> None:
        from model.serving.export import instruction_vectors
        from model.training.checkpoint import load_checkpoint  # torch takes seconds to import
        from model.training.processes import processes

        self.instruction = instruction.strip()
        if not self.instruction:
            raise AskError("the instruction is empty: ask something")
        self._network, self._tokenizers, _ = load_checkpoint(release.decoder)
        self._network.to(processes().device)
        self._vectors = instruction_vectors(self._network, self._tokenizers, {INSTRUCTION: self.instruction})
        self.runtime = Runtime(release, providers=deployment.model.providers)
        self._directions: dict[str, Floats] = {}
        if release.focus:
            encoder = self.runtime.instruction_encoder
            self._directions[INSTRUCTION] = encoder.encode(self.instruction)
            if warning := encoder.nearest(self._directions[INSTRUCTION]).warning:
                logger.warning("%s", warning)

    def __call__(self, profiles: pa.Table, scenarios: Sequence[str] = ()) -> tuple[list[str], Floats]:
        """Return each user's answer, and `[U, K + 1, H]`: the vectors in these scenarios, the instruction's last."""
        from model.network.inference import generate

        words = generate(self._network, self._tokenizers, profiles, self.instruction, max_tokens=MAX_TOKENS)
        vectors_UKH = self.runtime.embed(
            profiles, [*scenarios, INSTRUCTION], others=self._vectors, directions=self._directions
        )
        return words, vectors_UKH


def _latest(deployment: Deployment, table: DeltaTable, day: date, users: Sequence[str] | None = None) -> pa.Table:
    """Return the latest profile of each user at a day, by user id, without deactivated users."""
    check_assembled(deployment, table, day)
    condition = pc.field("day") <= day
    if users is not None:
        condition &= pc.field("user_id").isin([*users])
    rows = delta.read_rows(table, filters=condition)
    latest = rows.take(delta.latest_per_key(rows, ["user_id"])).sort_by("user_id")
    return latest.filter(pc.is_valid(latest["profile_hash"]))


def _rows(answerer: _Answerer, profiles: pa.Table, day: date, progress: Progress) -> Iterator[pa.Table]:
    for start in range(0, len(profiles), USERS_PER_BATCH):
        part = profiles.slice(start, USERS_PER_BATCH)
        words, vectors_UKH = answerer(part)
        users = len(part)
        embedding = equal_lists(pa.array(vectors_UKH.reshape(-1)), users)
        yield pa.table(
            [
                part["user_id"].cast(pa.string()),
                [delta.midnight(day)] * users,
                [answerer.instruction] * users,
                words,
                embedding,
                [answerer.runtime.release.model_version] * users,
                [day] * users,
            ],
            schema=SCHEMA,
        )
        progress(start + users, len(profiles))


def _target(deployment: Deployment, table: str) -> str:
    """Return the path of the table to write to; it must be new or a table of answers."""
    if is_catalog_name(table):
        raise AskError(f"--table {table}: is a name of Spark's catalogs; name a table of the lake, or a path")
    path = deployment.table(table)
    if path in catalog.reserved_paths(deployment) or (
        delta.table_exists(path)
        and {field.name for field in delta.open_path(path).schema().fields} != set(SCHEMA.names)
    ):
        raise AskError(f"--table {table}: the table at {path} is there for something else; name a new one")
    return path
