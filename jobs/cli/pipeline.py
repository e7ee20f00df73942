"""The jobs of a deployment's first day in order, from source tables to vectors online, for a person to watch.

`make demo` and the examples share it. Each step is a line with its time; what libraries print goes to a log file.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType

from jobs.cli.pages.lookup import lookup_page
from jobs.config.deployment import Deployment
from jobs.console import logs, progress, tables, terminal
from jobs.lake.errors import as_user_error
from model.errors import InstructUEError
from model.progress import Progress

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.evaluation.evaluate import EvaluationResult


class PipelineError(InstructUEError):
    """A step failed; the message names the log."""


@dataclass(kw_only=True)
class Steps:
    """The steps that ran, and the seconds of each."""

    begin: float = field(default_factory=time.monotonic)
    seconds: list[tuple[str, float]] = field(default_factory=list)

    @contextmanager
    def __call__(self, name: str) -> Iterator[Progress]:
        """Run a step: show it, and measure its time."""
        begin = time.monotonic()
        with progress.step(name) as report:
            yield report
        self.seconds.append((name, time.monotonic() - begin))

    def table(self) -> RenderableType:
        """Return the seconds of each step and of all."""
        rows = [*self.seconds, ("all", time.monotonic() - self.begin)]
        return tables.table(
            "Seconds of each step", ("step", "seconds"), [(name, round(seconds, 1)) for name, seconds in rows]
        )


def first_day(deployment: Deployment, as_of: date, step: Steps, *, train_steps: int | None = None) -> EvaluationResult:
    """Run every job from `assemble` to `publish` for one day and return the evaluation of the release."""
    with spark(deployment, step) as session:
        from jobs.console.spark_progress import watch_spark
        from jobs.profiles.assemble import assemble
        from jobs.userqa.userqa import userqa

        with step(f"assemble {as_of}") as report, watch_spark(session, report):
            assemble(session, deployment, as_of)
        with step("userqa: questions and answers") as report, watch_spark(session, report):
            userqa(session, deployment)
        evaluated = train_and_evaluate(deployment, step, train_steps)
        from jobs.serving.embed import embed
        from jobs.serving.publish import publish

        with step(f"embed {as_of}") as report, watch_spark(session, report):
            embed(session, deployment, as_of)
        with step(f"publish {as_of}") as report:
            publish(session, deployment, as_of, report)
    return evaluated


def train_and_evaluate(deployment: Deployment, step: Steps, train_steps: int | None, seed: int = 0) -> EvaluationResult:
    """Train a network, export and evaluate a release, promote it, and return the evaluation."""
    from jobs.evaluation.evaluate import evaluate
    from jobs.training.export import export
    from jobs.training.registry import promote
    from jobs.training.train import train

    with step("train") as report:
        train(deployment, steps=train_steps, seed=seed, progress=report)
    with step("export to ONNX, through its gates"):
        release = export(deployment).release
    with step("evaluate") as report:
        evaluated = evaluate(deployment, release=release, progress=report)
    promote(deployment, release)
    return replace(evaluated, next=None)


def ask(deployment: Deployment, scenario: str, step: Steps) -> list[RenderableType]:
    """Look one user up online, ask for similar users in SQL, and return both answers as tables."""
    from jobs.lake.delta import open_table, read_rows
    from jobs.serving.lookup import Lookup

    users = read_rows(open_table(deployment, "user_vectors"), columns=["user_id"])
    user = min(users["user_id"].to_pylist())
    with step("look a user up online"):
        # With a frozen heap, triton, which training loads, prints a report of leaks when the process ends.
        look_up = Lookup(deployment, freeze=False)
        begin = time.perf_counter()
        results = look_up([user])
        vectors = lookup_page(results, (time.perf_counter() - begin) * 1000)
    query = f"SELECT * FROM most_similar('{user}', '{scenario}', 5)"
    with spark(deployment, step) as session, step("ask in SQL"):
        from jobs.lake.sql.query import fetch_arrow, iterate_rows, run_sql

        answer = fetch_arrow(run_sql(session, deployment, query))
    return [vectors, tables.table(query, answer.column_names, [*iterate_rows(answer)])]


def accounts(deployment: Deployment) -> RenderableType:
    """Return a table of rows in, out and left out of every run so far, in order."""
    from jobs.lake.delta import open_table, read_rows

    runs: list[dict[str, Any]] = read_rows(open_table(deployment, "job_runs")).to_pylist()
    return tables.accounts(sorted(runs, key=lambda run: run["started_at"]))


def spark(deployment: Deployment, step: Steps) -> AbstractContextManager[SparkSession]:
    """Open a session for the steps in the block."""
    from jobs.lake.session import open_session

    return open_session(deployment, step("start Spark"))


@contextmanager
def library_output_to(log: Path) -> Iterator[None]:
    """Write the records of all loggers, and the output of libraries, to a file, and show only the project's own lines.

    A terminal shows the steps and the project's warnings; any other stderr gets the records of the steps too.

    Raises
    ------
    PipelineError
        The block failed with an error that the user cannot correct; its traceback is in the file.
    """
    log.parent.mkdir(exist_ok=True)
    log.unlink(missing_ok=True)
    logs.configure("WARNING" if terminal.err.is_terminal else "INFO", file=log)
    terminal.out.file, terminal.err.file = sys.stdout, sys.stderr
    with log.open("a", encoding="utf-8", buffering=1) as file, redirect_stdout(file), redirect_stderr(file):
        try:
            yield
        except Exception as error:
            user_error = error if isinstance(error, InstructUEError) else as_user_error(error)
            if user_error is None:
                traceback.print_exc()
                raise PipelineError(f"{type(error).__name__}: {error}; the traceback is in {log}") from error
            raise user_error from None
