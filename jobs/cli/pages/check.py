"""What a check found, as tables for a person."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from jobs.console.progress import elapsed
from jobs.console.tables import table

if TYPE_CHECKING:
    from jobs.operations.check import CheckResult, ProfileSample
    from jobs.operations.cost_estimate import Distribution

LAST = 4
"""Events of a source that are shown of the sample profile."""


def check_page(found: CheckResult) -> RenderableType:
    """Every table of a check, and what needs a person's eye last."""
    parts = [_tables(found), _rows(found)]
    if any(source.rejected for source in found.sources.values()):
        parts.append(_rejected(found))
    parts += [_texts(found), _tokens(found), _costs(found)]
    if found.profile:
        parts += _profile(found.profile)
    return Group(*parts, *(Text(line) for line in _notes(found)))


def _tables(found: CheckResult) -> RenderableType:
    rows = [
        (
            name,
            source.table,
            source.version,
            source.account.rows_in,
            source.users,
            _time(source.first),
            _time(source.last),
        )
        for name, source in found.sources.items()
    ]
    columns = ("source", "table", "version", "rows", "users", "first", "last, UTC")
    return table(f"Tables, checked as of {found.as_of} in {elapsed(found.seconds)}", columns, rows)


def _rows(found: CheckResult) -> RenderableType:
    rows = []
    for name, source in found.sources.items():
        account = source.account
        # Events are repeated, attributes superseded: never both.
        rows.append(
            (
                name,
                account.rows_in,
                account.used,
                account.after,
                account.outside,
                account.over,
                account.repeated + account.superseded,
                account.rejected,
                account.later,
            )
        )
    columns = (
        "source",
        "rows in",
        "used",
        "at or after as_of",
        "outside the window",
        "over the limit",
        "repeated, superseded",
        "rejected",
        "later than now",
    )
    return table("Where the rows go: the columns from used to rejected add up to the rows in", columns, rows)


def _rejected(found: CheckResult) -> RenderableType:
    rows: list[tuple[Any, ...]] = []
    for name, source in found.sources.items():
        for reason, rejected in source.rejected.items():
            rows.append((name, reason, rejected.rows, rejected.samples[0]))
            rows += [("", "", None, sample) for sample in rejected.samples[1:]]
    return table("Rejected rows, and some of them", ("source", "reason", "rows", "row"), rows)


def _texts(found: CheckResult) -> RenderableType:
    unit = found.costs.tokens.unit
    rows = [
        (
            name,
            texts.used,
            texts.distinct,
            texts.read,
            texts.encoded,
            f"{texts.saved:.1%}",
            texts.longest,
            texts.max_tokens,
            texts.cut,
        )
        for name, texts in found.costs.texts.items()
    ]
    columns = (
        "source",
        "used",
        "distinct",
        unit,
        f"{unit} of the distinct",
        "reuse saves",
        f"longest, {unit}",
        "max_tokens",
        "cut by it" if unit == "tokens" else "cut by it, at least",
    )
    return table("Event texts: each distinct one is encoded once", columns, rows)


def _tokens(found: CheckResult) -> RenderableType:
    tokens = found.costs.tokens
    asked = sum(tokens.instructions.values())
    rows = [
        ("profile: boundaries, events, pooled and tabular", *_spread(tokens.profile)),
        (f"{len(tokens.instructions)} instructions, each with <USER>", *[asked] * 5),
        ("read in one forward", *_spread(tokens.whole)),
    ]
    columns = ("tokens of a user", "mean", "median", "95 % have at most", "most", "most possible")
    return table("What the language model reads", columns, rows)


def _spread(spread: Distribution) -> tuple[float | int | None, ...]:
    return spread.mean, spread.median, spread.high, spread.most, spread.possible


def _costs(found: CheckResult) -> RenderableType:
    costs, unit = found.costs, found.costs.tokens.unit
    sides = (costs.everyone, costs.day)
    rows: list[tuple[Any, ...]] = [
        ("users embedded", *(side.users for side in sides)),
        ("of them new", None, costs.new),
        ("users who end", None, costs.ended),
        ("vectors", *(side.vectors for side in sides)),
        ("distinct texts encoded", *(side.texts for side in sides)),
        ("of them in no profile the day before", None, costs.new_texts),
        (f"{unit} of these texts", *(side.encoder for side in sides)),
        ("tokens of the language model", *(side.language_model for side in sides)),
        ("bytes of vectors in user_embeddings", *(side.user_embeddings_bytes for side in sides)),
        ("bytes of vectors in user_vectors", *(side.user_vectors_bytes for side in sides)),
        ("bytes of vectors written online", *(side.online_bytes for side in sides)),
        ("seconds of embed", *(side.seconds for side in sides)),
    ]
    return table(
        f"What it costs: every user once, then what {found.as_of} changes of the day before",
        ("", "every user", "a day"),
        rows,
    )


def _profile(sample: ProfileSample) -> Iterator[RenderableType]:
    many = sum(map(len, sample.events.values()))
    rows: list[tuple[Any, ...]] = []
    for name, events in sample.events.items():
        age = sample.ages[name]
        rows.append(
            (
                f"<{name}>",
                f"{len(events)} events" if len(events) != 1 else "1 event",
                "",
                "" if age is None else f"last event {_days(age)} ago",
            )
        )
        rows += [
            ("", _time(event.event_time), "" if event.gap < 0 else _days(event.gap), event.text)
            for event in events[-LAST:]
        ]
    columns = ("source", "time, UTC", "after the one before", "text")
    yield table(
        f"A profile: user {sample.user_id}, the median with {many} events; the last {LAST} of each source",
        columns,
        rows,
    )
    if sample.tabular:
        yield table(
            "",
            ("<tabular>", "value"),
            [(name, _value(value, name in sample.banded)) for name, value in sample.tabular.items()],
        )


def _notes(found: CheckResult) -> Iterator[str]:
    costs = found.costs
    if costs.tokens.tokenizer is None:
        yield (
            "There is no tokenizer before the first training: texts and instructions are counted in words, and a "
            "word is a token or more."
        )
    else:
        yield f"Tokens are those of the tokenizers in {costs.tokens.tokenizer}."
    told = dict.fromkeys(side.measured for side in (costs.everyone, costs.day) if side.measured)
    yield f"Seconds are as in {' and '.join(told)}." if told else "No run of embed tells yet how many seconds it takes."
    if found.static:
        yield "attributes carry no time and hold for every as_of: what they say may have been learned later."
    for name, source in found.sources.items():
        if source.refused:
            yield (
                f"{name}: {source.account.rejected:,} of {source.account.rows_in:,} rows are rejected, more than "
                "max_reject_share: assemble would fail; mend the source, or raise max_reject_share."
            )
        if not source.account.used:
            yield f"{name}: no row is used as of {found.as_of}."


def _days(band: int) -> str:
    """The whole days of a band, floor(log2(1 + days))."""
    low, high = 2**band - 1, 2 ** (band + 1) - 2
    return "less than a day" if high == 0 else f"{low:,} to {high:,} days"


def _value(value: float | str | None, banded: bool) -> int | float | str:
    if value is None:
        return "missing"
    if isinstance(value, float) and value.is_integer():
        return _days(int(value)) if banded else int(value)
    return value


def _time(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M}" if time else ""
