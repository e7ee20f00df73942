"""Look users up in the online store: the service's side, in milliseconds, without Spark or torch.

A service opens one `Lookup` when it starts and keeps it; `lookup` is the same for one call.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from feature_repo.columns import feature_names, scenario_columns
from feature_repo.settings import StoreError
from feature_repo.store import open_store, translate_store_errors
from feature_repo.vectors import unpack, width_in
from feature_repo.views import SERVICE, VIEW
from jobs.config.deployment import Deployment
from jobs.serving.store_settings import store_settings

BATCH = 1000
"""Users that one read asks for; a database limits how many keys a query names."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Vector:
    """A user's vector in a scenario."""

    vector: npt.NDArray[np.float32]
    """[W]"""
    model_version: str
    as_of: datetime
    """UTC; the vector is made of events before it."""
    age: int
    """Whole days since `as_of`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LookupResult:
    """What the store knows of a user."""

    user_id: str
    found: bool
    """False: no vector in any scenario asked for; the user is unknown, or has ended."""
    vectors: Mapping[str, Vector]
    """Scenario to vector; a scenario without one is left out."""


class Lookup:
    """The online store of a deployment, opened once and kept.

    Parameters
    ----------
    deployment
        Whose store.
    freeze
        Take everything that is in memory now out of Python's garbage collection. Its passes over Feast's modules
        and registry are what makes a lookup in a thousand take 100 ms; open the lookup last, when a service starts.

    Raises
    ------
    StoreError
        Nothing was published yet.
    """

    def __init__(self, deployment: Deployment, *, freeze: bool = True) -> None:
        self._settings = store_settings(deployment)
        self._store = open_store(self._settings)
        view = self._store.get_feature_view(VIEW)
        # As the registry has them: what was published, not what the deployment file has come to say since.
        self._widths = {field.name: width_in(field.tags) for field in view.features if "width" in field.tags}
        self._services: dict[str | None, Any] = {None: self._store.get_feature_service(SERVICE)}
        self._services |= {name: self._store.get_feature_service(f"{SERVICE}_{name}") for name in self._widths}
        self(["-"])  # opens the connection and fills Feast's caches
        if freeze:
            gc.collect()
            gc.freeze()

    @property
    def scenarios(self) -> tuple[str, ...]:
        """The scenarios that can be asked for."""
        return tuple(self._widths)

    def __call__(
        self, users: Sequence[str], scenarios: Sequence[str] | None = None, *, now: datetime | None = None
    ) -> list[LookupResult]:
        """Look `users` up, in their order.

        Parameters
        ----------
        users
            User ids.
        scenarios
            Names; None for all.
        now
            The time at which ages are taken; None for the clock's.

        Raises
        ------
        StoreError
            A scenario that was never published, users that are no list of texts, or a store that cannot be read.
        VectorError
            The store was published with another width since this object was opened: open a new one.
        """
        # A number is another key than its digits, and would be found to have no vector.
        if isinstance(users, str) or not all(isinstance(user, str) for user in users):
            raise StoreError(f"users = {users!r}: name them in a list, each as a text such as '12'")
        wanted = self._checked(scenarios)
        now = now or datetime.now(UTC)
        answers = []
        with translate_store_errors(self._settings):
            for start in range(0, len(users), BATCH):
                answers += self._read(users[start : start + BATCH], wanted, scenarios, now)
        return answers

    def _checked(self, scenarios: Sequence[str] | None) -> tuple[str, ...]:
        if scenarios is None:
            return self.scenarios
        if isinstance(scenarios, str) or not scenarios:
            raise StoreError(f"scenarios = {scenarios!r}: name some in a list, or None for all")
        unknown = [name for name in scenarios if name not in self._widths]
        if unknown:
            raise StoreError(f"scenario {unknown[0]!r} was never published; use one of {', '.join(self.scenarios)}")
        return tuple(scenarios)

    def _read(
        self, users: Sequence[str], wanted: tuple[str, ...], asked: Sequence[str] | None, now: datetime
    ) -> list[LookupResult]:
        single = wanted[0] if len(wanted) == 1 else None
        features: Any = self._services[single]
        if asked is not None and single is None:
            features = [f"{VIEW}:{name}" for name in feature_names(wanted)]
        response = self._store.get_online_features(features=features, entity_rows={"user_id": list(users)}).proto
        found = dict(zip(response.metadata.feature_names.val, response.results, strict=True))
        vectors: list[dict[str, Vector]] = [{} for _ in users]
        for scenario in wanted:
            packed, model_versions, times = (found[name].values for name in scenario_columns(scenario))
            there = [position for position, cell in enumerate(packed) if cell.WhichOneof("val") is not None]
            rows = unpack([packed[position].bytes_val for position in there], self._widths[scenario])
            for position, row in zip(there, rows, strict=True):
                as_of, age = _time(times[position].unix_timestamp_val, now)
                vectors[position][scenario] = Vector(
                    vector=row, model_version=model_versions[position].string_val, as_of=as_of, age=age
                )
        return [
            LookupResult(user_id=user, found=bool(found), vectors=found)
            for user, found in zip(users, vectors, strict=True)
        ]


@lru_cache(maxsize=1024)
def _day(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _time(seconds: int, now: datetime) -> tuple[datetime, int]:
    """A vector's as_of and its age in days."""
    as_of = _day(seconds)
    return as_of, (now - as_of).days


def lookup(deployment: Deployment, users: Sequence[str], scenarios: Sequence[str] | None = None) -> list[LookupResult]:
    """Look users up once; a service keeps a `Lookup` instead.

    Raises
    ------
    StoreError
        Nothing was published yet, or a scenario was never published.
    """
    return Lookup(deployment, freeze=False)(users, scenarios)
