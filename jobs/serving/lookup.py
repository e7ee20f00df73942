"""Look users up in the online store, in milliseconds, without Spark or torch.

A service opens one `Lookup` when it starts and keeps it; `lookup` does the same for one call.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from feature_repo.columns import feature_names, scenario_columns
from feature_repo.registered_view import vector_widths
from feature_repo.settings import StoreError
from feature_repo.store import open_store, require_online, translate_store_errors
from feature_repo.vectors import unpack
from feature_repo.views import SERVICE, VIEW
from jobs.config.deployment import Deployment
from jobs.lake.user_ids import user_ids
from jobs.serving.store_settings import store_settings

BATCH = 1000
"""Users in one read; a database limits the keys of a query."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Vector:
    """A user's vector in a scenario."""

    vector: npt.NDArray[np.float32]
    """[W]"""
    model_version: str
    as_of: datetime
    """UTC; the vector is made of events before this time."""
    age: int
    """Whole days since `as_of`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LookupResult:
    """A user's vectors in the online store."""

    user_id: str
    has_vectors: bool
    """Whether the user has a vector in a scenario of the lookup; False for unknown and deactivated users."""
    vectors: Mapping[str, Vector]
    """By scenario; a scenario without a vector is absent."""


class Lookup:
    """The online store of a deployment, opened once and kept.

    Parameters
    ----------
    deployment : Deployment
        Its store is opened.
    freeze : bool
        Take every object that is in memory out of Python's garbage collection. A collection scans Feast's modules and
        registry, and one lookup in a thousand then takes 100 ms. Open the lookup last when a service starts.

    Raises
    ------
    StoreError
        Nothing was published yet, or the registry or the online store holds something else than this deployment
        published.
    """

    def __init__(self, deployment: Deployment, *, freeze: bool = True) -> None:
        self._settings = store_settings(deployment)
        self._store = open_store(self._settings)
        with translate_store_errors(self._settings):
            require_online(self._settings, self._store)
        view = self._store.get_feature_view(VIEW)
        # The registry has the published scenarios and widths; the deployment file may have changed since.
        self._widths = vector_widths(view)
        self._services: dict[str | None, Any] = {None: self._store.get_feature_service(SERVICE)}
        self._services |= {name: self._store.get_feature_service(f"{SERVICE}_{name}") for name in self._widths}
        self(["-"])  # opens the connection and fills Feast's caches
        if freeze:
            gc.collect()
            gc.freeze()

    @property
    def scenarios(self) -> tuple[str, ...]:
        """The published scenarios."""
        return tuple(self._widths)

    def __call__(
        self, users: Iterable[object], scenarios: Sequence[str] | None = None, *, now: datetime | None = None
    ) -> list[LookupResult]:
        """Return the vectors of these users, in their order.

        Parameters
        ----------
        users : iterable
            User ids: texts, whole numbers or decimals, in a list or a column of numpy, pandas or Arrow.
        scenarios : sequence of str, optional
            Names; None: all.
        now : datetime, optional
            The time at which ages are computed; None: the present.

        Raises
        ------
        StoreError
            A scenario was never published, or the store cannot be read.
        UserIdError
            A value is no user id, or the users are one text.
        VectorError
            The store was published with another width after this object was opened: open a new one.
        """
        ids = user_ids(users)
        required = self._scenarios(scenarios)
        now = now or datetime.now(UTC)
        results = []
        with translate_store_errors(self._settings):
            for start in range(0, len(ids), BATCH):
                results += self._read(ids[start : start + BATCH], required, now)
        return results

    def _scenarios(self, scenarios: Sequence[str] | None) -> tuple[str, ...]:
        """Return these scenarios, or all for None; raise StoreError for one that was never published."""
        if scenarios is None:
            return self.scenarios
        if isinstance(scenarios, str) or not scenarios:
            raise StoreError(f"scenarios = {scenarios!r}: name some in a list, or None for all")
        unknown = [name for name in scenarios if name not in self._widths]
        if unknown:
            raise StoreError(f"scenario {unknown[0]!r} was never published; use one of {', '.join(self.scenarios)}")
        return tuple(scenarios)

    def _read(self, users: Sequence[str], scenarios: tuple[str, ...], now: datetime) -> list[LookupResult]:
        response = self._store.get_online_features(
            features=self._features(scenarios), entity_rows={"user_id": list(users)}
        ).proto
        columns = dict(zip(response.metadata.feature_names.val, response.results, strict=True))
        vectors: list[dict[str, Vector]] = [{} for _ in users]
        for scenario in scenarios:
            packed, model_versions, times = (columns[name].values for name in scenario_columns(scenario))
            present = [position for position, cell in enumerate(packed) if cell.WhichOneof("val") is not None]
            rows = unpack([packed[position].bytes_val for position in present], self._widths[scenario])
            for position, row in zip(present, rows, strict=True):
                as_of, age = _time(times[position].unix_timestamp_val, now)
                vectors[position][scenario] = Vector(
                    vector=row, model_version=model_versions[position].string_val, as_of=as_of, age=age
                )
        return [
            LookupResult(user_id=user, has_vectors=bool(of_user), vectors=of_user)
            for user, of_user in zip(users, vectors, strict=True)
        ]

    def _features(self, scenarios: tuple[str, ...]) -> Any:
        """Return the feature service of these scenarios, which Feast resolved once, or else the feature names."""
        if scenarios == self.scenarios:
            return self._services[None]
        if len(scenarios) == 1:
            return self._services[scenarios[0]]
        return [f"{VIEW}:{name}" for name in feature_names(scenarios)]


@lru_cache(maxsize=1024)
def _day(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _time(seconds: int, now: datetime) -> tuple[datetime, int]:
    """Return a vector's as_of and its age in days."""
    as_of = _day(seconds)
    return as_of, (now - as_of).days


def lookup(
    deployment: Deployment, users: Iterable[object], scenarios: Sequence[str] | None = None
) -> list[LookupResult]:
    """Return the vectors of these users, once; a service keeps a `Lookup` instead.

    Raises
    ------
    StoreError
        Nothing was published yet, or a scenario was never published.
    UserIdError
        A value is no user id.
    """
    return Lookup(deployment, freeze=False)(users, scenarios)
