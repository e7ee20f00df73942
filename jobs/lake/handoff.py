"""The data that a run hands to later runs: typed and versioned, under `handoff` in the details of its `job_runs` row.

Rows that were written before handoffs had a version are of version 0: their fields are beside the notes in `details`,
and `from_version_0` reads them. To change a handoff, raise `VERSION` and read the version before it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from jobs.lake.errors import TableError

KEY = "handoff"
VERSION = 1


class HandoffError(TableError):
    """The handoff of a run cannot be read."""


class Handoff(BaseModel):
    """The data that a run hands to later runs; an absent or unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def from_version_0(cls, details: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields that a row of version 0 has."""
        return {name: details[name] for name in cls.model_fields if name in details}

    def record(self) -> dict[str, Any]:
        """Return the handoff as it is stored."""
        return {"version": VERSION, **self.model_dump(mode="json")}

    @classmethod
    def read(cls, details: Mapping[str, Any], run: str, command: str) -> Self:
        """Return the handoff in the details of a run.

        Raises
        ------
        HandoffError
            A field is absent, unknown or of another type, or the version is a later one; names `command`.
        """
        stored = dict(details.get(KEY) or {"version": 0, **cls.from_version_0(details)})
        version = stored.pop("version", None)
        if version not in (0, VERSION):
            raise HandoffError(
                f"{run} left a record of version {version}, and this version of the project reads {VERSION}: "
                f"run the newer version, or `{command}` again"
            )
        try:
            return cls.model_validate_json(json.dumps(stored))
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
            raise HandoffError(
                f"{run} did not record what this job needs of it ({wrong}); run `{command}` again"
            ) from None


HandoffType = TypeVar("HandoffType", bound=Handoff)


class ProfilesHandoff(Handoff):
    """The handoff of a job that makes profiles: the settings that affect a vector."""

    vector_spec: dict[str, Any]

    @classmethod
    def from_version_0(cls, details: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields, of which `vector_spec` was named `shaping`."""
        renamed = {"vector_spec": details["shaping"]} if "shaping" in details else {}
        return super().from_version_0(details) | renamed


class AssembleHandoff(ProfilesHandoff):
    """The handoff of `assemble`."""

    users: int
    """Eligible users at the day."""


class UserQAHandoff(ProfilesHandoff):
    """The handoff of `userqa`."""


class EmbedHandoff(Handoff):
    """The handoff of `embed`."""

    instructions: dict[str, str]
    """The hash of each scenario's instruction vectors."""
    embedded: int
    """Users embedded in at least one scenario."""


class AskHandoff(Handoff):
    """The handoff of `ask --all`."""

    tables: tuple[str, ...]
    """The names or paths of the tables written for the day, of earlier runs too."""

    @classmethod
    def from_version_0(cls, details: Mapping[str, Any]) -> dict[str, Any]:
        """Return the one table that was noted; a run that failed before it wrote noted none."""
        return {"tables": [details["table"]] if "table" in details else []}


class MaintainHandoff(Handoff):
    """The handoff of `maintain`."""

    horizon: date | None
    """The last day of which superseded rows were dropped; None: no row was dropped."""

    @classmethod
    def from_version_0(cls, details: Mapping[str, Any]) -> dict[str, Any]:
        """Return the horizon; None where the run dropped no rows."""
        return {"horizon": details.get("horizon")}
