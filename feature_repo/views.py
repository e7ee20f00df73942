"""The Feast objects: one entity, one feature view over `user_vectors`, its services.

A user's whole row is one feature view, so one read fetches every scenario, and offline and online features have the
same names. The view has no time to live: a user without new events keeps the last vector until the user is
deactivated.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import feature_repo.no_torch  # noqa: F401

# isort: split
from feast import Entity, FeatureService, FeatureView, Field, ValueType
from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource
from feast.table_format import DeltaFormat
from feast.types import Bytes, String, UnixTimestamp

from feature_repo.columns import scenario_columns
from feature_repo.vectors import tags

VIEW = SERVICE = "user_vectors"
OWNER = "owner"
"""The tag of the view that says whose vectors it holds; `feature_repo.owner` reads it."""

# Feast calls its Spark source experimental each time that it reads a registry.
warnings.filterwarnings("ignore", message="The spark data source API is", category=RuntimeWarning)


@dataclass(frozen=True, kw_only=True)
class Definitions:
    """The objects of a registry."""

    entity: Entity
    source: SparkSource
    view: FeatureView
    services: tuple[FeatureService, ...]
    """`user_vectors` with every scenario, then `user_vectors_<scenario>` for each."""

    @property
    def objects(self) -> list[Any]:
        """Every object, in the order in which Feast applies them."""
        return [self.entity, self.source, self.view, *self.services]


def definitions(*, scenarios: Sequence[str], table: str, width: int, owner: str | None = None) -> Definitions:
    """Return the Feast objects of a store.

    Parameters
    ----------
    scenarios : sequence of str
        The scenarios that have features.
    table : str
        Path or URI of the table `user_vectors`.
    width : int
        Values in a vector.
    owner : str, optional
        The lake whose vectors they are.
    """
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING, description="A user.")
    source = SparkSource(
        name=VIEW,
        path=table,
        table_format=DeltaFormat(),
        timestamp_field="as_of",
        description="A user's whole row as of a time, written by `publish`.",
    )
    schema = [Field(name="user_id", dtype=String)]
    for scenario in scenarios:
        vector, model_version, as_of = scenario_columns(scenario)
        schema += [
            Field(name=vector, dtype=Bytes, tags=tags(width), description="packed vector"),
            Field(name=model_version, dtype=String),
            Field(name=as_of, dtype=UnixTimestamp),
        ]
    view = FeatureView(
        name=VIEW,
        entities=[user],
        schema=schema,
        source=source,
        ttl=timedelta(0),
        online=True,
        tags={OWNER: owner} if owner else {},
        description="Each scenario's vector, the model that made it, and its as_of.",
    )
    everything = FeatureService(name=SERVICE, features=[view])
    single = [
        FeatureService(name=f"{SERVICE}_{scenario}", features=[view[list(scenario_columns(scenario))]])
        for scenario in scenarios
    ]
    return Definitions(entity=user, source=source, view=view, services=(everything, *single))
