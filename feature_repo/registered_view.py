"""The feature view as a registry has it, compared with what `publish` registers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import feature_repo.no_torch  # noqa: F401

# isort: split
from feast import FeatureStore, FeatureView

from feature_repo.settings import StoreError, StoreSettings
from feature_repo.vectors import width_in
from feature_repo.views import VIEW, definitions


def vector_widths(view: FeatureView) -> dict[str, int]:
    """Return the width of each published scenario's vectors.

    Raises
    ------
    VectorError
        A feature's tags name another encoding than `feature_repo.vectors` decodes.
    """
    return {field.name: width_in(field.tags) for field in view.features if "width" in field.tags}


def require_as_published(settings: StoreSettings, store: FeatureStore) -> None:
    """Check that the registered objects are those that `publish` registers for the scenarios and widths in them.

    The path of the source is left out: offline features read the table that the deployment names.

    Raises
    ------
    StoreError
        Another program or an earlier version registered something else; the message has the values.
    """
    view = store.get_feature_view(VIEW)
    widths = vector_widths(view)
    if len({*widths.values()}) != 1:
        raise _error(settings, f"vectors of the widths {sorted({*widths.values()})}")
    target = definitions(scenarios=[*widths], table=settings.table, width=widths[next(iter(widths))])
    present, expected = _facts(view), _facts(target.view)
    for name, value in expected.items():
        if present[name] != value:
            raise _error(settings, f"{name} = {present[name]}, where publish registers {value}")
    services = {service.name for service in store.list_feature_services()}
    missing = [service.name for service in target.services if service.name not in services]
    if missing:
        raise _error(settings, f"no feature service {missing[0]}")


def _facts(view: FeatureView) -> Mapping[str, Any]:
    """Return what decides the rows that Feast returns of a view."""
    source = view.batch_source
    return {
        "ttl": str(view.ttl),
        "online": view.online,
        "entities": [(column.name, str(column.dtype)) for column in view.entity_columns],
        "features": [(field.name, str(field.dtype)) for field in view.features],
        "source": type(source).__name__,
        "timestamp_field": getattr(source, "timestamp_field", None),
        "created_timestamp_column": getattr(source, "created_timestamp_column", None) or "",
        "field_mapping": dict(getattr(source, "field_mapping", None) or {}),
        "date_partition_column": getattr(source, "date_partition_column", None) or "",
    }


def _error(settings: StoreSettings, difference: str) -> StoreError:
    return StoreError(
        f"{settings.origin}: project {settings.project!r} in the registry has {difference}: another program or version "
        "wrote it; run `instructue publish` for the newest day, which registers it again"
    )
