"""The types of single values in a deployment or questions file, with their checks and messages."""

from __future__ import annotations

import re
from datetime import date
from difflib import get_close_matches
from typing import Annotated, Any
from zoneinfo import available_timezones

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from jobs.config.location import expand_variables, is_catalog_name, quote_catalog_name, scheme

FIRST_DAY, LAST_DAY = date(1970, 1, 1), date(2099, 12, 31)
"""First and last valid day; a day or an event's time outside is an error."""
REGION = re.compile(r"[A-Z]\w+(/[\w+-]+)+")
"""A time zone by its region. Names without a slash, such as EST or CST6CDT, are abbreviations."""
NAME = r"^[a-z][a-z0-9_]{0,40}$"
TRUE_OR_FALSE = "write a number; YAML reads yes and on as true, no and off as false"


class Section(BaseModel):
    """A section of the deployment file; it is frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=False, serialize_by_alias=True)


def require_items(items: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the items; raise ValueError where there is none."""
    # Pydantic's minimal length counts valid items only, so it would add a second message to that of an invalid item.
    if not items:
        raise ValueError("is empty; write at least one")
    return items


def require_text(text: str) -> str:
    """Return the text; raise ValueError where it is empty or blank."""
    if not text.strip():
        raise ValueError("is empty; write one, or remove the key where it may be left out")
    return text


def _expand_location(location: str) -> str:
    location = expand_variables(location)
    scheme(location)  # raises ValueError for an invalid scheme or host
    return location


def _require_table(table: str) -> str:
    if is_catalog_name(table):
        quote_catalog_name(table)
    return table


def regions() -> list[str]:
    """Return the time zones' names by region; not a constant, because Python reads them from 600 files."""
    return sorted(filter(REGION.fullmatch, available_timezones()))


def _require_region(name: str) -> str:
    """Return the name of a time zone that Python and Java both know by its region."""
    if name == "UTC":
        return name
    if name not in (known := regions()):
        near = get_close_matches(name, known, n=1)
        fix = f"did you mean {near[0]}?" if near else "write UTC or a region, such as Asia/Shanghai"
        raise ValueError(f"no region of the tz database; {fix}")
    return name


def _require_number(value: Any) -> Any:
    # Python takes true and false for 1 and 0.
    if isinstance(value, bool):
        raise ValueError(TRUE_OR_FALSE)
    return value


def _require_written_day(value: Any) -> Any:
    # Pydantic takes a number for seconds since 1970.
    if isinstance(value, int | float):
        raise ValueError("write a day as 2025-01-31")
    return value


def _require_valid_day(day: date) -> date:
    if not FIRST_DAY <= day <= LAST_DAY:
        raise ValueError(f"name a day from {FIRST_DAY} to {LAST_DAY}")
    return day


Name = Annotated[str, StringConstraints(pattern=NAME)]
Text = Annotated[str, AfterValidator(require_text)]
Location = Annotated[Text, AfterValidator(_expand_location)]
"""A path or URI, in which environment variables are replaced when the file is read."""
TableName = Annotated[Location, AfterValidator(_require_table)]
TimeZone = Annotated[str, AfterValidator(_require_region)]
Integer = Annotated[int, BeforeValidator(_require_number)]
Share = Annotated[float, BeforeValidator(_require_number)]
Days = Annotated[Integer, Field(ge=1, le=3650)]
Day = Annotated[date, BeforeValidator(_require_written_day), AfterValidator(_require_valid_day)]
