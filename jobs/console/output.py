"""What people see: a line per step with its elapsed time, and a job's summary as a table or as JSON."""

from __future__ import annotations

import json
import math
import sys
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime, timedelta
from datetime import time as time_of_day
from decimal import Decimal
from pathlib import Path
from statistics import mean
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as ProgressBar
from rich.table import Table
from rich.text import Text

from jobs.console.text import count
from model.progress import Progress

if TYPE_CHECKING:
    from jobs.evaluation.evaluate import EvaluationResult
    from jobs.serving.ask import AskResult as Said
    from jobs.serving.lookup import LookupResult

out = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
err = Console(stderr=True, width=None if sys.stderr.isatty() else 120, highlight=False)

SHOWN = 6
"""Items of a long list that a person is shown."""
EVERY = 30.0
"""Seconds between two lines about a step where there is no terminal to draw on."""


@contextmanager
def step(name: str) -> Iterator[Progress]:
    """Show that `name` is running, how far it is, and how long it took; on stderr, so that stdout is the answer's.

    What a library prints to stdout meanwhile goes to stderr too.
    """
    begin = time.monotonic()
    with redirect_stdout(sys.stderr), _drawn(name) if err.is_terminal else _written(name, begin) as progress:
        yield progress
    took = elapsed(time.monotonic() - begin)
    if err.is_terminal:
        err.print(Text.assemble(("✓", "green"), f" {name}  ", (took, "dim")))
    else:
        err.print(f"{name}: {took}", markup=False)


@contextmanager
def _drawn(name: str) -> Iterator[Progress]:
    """A line of a terminal that is drawn again and again, and leaves nothing behind."""
    # Where our console has a file of its own, what others print has been sent elsewhere on purpose.
    shared = err.file is sys.stderr
    bar = ProgressBar(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=err,
        transient=True,
        redirect_stdout=shared,
        redirect_stderr=shared,
    )
    with bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def _written(name: str, begin: float) -> Iterator[Progress]:
    """A line now and then, so that a log shows that the step lives."""
    far, over = [""], Event()

    def write() -> None:
        while not over.wait(EVERY):
            err.print(f"{name}: {far[0]}{elapsed(time.monotonic() - begin)} so far", markup=False)

    def progress(done: int, total: int) -> None:
        far[0] = f"{done:,} of {total:,}, "

    err.print(f"{name} ...", markup=False)
    thread = Thread(target=write, name="step", daemon=True)
    thread.start()
    try:
        yield progress
    finally:
        over.set()
        thread.join()


def elapsed(seconds: float) -> str:
    """`7.4 s` or `3 min 12 s`."""
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds // 60)} min {int(seconds % 60)} s"


def print_summary(title: str, summary: Any, as_json: bool = False) -> None:
    """Print what a job did: a table for a person, one JSON object on a line for a program."""
    if as_json:
        print(to_json_line(summary))
        return
    told = to_json_value(summary, finite=False)
    tables = {name: told.pop(name) for name, value in list(told.items()) if _is_table(value)}
    lines = summary.lines() if hasattr(summary, "lines") else list(_lines(told))
    grid = Table(show_header=False, box=None, pad_edge=False)
    grid.add_column(style="dim")
    grid.add_column(overflow="fold")
    for name, value in lines:
        grid.add_row(Text(name), Text(value))
    out.print(_titled(title, grid))
    for name, value in tables.items():
        columns = list(dict.fromkeys(column for row in value.values() for column in row))
        rows = [(key, *(row.get(column) for column in columns)) for key, row in value.items()]
        out.print(table(name.replace("_", " "), ("", *(column.replace("_", " ") for column in columns)), rows))


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> RenderableType:
    """A table of values as they are, whatever brackets they hold; numbers stand right."""
    made = Table(box=SIMPLE_HEAD, pad_edge=False)
    for position, column in enumerate(columns):
        numeric = all(isinstance(row[position], int | float | Decimal | None) for row in rows)
        made.add_column(Text(column), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(_text(value)) for value in row))
    return _titled(title, made)


def _titled(title: str, made: Table) -> RenderableType:
    """A title as a line of its own: a table would fold it to its own width."""
    return Group(Text(title, style="italic"), made) if title else made


def accounts(job_runs: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Rows in, out and left out by reason of the rows of `job_runs`, one line per reason.

    Sources and cut-offs are added up; the view `left_out` tells them apart.
    """
    rows: list[tuple[Any, ...]] = []
    for run in job_runs:
        summed: Counter[str] = Counter()
        for reason, n in dict(run["left_out"] or {}).items():
            summed[reason.rsplit(": ", 1)[-1]] += n
        reasons = [(reason, n) for reason, n in summed.most_common() if n]
        first = (run["job"], run["day"], run["status"], run["rows_in"], run["rows_out"], round(run["seconds"], 1))
        rows.append((*first, *(reasons[0] if reasons else ("", None))))
        rows += [("", "", "", None, None, None, *reason) for reason in reasons[1:]]
    columns = ("job", "day", "status", "rows in", "rows out", "seconds", "left out", "rows")
    return table("Rows in, out and left out", columns, rows)


def vectors(answers: Sequence[LookupResult], milliseconds: float) -> RenderableType:
    """What a lookup found: a line per user and scenario."""
    rows: list[tuple[Any, ...]] = []
    for answer in answers:
        rows += [
            (
                answer.user_id,
                name,
                f"{found.as_of:%Y-%m-%d}",
                f"{found.age:,} day{'s' * (found.age != 1)}",
                found.model_version[:12],
                len(found.vector),
                " ".join(f"{x:+.3f}" for x in found.vector[:4]) + " ...",
            )
            for name, found in answer.vectors.items()
        ]
        if not answer.found:
            rows.append((answer.user_id, "not online", "", "", "", None, ""))
    columns = ("user", "scenario", "as of", "age", "model version", "width", "vector")
    return table(f"{count(len(answers), 'user')} looked up online in {milliseconds:.1f} ms", columns, rows)


def answers(instruction: str, found: Sequence[Said]) -> RenderableType:
    """What the model said of each user, and which scenario's vector lies nearest to this one."""
    rows = []
    for said in found:
        nearest = max(said.similar, key=said.similar.__getitem__)
        rows.append(
            (
                said.user_id,
                f"{said.as_of:%Y-%m-%d}",
                said.answer,
                f"{nearest} {said.similar[nearest]:.3f}",
                " ".join(f"{x:+.3f}" for x in said.embedding[:4]) + " ...",
            )
        )
    return table(instruction, ("user", "as of", "answer", "nearest scenario", "embedding"), rows)


def probe(found: EvaluationResult) -> RenderableType:
    """AUC and KS of each scenario: the vectors' and the rivals', and how far the vectors are above the better rival."""
    methods = list(dict.fromkeys(method for scores in found.auc.values() for method in scores))
    rows = [
        (
            scenario,
            found.users[scenario],
            *(
                f"{scores[method]:.3f} / {found.ks[scenario][method]:.3f}" if method in scores else ""
                for method in methods
            ),
        )
        for scenario, scores in found.auc.items()
    ]
    means = ("mean", None, *(f"{mean(scores[method] for scores in found.auc.values()):.3f}" for method in methods))
    title = f"What the vectors of release {found.release} know of the labels: AUC / KS over {found.halves} halves"
    shown = [table(title, ("scenario", "users", *methods), [*rows, means])]
    if found.over:
        vectors = next(iter(found.over.values()))
        rows = [
            (
                scenario,
                found.best_by_hand[scenario],
                *(f"{over[vector]:+z.3f}" + _spread(found, scenario, vector) for vector in vectors),
            )
            for scenario, over in found.over.items()
        ]
        shown.append(table("AUC over the better rival's on the same halves", ("scenario", "rival", *vectors), rows))
    return Group(
        *shown,
        *(Text(f"{scenario} was not probed: {why}") for scenario, why in found.not_probed.items()),
        *(
            Text(f"{scenario} was tuned on {users} users: probed on one pair of halves, which keeps them apart")
            for scenario, users in found.tuned.items()
        ),
    )


def _spread(found: EvaluationResult, scenario: str, vector: str) -> str:
    """The deviation over halves; one pair of halves has none."""
    alone = found.halves == 1 or scenario in found.tuned
    return "" if alone else f" ± {found.over_std[scenario][vector]:.3f}"


def to_json_line(value: Any) -> str:
    """A summary or a row as one line of JSON."""
    return json.dumps(to_json_value(value), ensure_ascii=False, allow_nan=False)


def to_json_value(value: Any, *, finite: bool = True) -> Any:
    """A summary as what JSON knows; `finite` makes null of a float that is no finite number."""
    if isinstance(value, float):
        return value if math.isfinite(value) or not finite else None
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json_value(getattr(value, field.name), finite=finite) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json_value(item, finite=finite) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json_value(item, finite=finite) for item in value]
    if isinstance(value, bytes | bytearray):
        return b64encode(value).decode()
    if isinstance(value, datetime):
        return (value.astimezone(UTC) if value.tzinfo else value).isoformat()
    if isinstance(value, date | time_of_day):
        return value.isoformat()
    if isinstance(value, Decimal | timedelta | Path):
        return str(value)
    if hasattr(value, "tolist"):
        return to_json_value(value.tolist(), finite=finite)
    return value


def _is_table(value: Any) -> bool:
    """A mapping of mappings of numbers: rows and columns."""
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(
            isinstance(row, Mapping) and row and all(isinstance(cell, int | float | None) for cell in row.values())
            for row in value.values()
        )
    )


def _lines(summary: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in summary.items():
        title = f"{prefix}{name.replace('_', ' ')}"
        if isinstance(value, Mapping):
            yield from _lines(value, f"{title}: ")
        elif value is not None:
            yield title, _text(value)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.1f}" if abs(value) >= 10 else f"{value:.4g}"
    if isinstance(value, bytes | bytearray):
        return f"{len(value)} bytes"
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC).replace(tzinfo=None)} UTC" if value.tzinfo else str(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_text(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        shown = ", ".join(_text(item) for item in value[:SHOWN])
        return f"{shown}, ... {len(value)} in all" if len(value) > SHOWN else shown
    return str(value)
