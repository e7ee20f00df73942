"""Made-up profiles and question-answer pairs in the shape of `user_profiles` and `userqa`.

Each user has one of six interests, which three events in five show; the rest is noise.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.data.config import Category, EventSource, NetworkConfig, Number, Tabular

INTERESTS = ("coffee", "trains", "films", "外卖", "games", "books")
PLACES = ("corner", "station", "mall", "app", "学校", "airport", "market")
LEVELS = ("few", "some", "many")
AS_OF = datetime(2026, 1, 2, tzinfo=UTC)
EVENT = pa.struct([("event_time", pa.timestamp("us", "UTC")), ("text", pa.string()), ("gap", pa.int32())])

SOURCES = (
    EventSource(name="bill", max_events=60, max_tokens=16),
    EventSource(name="search", max_events=10, max_tokens=8),
)
TABULAR = Tabular(numbers=(Number(name="bills"), Number(name="income")), categories=(Category(name="city"),))


def network_config(**switches: object) -> NetworkConfig:
    """Return a tiny network over the made-up sources, its tabular statistics not fitted yet."""
    return NetworkConfig.from_preset("tiny", sources=SOURCES, tabular=TABULAR, **switches)


def shallow_network_config(**switches: object) -> NetworkConfig:
    """Return `network_config` with one layer in its encoder and backbone, which is exported in half the time."""
    config = network_config(**({"shared_encoder": True} | switches))
    return replace(config, encoder=replace(config.encoder, layers=1), backbone=replace(config.backbone, layers=1))


def made_up_profiles(users: int, *, seed: int = 0, events: float = 20.0, searches: float = 4.0) -> pa.Table:
    """Return `user_profiles` of so many users, with about so many events of each source.

    User 0 has no event, user 1 no search, every seventh user no income, every ninth no city.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        interest = int(rng.integers(len(INTERESTS)))
        bills = 0 if user == 0 else int(rng.poisson(events))
        queries = 0 if user in (0, 1) else int(rng.poisson(searches))
        rows.append(
            {
                "user_id": f"user-{user:05d}",
                "as_of": AS_OF,
                "bill": _events(rng, bills, interest, "paid {band} for {interest} at {place}"),
                "search": _events(rng, queries, interest, "{interest} {place}"),
                "ages": {"bill": _age(rng, bills), "search": _age(rng, queries)},
                "tabular": {
                    "bills": float(bills),
                    "income": None if user % 7 == 6 else float(np.round(rng.lognormal(8, 1), 2)),
                    "city": None if user % 9 == 8 else f"city-{rng.integers(4)}",
                },
                "profile_hash": f"{user:064x}",
                "interest": interest,
            }
        )
    table = pa.Table.from_pylist(rows, schema=_schema())
    interests = pa.array([row["interest"] for row in rows])
    return table.replace_schema_metadata(None).append_column("interest", interests)


def made_up_pairs(profiles: pa.Table, *, validation: float = 0.2, seed: int = 0) -> pa.Table:
    """Return `userqa` of the profiles: two instructed pairs and a general one each."""
    rng = np.random.default_rng(seed)
    rows = []
    for profile in profiles.to_pylist():
        split = "validation" if rng.random() < validation else "train"
        interest = INTERESTS[profile["interest"]]
        level = LEVELS[min(2, len(profile["bill"]) // 15)]
        for question, instruction, answer, axis in (
            ("interest", "What does this user like?", f"The user likes {interest}.", "attribute"),
            ("bills", "How many bills does this user have?", f"{level.capitalize()} bills.", "attribute"),
            ("general", None, f"Likes {interest}, {level} bills.", None),
        ):
            rows.append(
                {
                    "user_id": profile["user_id"],
                    "as_of": profile["as_of"],
                    "question": question,
                    "instruction": instruction,
                    "answer": answer,
                    "axis": axis,
                    "split": split,
                }
            )
    text = {name: pa.string() for name in ("user_id", "question", "instruction", "answer", "axis", "split")}
    return pa.Table.from_pylist(rows, schema=pa.schema({**text, "as_of": pa.timestamp("us", "UTC")}))


def yes_no_tables(users: int, **events: float) -> tuple[pa.Table, pa.Table]:
    """Return profiles of two cut-offs and their `userqa`: whether the user likes each interest, in two wordings.

    Every eleventh user is not asked about the last interest; every user has a description too.
    """
    profiles = made_up_profiles(users, **events)
    late = pa.array([AS_OF + timedelta(days=31 * (user % 2)) for user in range(users)], profiles["as_of"].type)
    profiles = profiles.set_column(profiles.column_names.index("as_of"), "as_of", late)
    pairs = made_up_pairs(profiles)
    general = pairs.filter(pc.is_null(pairs["instruction"])).append_column("is_none", pa.array([False] * users))
    rows = []
    for number, (pair, profile) in enumerate(zip(general.to_pylist(), profiles.to_pylist(), strict=True)):
        for interest, words in enumerate(INTERESTS[: -1 if number % 11 == 10 else None]):
            is_liked = profile["interest"] in (interest, (interest + 1) % len(INTERESTS))
            rows.append(
                pair
                | {
                    "question": f"likes_{interest}",
                    "instruction": f"Does this user like {words}?" if number % 3 else f"Is {words} their thing?",
                    "answer": f"Yes, they like {words}." if is_liked else "No, they do not.",
                    "axis": "attribute",
                    "is_none": not is_liked,
                }
            )
    return profiles, pa.concat_tables([general, pa.Table.from_pylist(rows, schema=general.schema)])


def _events(rng: np.random.Generator, count: int, interest: int, template: str) -> list[dict[str, object]]:
    days = np.sort(rng.integers(1, 400, count))[::-1]
    gaps = [-1, *(int(1 + before - after).bit_length() - 1 for before, after in pairwise(days))]
    events = []
    for day, gap in zip(days, gaps, strict=False):
        about = interest if rng.random() < 0.6 else int(rng.integers(len(INTERESTS)))
        words = {
            "band": f"~{2 ** int(rng.integers(1, 8))}",
            "interest": INTERESTS[about],
            "place": PLACES[int(rng.integers(len(PLACES)))],
        }
        events.append({"event_time": AS_OF - timedelta(days=int(day)), "text": template.format(**words), "gap": gap})
    return events


def _age(rng: np.random.Generator, count: int) -> int | None:
    return int(rng.integers(0, 8)) if count else None


def _schema() -> pa.Schema:
    return pa.schema(
        {
            "user_id": pa.string(),
            "as_of": pa.timestamp("us", "UTC"),
            "bill": pa.list_(EVENT),
            "search": pa.list_(EVENT),
            "ages": pa.struct([("bill", pa.int32()), ("search", pa.int32())]),
            "tabular": pa.struct([("bills", pa.float64()), ("income", pa.float64()), ("city", pa.string())]),
            "profile_hash": pa.string(),
        }
    )
