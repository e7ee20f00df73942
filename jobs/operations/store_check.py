"""Whether the Feast store, as it is now, would be refused by publish or by a lookup."""

from __future__ import annotations

from importlib.util import find_spec

from jobs.config.deployment import Deployment


def store_problem(deployment: Deployment) -> str | None:
    """Return why the store would be refused and what to do; None for a sound one, and where nothing was published.

    Nothing is written, and nothing is compared where Feast is not installed.
    """
    if find_spec("feast") is None:
        return None
    from feature_repo.registered_view import require_as_published
    from feature_repo.settings import StoreError
    from feature_repo.store import check_writable, find_store
    from jobs.serving.store_settings import store_settings

    try:
        settings = store_settings(deployment)
        store = find_store(settings)
        if store is not None:
            check_writable(settings, store)
            require_as_published(settings, store)
    except StoreError as error:
        return str(error)
    return None
