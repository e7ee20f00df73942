"""The files that make the store's folder a Feast repository: `feast -c <folder> ...` works there as it is."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path

from feature_repo.settings import StoreError, StoreSettings, feature_store_yaml
from feature_repo.views import Definitions, definitions
from model.atomic_write import atomic_write_text

DEFINITIONS = '''"""Written by `publish` for the command line of Feast; edit the deployment file and publish instead."""

from feature_repo.repository import published_definitions

parts = published_definitions(
    __file__, folder={folder!r}, scenarios={scenarios!r}, table={table!r}, width={width}, owner={owner!r}
)
entity, source, view = parts.entity, parts.source, parts.view
globals().update((service.name, service) for service in parts.services)
'''
FULL_DISK = (errno.ENOSPC, errno.EDQUOT)


def write_repository(settings: StoreSettings, scenarios: Sequence[str], width: int, owner: str | None) -> None:
    """Write the files, where they differ from those in the folder.

    Raises
    ------
    StoreError
        The folder cannot be written to.
    """
    try:
        settings.folder.mkdir(parents=True, exist_ok=True)
        for name, text in _texts(settings, scenarios, width, owner).items():
            path = settings.folder / name
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                atomic_write_text(path, text)
    except OSError as error:
        if error.errno in FULL_DISK:  # another folder of the disk would not help
            raise
        raise StoreError(
            f"{settings.origin}: store.folder = {settings.folder}: {error.strerror}; name a folder that may be "
            "written to"
        ) from None


def published_definitions(
    file: str, *, folder: str, scenarios: Sequence[str], table: str, width: int, owner: str | None
) -> Definitions:
    """Return the Feast objects of a `definitions.py`.

    Raises
    ------
    StoreError
        The folder was moved or copied: `feature_store.yaml` still names the registry of the former one.
    """
    present = Path(file).resolve().parent
    if present != Path(folder).resolve():
        raise StoreError(
            f"{present} was moved or copied from {folder}, and its feature_store.yaml names the registry there; "
            "run `instructue lookup` or `instructue publish`, which write both files anew"
        )
    return definitions(scenarios=scenarios, table=table, width=width, owner=owner)


def _texts(settings: StoreSettings, scenarios: Sequence[str], width: int, owner: str | None) -> dict[str, str]:
    """Return the text of each file."""
    return {
        "feature_store.yaml": feature_store_yaml(settings),
        "definitions.py": DEFINITIONS.format(
            folder=str(settings.folder), scenarios=tuple(scenarios), table=settings.table, width=width, owner=owner
        ),
    }
