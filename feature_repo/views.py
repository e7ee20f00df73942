"""The Feast objects of a deployment: one entity, one feature view over `user_vectors`, its services.

A user's whole row is one feature view, so that one read fetches every scenario, and offline and online have
the same names. It has no time to live: a quiet user keeps the last vector until it is ended.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import feature_repo.no_torch  # noqa: F401

# isort: split
from feast import Entity, FeatureService, FeatureView, Field, ValueType
from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource
from feast.table_format import DeltaFormat
from feast.types import Bytes, String, UnixTimestamp

from feature_repo.vectors import tags
from jobs.config.deployment import Deployment
from jobs.config.deployment import scenario_columns as columns

TABLE = VIEW = SERVICE = "user_vectors"

# Feast calls its Spark source experimental each time that it reads a registry.
warnings.filterwarnings("ignore", message="The spark data source API is", category=RuntimeWarning)


@dataclass(frozen=True, kw_only=True)
class Definitions:
    """What is applied to the registry."""

    entity: Entity
    source: SparkSource
    view: FeatureView
    services: tuple[FeatureService, ...]
    """`user_vectors` with every scenario, then `user_vectors_<scenario>` for each."""

    @property
    def objects(self) -> list[Any]:
        return [self.entity, self.source, self.view, *self.services]


def features(deployment: Deployment) -> list[str]:
    """Every feature's name, scenario by scenario."""
    return [name for scenario in deployment.scenario_names for name in columns(scenario)]


def definitions(deployment: Deployment, width: int) -> Definitions:
    """The Feast objects of a deployment whose vectors have `width` values."""
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING, description="A user.")
    source = SparkSource(
        name=TABLE,
        path=deployment.table(TABLE),
        table_format=DeltaFormat(),
        timestamp_field="as_of",
        description="A user's whole row as of a time, written by `publish`.",
    )
    schema = [Field(name="user_id", dtype=String)]
    for scenario in deployment.scenario_names:
        vector, model_version, as_of = columns(scenario)
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
        description="Each scenario's vector, the model that made it, and its as_of.",
    )
    everything = FeatureService(name=SERVICE, features=[view])
    single = [
        FeatureService(name=f"{SERVICE}_{scenario}", features=[view[list(columns(scenario))]])
        for scenario in deployment.scenario_names
    ]
    return Definitions(entity=user, source=source, view=view, services=(everything, *single))
