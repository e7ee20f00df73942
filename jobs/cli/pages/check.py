"""The page of `check`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from jobs.console.progress import elapsed
from jobs.console.tables import table
from jobs.console.text import count
from model.data.time_bands import band_days

if TYPE_CHECKING:
    from jobs.operations.check import CheckResult, ProfileSample
    from jobs.operations.cost_estimate import Distribution

LATEST_EVENTS = 4
"""The number of events that the sample profile shows of each source."""


def check_page(result: CheckResult) -> RenderableType:
    """Return the tables of a check, and below them the notes that need attention."""
    parts = [_tables(result), _rows(result)]
    if any(source.rejected for source in result.sources.values()):
        parts.append(_rejected(result))
    parts += [_texts(result), _tokens(result), _costs(result), _questions(result)]
    if result.labels:
        parts.append(_labels(result))
    if result.profile:
        parts += _profile(result.profile)
    return Group(*parts, *(Text(line) for line in _notes(result)))


def _tables(result: CheckResult) -> RenderableType:
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
        for name, source in result.sources.items()
    ]
    columns = ("source", "table", "version", "rows", "users", "first", "last, UTC")
    return table(f"Tables, checked as of {result.as_of} in {elapsed(result.seconds)}", columns, rows)


def _rows(result: CheckResult) -> RenderableType:
    rows = []
    for name, source in result.sources.items():
        account = source.account
        # Event rows may be repeated and attribute rows superseded, so a source has at most one of the two.
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
    return table("Account of the rows: the columns from used to rejected add up to the rows in", columns, rows)


def _rejected(result: CheckResult) -> RenderableType:
    rows: list[tuple[Any, ...]] = []
    for name, source in result.sources.items():
        for reason, rejected in source.rejected.items():
            rows.append((name, reason, rejected.rows, rejected.samples[0]))
            rows += [("", "", None, sample) for sample in rejected.samples[1:]]
    return table("Rejected rows and samples of them", ("source", "reason", "rows", "row"), rows)


def _texts(result: CheckResult) -> RenderableType:
    unit = result.costs.tokens.unit
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
        for name, texts in result.costs.texts.items()
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
    return table("Event texts: each distinct text is encoded once", columns, rows)


def _tokens(result: CheckResult) -> RenderableType:
    tokens = result.costs.tokens
    instruction_tokens = sum(tokens.instructions.values())
    rows = [
        ("profile: boundaries, events, pooled and tabular", *_spread(tokens.profile)),
        (f"{len(tokens.instructions)} instructions, each with <USER>", *[instruction_tokens] * 5),
        ("read in one forward pass", *_spread(tokens.whole)),
    ]
    columns = ("tokens of a user", "mean", "median", "95th percentile", "maximum", "possible maximum")
    return table("Tokens that the language model reads", columns, rows)


def _spread(spread: Distribution) -> tuple[float | int | None, ...]:
    return spread.mean, spread.median, spread.high, spread.most, spread.possible


def _costs(result: CheckResult) -> RenderableType:
    costs, unit = result.costs, result.costs.tokens.unit
    sides = (costs.everyone, costs.day)
    rows: list[tuple[Any, ...]] = [
        ("users embedded", *(side.users for side in sides)),
        ("of them new", None, costs.new),
        ("users removed", None, costs.deactivated),
        ("vectors", *(side.vectors for side in sides)),
        ("distinct texts encoded", *(side.texts for side in sides)),
        ("of them new since the day before", None, costs.new_texts),
        (f"{unit} of these texts", *(side.encoder for side in sides)),
        ("tokens of the language model", *(side.language_model for side in sides)),
        ("bytes of vectors in user_embeddings", *(side.user_embeddings_bytes for side in sides)),
        ("bytes of vectors in user_vectors", *(side.user_vectors_bytes for side in sides)),
        ("bytes of vectors written online", *(side.online_bytes for side in sides)),
        ("seconds of embed", *(side.seconds for side in sides)),
    ]
    return table(
        f"Cost of embed: every user once, and the users whose profiles change on {result.as_of}",
        ("", "every user", "the day"),
        rows,
    )


def _questions(result: CheckResult) -> RenderableType:
    sample = result.questions
    rows = [
        (name, spread.rows, spread.answers, f"{spread.commonest:.1%}" if spread.rows else "")
        for name, spread in sample.spreads.items()
    ]
    of_users = "every user" if sample.part == 1 else f"one user of {sample.part}"
    return table(
        f"Questions, asked of {of_users} at every cut-off: {count(sample.profiles, 'profile')}",
        ("question", "answers", "different answers", "share of the commonest"),
        rows,
    )


def _labels(result: CheckResult) -> RenderableType:
    rows = [
        (name, check.table, check.rows_in, check.labels, check.repeated, check.superseded, check.users, check.left_out)
        for name, check in result.labels.items()
    ]
    columns = ("scenario", "table", "rows in", "labels", "repeated", "superseded", "users", "without a profile")
    return table("Labels, and the labelled users whom evaluate and tune leave out", columns, rows)


def _profile(sample: ProfileSample) -> Iterator[RenderableType]:
    events_in_all = sum(map(len, sample.events.values()))
    rows: list[tuple[Any, ...]] = []
    for name, events in sample.events.items():
        age = sample.ages[name]
        rows.append(
            (f"<{name}>", count(len(events), "event"), "", "" if age is None else f"last event {_days(age)} ago")
        )
        rows += [
            ("", _time(event.event_time), "" if event.gap < 0 else _days(event.gap), event.text)
            for event in events[-LATEST_EVENTS:]
        ]
    columns = ("source", "time, UTC", "since the event before", "text")
    yield table(
        f"A profile: user {sample.user_id}, the median with {count(events_in_all, 'event')}; "
        f"the last {LATEST_EVENTS} of each source",
        columns,
        rows,
    )
    if sample.tabular:
        yield table(
            "",
            ("<tabular>", "value"),
            [(name, _value(value, name in sample.banded)) for name, value in sample.tabular.items()],
        )


def _notes(result: CheckResult) -> Iterator[str]:
    costs = result.costs
    if costs.tokens.tokenizer is None:
        yield (
            "There is no tokenizer before the first training: texts and instructions are counted in words. "
            "A word is one token or more."
        )
    else:
        yield f"Tokens are those of the tokenizers in {costs.tokens.tokenizer}."
    runs = dict.fromkeys(side.measured for side in (costs.everyone, costs.day) if side.measured)
    yield f"Seconds are as in {' and '.join(runs)}." if runs else "Seconds are unknown before the first run of embed."
    yield (
        f"{result.costs.users:,} of {result.users.known:,} users of the source tables get a vector on {result.as_of}. "
        f"{result.users.without_events:,} have attributes and no event at any time."
    )
    if result.static and not result.static_leaks:
        yield "attributes have no time and hold for every as_of: they may contain later knowledge."
    for leak in result.static_leaks:
        yield f"{leak.line()}."
    for name, labels in result.labels.items():
        if labels.left_out:
            yield (
                f"{name}: {labels.left_out:,} of {labels.users:,} labelled users have no profile at their label's "
                "as_of, so evaluate and tune leave them out: see eligible.min_events."
            )
    for name, warning in result.instructions.items():
        yield f"{name}: {warning}."
    for refusal in result.refusals:
        yield f"This would be refused: {refusal}"
    if alike := result.look_alikes.examples:
        shown = "; ".join(", ".join(map(ascii, ids)) for ids in alike)
        yield (
            f"{count(result.look_alikes.users, 'user id')} differ from another one only by blanks, case, width, "
            f"invisible or combining characters, such as {shown}: each of them is a user of its own."
        )
    spreads = result.questions.spreads
    if silent := [name for name, spread in spreads.items() if not spread.rows]:
        yield f"Nobody has an answer to {', '.join(silent)}: correct or remove these questions."
    if constant := [name for name, spread in spreads.items() if spread.answers == 1]:
        yield f"Everybody has the same answer to {', '.join(constant)}: such a question teaches nothing."
    for name, source in result.sources.items():
        if source.refused:
            yield (
                f"{name}: {source.account.rejected:,} of {source.account.rows_in:,} rows are rejected, more than "
                "max_reject_share: assemble would fail; correct the source, or raise max_reject_share."
            )
        if source.version is None:
            yield f"{name}: {source.table} has no versions, so `--source-versions` cannot read it as it was."
        if not source.account.used:
            yield f"{name}: no row is used as of {result.as_of}."


def _days(band: int) -> str:
    """Return the days of a time band, floor(log2(1 + days)), as text."""
    fewest, most = band_days(band)
    if most is None:
        return f"{fewest:,} days or more"
    return "less than a day" if most == 0 else f"{fewest:,} to {most:,} days"


def _value(value: float | str | None, banded: bool) -> int | float | str:
    if value is None:
        return "missing"
    if isinstance(value, float) and value.is_integer():
        return _days(int(value)) if banded else int(value)
    return value


def _time(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M}" if time else ""
