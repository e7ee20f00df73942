"""Whatever malformed values a deployment file holds, one error names each: its key, its value and what to write."""

from __future__ import annotations

import random
import re
import string
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from jobs.config.functions import TEMPLATE_FILTERS
from model.errors import InstructUEError
from tests.support.changed_deployment import change, read, valid

FILES = 60
NOT_NUMBERS = ("many", "", True, False, [], {}, float("nan"), -(10**9), -0.5)
NOT_TEXTS = (5, 2.5, True, False, "", "  ", [], {})
NOT_NAMES = ("Mini Program", "a" * 42, "1a", "ä", "a-b", "a b", "", 5, False, [])
NOT_DAYS = ("tomorrow", "2025-02-30", "1969-12-31", "2100-01-01", 20250101, 2.5, True, datetime(2025, 1, 1, 10), {})
MALFORMED: dict[str, tuple[Any, ...]] = {
    "lake": NOT_TEXTS,
    "sources.0.name": NOT_NAMES,
    "sources.0.table": NOT_TEXTS,
    "sources.0.max_events": (*NOT_NUMBERS, 0, 2.5, 10_001),
    "sources.0.window_days": (*NOT_NUMBERS, 0, 2.5, 4015),
    "sources.0.template": (*NOT_TEXTS, "no column", "{", "}", "{}", "{0}", "{a!r}", "{a:shout}"),
    "sources.1.max_tokens": (*NOT_NUMBERS, 3, 2.5),
    "attributes.numbers.0": (5, [], "Age", "a b"),
    "aggregates.0.window_days": (*NOT_NUMBERS, 0, 2.5),
    "aggregates.0.function": ("median", "", 5),
    "scenarios.0.name": NOT_NAMES,
    "scenarios.1.instruction": (*NOT_TEXTS, "x" * 2001),
    "userqa.as_of.0": NOT_DAYS,
    "eligible.min_events": (*NOT_NUMBERS, 2.5),
    "max_reject_share": (*NOT_NUMBERS, 2, 1.01),
    "model.preset": ("huge", 5, True),
    "retention.rows": (*NOT_NUMBERS, 7, 2.5),
    "retention.files": (*NOT_NUMBERS, 1, 2.5),
}
"""Values that are malformed for each key."""


def choose(rng: random.Random) -> dict[str, Any]:
    """Return one to four malformed values by key."""
    return {key: rng.choice(MALFORMED[key]) for key in rng.sample([*MALFORMED], rng.randint(1, 4))}


def key_in_message(key: str) -> str:
    """Return `sources[0].name` for `sources.0.name`."""
    return re.sub(r"\.(\d+)", r"[\1]", key)


@pytest.mark.parametrize("seed", range(FILES))
def test_every_malformed_value_is_named_in_one_error(seed: int, tmp_path: Path) -> None:
    values = choose(random.Random(seed))
    content = valid()
    for key, value in values.items():
        change(content, key, value)
    with pytest.raises(InstructUEError) as caught:
        read(content, tmp_path)
    headline, *lines = str(caught.value).split("\n")
    assert headline.endswith(f": {len(values)} error{'s' * (len(values) > 1)}"), (values, lines)
    for key, value in values.items():
        [line] = [line for line in lines if line.startswith(f"  {key_in_message(key)} = {value!r:.20}")]
        assert re.search(r": \w.{10}", line), line
    assert [path.name for path in tmp_path.iterdir()] == ["deployment.yaml"]


PIECES = [
    *(
        "{merchant}",
        "{amount:amount_band}",
        "{amount:band}",
        "{paid_at:hour}",
        "{",
        "}",
        "{}",
        "{{",
        "}}",
        "!r",
        ":",
        ":>10",
        "[0]",
    ),
    *(".__class__", "{0}", "{ merchant }", "$(rm -rf /)", "${env:HOME}", "{% if x %}", "'; DROP TABLE bills; --", "`"),
    *("{__import__('os').system('id')}", "{merchant:{amount}}", " ", "é外", *string.ascii_letters[:4]),
]


@pytest.mark.parametrize("seed", range(FILES))
def test_a_template_is_columns_with_filters_or_is_refused(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    template = "".join(rng.choices(PIECES, k=rng.randint(1, 5)))
    content = valid()
    change(content, "sources.0.template", template)
    if is_template(template):
        assert read(content, tmp_path).sources[0].template == template
        return
    with pytest.raises(InstructUEError) as caught:
        read(content, tmp_path)
    [line] = str(caught.value).split("\n")[1:]
    assert line.startswith(f"  sources[0].template = {template!r}: template ")


def is_template(template: str) -> bool:
    """Tell whether Python's own parser sees fields that are column names with a known filter, and at least one."""
    part = r"[^\W\d]([\w -]*\w)?"
    try:
        parts = [*string.Formatter().parse(template)]
    except ValueError:
        return False
    fields = [(name, kind, conversion) for _, name, kind, conversion in parts if name is not None]
    return bool(fields) and all(
        re.fullmatch(rf"{part}(\.{part})*", name)
        and (kind or "text") in (*TEMPLATE_FILTERS, "band(0,5)")
        and conversion is None
        for name, kind, conversion in fields
    )
