"""CPC and CoLES of pytorch-lifestream on the events of a user, run in a separate Python environment.

An event has codes and numbers: its source, the hash of its text, the hashes of the parts of its text (between commas,
colons, semicolons and slashes), the days since the previous event and the days to the profile's as_of. The events of
all sources form one sequence in time order. Tabular columns are not used.

Shapes: U users, E events of all users, C columns of codes.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.evaluation.baselines.inputs import LIFESTREAM_PYTHON, BaselineError
from jobs.evaluation.profile_arrays import DAY, event_counts, microseconds, whole_column
from model.data.config import NetworkConfig

LIFESTREAM = Path(__file__).resolve().parent / "lifestream"
BUCKETS = 4096
"""The number of codes of a hashed column; 0 means no value."""
PARTS = 6
"""The number of parts of a text that get a code."""
PART = re.compile(r"\s*[,:;/]+\s*")


@dataclass(frozen=True, kw_only=True)
class SequenceSettings:
    """Sizes of the library's GRU encoder, and its training."""

    hidden: int = 128
    text_width: int = 32
    part_width: int = 16
    epochs: int = 8
    users_per_step: int = 64
    learning_rate: float = 2e-3


@dataclass(frozen=True, kw_only=True)
class Sequences:
    """Concatenated events of users: those of user u are `offsets_U1[u]` to `offsets_U1[u + 1]`, the oldest first.

    `codes_EC` holds the source's number from 1, the text's hash and its parts' hashes; `gap_E` the days since the
    previous event (0 for the first), `age_E` the days from the event to as_of. A user without events has one event of
    zeros, because the library does not accept an empty sequence.
    """

    codes_EC: NDArray[np.int64]
    gap_E: NDArray[np.float32]
    age_E: NDArray[np.float32]
    offsets_U1: NDArray[np.int64]

    @classmethod
    def of(cls, profiles: pa.Table, config: NetworkConfig) -> Sequences:
        """Read the last `max_events` events of each source."""
        users, codes, times, order = [], [], [], []
        for number, source in enumerate(config.sources):
            column = whole_column(profiles, source.name)
            count_U = event_counts(column)
            events = pc.list_flatten(column)
            kept_E = np.repeat(np.cumsum(count_U), count_U) - np.arange(len(events)) <= source.max_events
            events = events.filter(pa.array(kept_E))
            text = pc.struct_field(events, "text").dictionary_encode()
            codes_TC = np.array(
                [_codes(number + 1, text) for text in text.dictionary.to_pylist()], dtype=np.int64
            ).reshape(-1, 2 + PARTS)
            codes.append(codes_TC[text.indices.to_numpy(zero_copy_only=False)])
            users.append(np.repeat(np.arange(len(count_U)), np.minimum(count_U, source.max_events)))
            times.append(microseconds(pc.struct_field(events, "event_time")))
            order.append(np.full(len(events), number))
        empty_U = np.setdiff1d(np.arange(len(profiles)), np.concatenate(users))
        as_of_U = microseconds(whole_column(profiles, "as_of"))
        user_E = np.concatenate([*users, empty_U])
        time_E = np.concatenate([*times, as_of_U[empty_U]])
        codes_EC = np.concatenate([*codes, np.zeros((len(empty_U), 2 + PARTS), dtype=np.int64)])
        sorted_E = np.lexsort((np.concatenate([*order, np.zeros(len(empty_U))]), time_E, user_E))
        user_E, time_E, codes_EC = user_E[sorted_E], time_E[sorted_E], codes_EC[sorted_E]
        gap_E = np.diff(time_E, prepend=time_E[:1]) / DAY
        gap_E[np.diff(user_E, prepend=-1) != 0] = 0
        return cls(
            codes_EC=codes_EC,
            gap_E=gap_E.astype(np.float32),
            age_E=((as_of_U[user_E] - time_E) / DAY).astype(np.float32),
            offsets_U1=np.concatenate([[0], np.cumsum(np.bincount(user_E, minlength=len(profiles)))]),
        )


def vectors(
    training: pa.Table,
    profiles: pa.Table,
    config: NetworkConfig,
    settings: SequenceSettings,
    *,
    method: str,
    python: str | Path,
    seed: int,
    trained: bool,
) -> NDArray[np.float32]:
    """Return `[U, hidden]` of the profiles.

    Parameters
    ----------
    method : str
        `cpc` or `coles`.
    python : str or Path
        The interpreter of an environment with pytorch-lifestream.

    Raises
    ------
    BaselineError
        There is no such interpreter, or the library failed; the message ends with its last lines.
    """
    if not Path(python).exists():
        raise BaselineError(
            f"there is no {python}, the interpreter of an environment with pytorch-lifestream: create it with "
            f"`uv venv --python 3.11 {LIFESTREAM_PYTHON.parents[1]}` and `uv pip install --python "
            f"{LIFESTREAM_PYTHON} -r {LIFESTREAM / 'requirements.txt'}`, or name one with --lifestream"
        )
    with tempfile.TemporaryDirectory() as folder:
        for name, table in (("training", training), ("profiles", profiles)):
            np.savez(Path(folder) / f"{name}.npz", **vars(Sequences.of(table, config)))
        content = asdict(settings) | {
            "method": method,
            "seed": seed,
            "trained": trained,
            "buckets": BUCKETS,
            "sources": len(config.sources),
        }
        (Path(folder) / "settings.json").write_text(json.dumps(content), encoding="utf-8")
        # PYTHONPATH of this process belongs to another environment.
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        process = subprocess.run(
            [str(python), "-W", "ignore", str(LIFESTREAM / "encode.py"), folder],
            env=environment,
            capture_output=True,
            text=True,
        )
        if process.returncode:
            raise BaselineError(
                f"{method} of pytorch-lifestream failed under {python}: "
                + " / ".join(process.stderr.strip().splitlines()[-3:])
            )
        return np.asarray(np.load(Path(folder) / "vectors.npy"), dtype=np.float32)


def _codes(source: int, text: str) -> list[int]:
    parts = [part for part in PART.split(text) if part][:PARTS]
    return [source, _hash(text), *(_hash(part) for part in parts), *([0] * (PARTS - len(parts)))]


def _hash(text: str) -> int:
    return 1 + zlib.crc32(text.encode()) % (BUCKETS - 1)
