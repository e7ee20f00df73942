"""Profiles worked out row by row in plain Python, from what DESIGN promises: the second opinion on Spark's."""

from __future__ import annotations

import hashlib
import json
import math
import re
import unicodedata
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from itertools import pairwise
from typing import Any

from jobs.config.deployment import Deployment
from jobs.config.sections import EventSource
from tests.support.literal_aggregates import aggregate, relative_bands

BANDS = [
    1,
    2,
    5,
    10,
    20,
    50,
    100,
    200,
    500,
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
]


def when(value: Any) -> datetime | None:
    """The time that a cell means, or None where it means none."""
    if isinstance(value, str):
        if not re.match(r"\s*\d{4}-\d{1,2}-\d{1,2}", value):
            return None
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            return None
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def amount_band(value: Any) -> str:
    if value is None or value != value:
        return "unknown amount"
    size = abs(value)
    below = [edge for edge in BANDS if edge <= size]
    if len(below) == len(BANDS):
        band = f"{BANDS[-1]} or more"
    else:
        band = f"{below[-1]} to {BANDS[len(below)]}" if below else f"under {BANDS[0]}"
    return f"refund {band}" if value < 0 else band


def band_of(value: Any, *edges: str) -> str:
    if value is None or not math.isfinite(value):
        return "unknown"
    edges = edges or (*(f"-{edge}" for edge in reversed(BANDS)), "0", *map(str, BANDS))
    below = [edge for edge in edges if float(edge) <= value]
    if not below:
        return f"under {edges[0]}"
    return f"{below[-1]} to {edges[len(below)]}" if len(below) < len(edges) else f"{edges[-1]} or more"


def words(value: Any) -> str:
    if value is None:
        return "unknown"
    text = java_double(value) if isinstance(value, float) else str(value)
    return text if text.strip(" ") else "unknown"


def java_double(value: float) -> str:
    """Java's Double.toString, for the ordinary numbers of the tests."""
    assert value == 0 or 1e-3 <= abs(value) < 1e7, value
    return repr(float(value))


def two_digits(value: Any) -> str:
    if value is None or value != value:
        return "unknown"
    exact = Decimal(repr(float(value)))
    rounded = round(exact.quantize(Decimal((0, (1,), exact.adjusted() - 1)), ROUND_HALF_UP), 12)
    return f"{rounded:f}".rstrip("0").rstrip(".") if rounded else "0"


def daypart(time: datetime) -> str:
    return ("night", "morning", "afternoon", "evening")[time.hour // 6]


FILTERS = {
    "text": words,
    "amount_band": amount_band,
    "band": band_of,
    "number": two_digits,
    "daypart": daypart,
    "weekday": lambda t: f"{t:%A}",
    "month": lambda t: f"{t:%B}",
    "hour": lambda t: f"{t:%H}:00",
}


def text(source: EventSource, row: dict[str, Any]) -> str:
    out = ""
    for literal, column, call in source.parts:
        out += literal
        if column is not None:
            value = row[column]
            if column == source.time and call.name != "text":
                value = when(value).astimezone(UTC)
            out += FILTERS[call.name](value, *call.edges)
    blank = ("Cc", "Zs", "Zl", "Zp")
    spaced = "".join(" " if c.isspace() or unicodedata.category(c) in blank else c for c in out)
    return re.sub(" +", " ", spaced).strip()[:1000].rstrip()


def band(later: datetime, earlier: datetime) -> int:
    days = (later - earlier) // timedelta(days=1)
    return (1 + days).bit_length() - 1


def judge(source: EventSource, row: dict[str, Any]) -> str | None:
    user, time = row[source.user], row[source.time]
    if user is None:
        return "no user id"
    if isinstance(user, str) and not user.strip():
        return "empty user id"
    if time is None:
        return "no time"
    if when(time) is None:
        return "time does not parse"
    if not datetime(1970, 1, 1, tzinfo=UTC) <= when(time) < datetime(2100, 1, 1, tzinfo=UTC):
        return "time before 1970 or after 2099"
    return None


def split(source: EventSource, rows: list[dict[str, Any]], as_of: datetime) -> tuple[Counter, list[dict[str, Any]]]:
    """Where each row of a source went, but for the limit; and the good, unrepeated rows before as_of."""
    went: Counter = Counter({"rows_in": len(rows)})
    before = []
    for row in rows:
        reason = judge(source, row)
        if reason:
            went["rejected"] += 1
            went[reason] += 1
        elif when(row[source.time]) >= as_of:
            went["after"] += 1
        else:
            before.append(row)
    before.sort(key=lambda row: (when(row[source.time]), str(row[source.user])))
    kept, seen = [], set()
    for row in before:
        number = row[source.id] if source.id else None
        if number is not None and number in seen:
            went["repeated"] += 1
            continue
        seen.add(number)
        kept.append(row)
    return went, kept


def profiles(
    deployment: Deployment, lake: dict[str, list[dict[str, Any]]], day: date
) -> tuple[dict[str, dict[str, Any]], dict[str, Counter]]:
    """user_id -> profile, and source -> where its rows went."""
    as_of = datetime(day.year, day.month, day.day, tzinfo=UTC)
    went, events = {}, {}
    for source in deployment.sources:
        went[source.name], kept = split(source, lake[source.table], as_of)
        for row in kept:
            events.setdefault(str(row[source.user]), {}).setdefault(source.name, []).append(row)
    latest = {}
    if attributes := deployment.attributes:
        count = went["attributes"] = Counter()
        for row in lake[attributes.table]:
            count["rows_in"] += 1
            if row[attributes.user] is None or row[attributes.valid_from] is None:
                count["rejected"] += 1
            elif when(row[attributes.valid_from]) >= as_of:
                count["after"] += 1
            else:
                held = latest.get(row[attributes.user])
                count["superseded" if held else "used"] += 1
                if not held or held[attributes.valid_from] < row[attributes.valid_from]:
                    latest[row[attributes.user]] = row
    profiles_by_user = {}
    for user in events | latest:
        of = events.get(user, {})
        profile: dict[str, Any] = {}
        for source in deployment.sources:
            since = as_of - timedelta(days=source.window_days)
            rows = of.get(source.name, [])
            inside = [row for row in rows if when(row[source.time]) >= since]
            went[source.name]["outside"] += len(rows) - len(inside)
            keyed = sorted(
                (when(row[source.time]), (row[source.id] or "") if source.id else 0, text(source, row))
                for row in inside
            )
            used = keyed[-source.max_events :]
            went[source.name]["over"] += len(keyed) - len(used)
            went[source.name]["used"] += len(used)
            gaps = [-1, *(band(b[0], a[0]) for a, b in pairwise(used))]
            profile[source.name] = [(t, words, gap) for (t, _, words), gap in zip(used, gaps, strict=False)]
        profile["ages"] = {
            s.name: band(as_of, profile[s.name][-1][0]) if profile[s.name] else None for s in deployment.sources
        }
        profile["tabular"] = tabular_values(deployment, latest.get(user, {}), of, as_of)
        used = sum(len(profile[source.name]) for source in deployment.sources)
        if used >= max(1, deployment.eligible.min_events) or (user in latest and deployment.eligible.min_events == 0):
            profiles_by_user[user] = profile
    relative_bands(deployment.aggregates, {user: profile["tabular"] for user, profile in profiles_by_user.items()})
    for profile in profiles_by_user.values():
        profile["profile_hash"] = digest(deployment, profile)
    return profiles_by_user, went


def tabular_values(
    deployment: Deployment, attributes: dict[str, Any], events: dict[str, list[dict[str, Any]]], as_of: datetime
) -> dict[str, Any]:
    """The attributes and aggregates, without `per`, in the order of the profile's columns."""
    values: dict[str, Any] = {}
    for number in deployment.attributes.numbers if deployment.attributes else ():
        cell = attributes.get(number.column)
        values[number.name] = None if cell is None else float(cell)
    for category in deployment.attributes.categories if deployment.attributes else ():
        values[category.name] = (attributes.get(category.column) or "").strip() or None
    for declared in deployment.aggregates:
        source = deployment.source(declared.source)
        timed = [(when(row[source.time]), row) for row in events.get(source.name, [])]
        values[declared.name] = aggregate(declared, timed, as_of)
    return {name: values[name] for name in (*deployment.numbers, *deployment.categories)}


def digest(deployment: Deployment, profile: dict[str, Any]) -> str:
    seen: dict[str, Any] = {
        source.name: [{"text": words, "gap": gap} for _, words, gap in profile[source.name]]
        for source in deployment.sources
    }
    seen["ages"] = profile["ages"]
    if profile["tabular"]:
        seen["tabular"] = profile["tabular"]
    return hashlib.sha256(json.dumps(seen, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()
