"""The whole line as a person watches it: a line for each step with its time, chatter in a log, tables at the end.

What `make demo` and the examples share: a deployment's first day, from source tables to vectors online.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType

from jobs.config.deployment import Deployment
from jobs.console import output
from jobs.lake.errors import as_user_error
from model.errors import InstructUEError
from model.progress import Progress

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.evaluation.evaluate import EvaluationResult


class PipelineError(InstructUEError):
    """A step of the line failed; says where to look."""


@dataclass(kw_only=True)
class Steps:
    """What ran, and how long each took."""

    begin: float = field(default_factory=time.monotonic)
    seconds: list[tuple[str, float]] = field(default_factory=list)

    @contextmanager
    def __call__(self, name: str) -> Iterator[Progress]:
        begin = time.monotonic()
        with output.step(name) as progress:
            yield progress
        self.seconds.append((name, time.monotonic() - begin))

    def table(self) -> RenderableType:
        rows = [*self.seconds, ("all", time.monotonic() - self.begin)]
        return output.table(
            "Seconds of each step", ("step", "seconds"), [(name, round(seconds, 1)) for name, seconds in rows]
        )


def first_day(deployment: Deployment, as_of: date, step: Steps, *, train_steps: int | None = None) -> EvaluationResult:
    """Questions, a trained and judged release, and the day's vectors online; what the release knows of the labels."""
    with spark(deployment, step) as session:
        from jobs.console.spark_progress import watch_spark
        from jobs.profiles.assemble import assemble
        from jobs.userqa.userqa import userqa

        with step(f"assemble {as_of}") as progress, watch_spark(session, progress):
            assemble(session, deployment, as_of)
        with step("userqa: questions and answers") as progress, watch_spark(session, progress):
            userqa(session, deployment)
        evaluated = train_and_evaluate(deployment, step, train_steps)
        from jobs.serving.embed import embed
        from jobs.serving.publish import publish

        with step(f"embed {as_of}") as progress, watch_spark(session, progress):
            embed(session, deployment, as_of)
        with step(f"publish {as_of}") as progress:
            publish(session, deployment, as_of, progress)
    return evaluated


def train_and_evaluate(deployment: Deployment, step: Steps, train_steps: int | None, seed: int = 0) -> EvaluationResult:
    """A checkpoint, its release, and how much its vectors know of the labels beside the rivals."""
    from jobs.evaluation.evaluate import evaluate
    from jobs.training.export import export
    from jobs.training.train import train

    with step("train") as progress:
        train(deployment, steps=train_steps, seed=seed, progress=progress)
    with step("export to ONNX, through its gates"):
        export(deployment, promote=True)
    with step("evaluate") as progress:
        return evaluate(deployment, progress=progress)


def ask(deployment: Deployment, scenario: str, step: Steps) -> list[RenderableType]:
    """One online lookup with its milliseconds, and one question in SQL about the same user."""
    import deltalake

    from jobs.serving.lookup import Lookup

    users = deltalake.DeltaTable(deployment.table("user_vectors")).to_pyarrow_table(columns=["user_id"])
    user = min(users["user_id"].to_pylist())
    with step("look a user up online"):
        look_up = Lookup(deployment)
        begin = time.perf_counter()
        answers = look_up([user])
        vectors = output.vectors(answers, (time.perf_counter() - begin) * 1000)
    query = f"SELECT * FROM most_similar('{user}', '{scenario}', 5)"
    with spark(deployment, step) as session, step("ask in SQL"):
        from jobs.lake.sql.views import fetch_arrow, iterate_rows, run_sql

        answer = fetch_arrow(run_sql(session, deployment, query))
    return [vectors, output.table(query, answer.column_names, [*iterate_rows(answer)])]


def accounts(deployment: Deployment) -> RenderableType:
    """Rows in, out and left out of every run so far, in order."""
    import deltalake

    runs: list[dict[str, Any]] = deltalake.DeltaTable(deployment.table("job_runs")).to_pyarrow_table().to_pylist()
    return output.accounts(sorted(runs, key=lambda run: run["started_at"]))


def spark(deployment: Deployment, step: Steps) -> AbstractContextManager[SparkSession]:
    """A session for the steps within."""
    from jobs.lake.session import open_session

    return open_session(deployment, step("start Spark"))


@contextmanager
def chatter_to(log: Path) -> Iterator[None]:
    """Send what libraries write to stdout and stderr to a file; only our own consoles still reach the person.

    It is for the rest of the process, unless the block fails: some libraries speak last as the interpreter ends.
    """
    log.parent.mkdir(exist_ok=True)
    log.unlink(missing_ok=True)
    _flush()
    kept = {1: os.dup(1), 2: os.dup(2)}
    consoles: tuple[tuple[Console, int], ...] = ((output.out, 1), (output.err, 2))
    for console, number in consoles:
        console.file = os.fdopen(os.dup(kept[number]), "w", buffering=1)
    with log.open("ab") as chatter:
        for number in kept:
            os.dup2(chatter.fileno(), number)
    try:
        yield
    except BaseException as error:
        user_error = error if isinstance(error, InstructUEError) else as_user_error(error)
        if user_error is None:
            traceback.print_exc()
        _flush()
        for number, original in kept.items():
            os.dup2(original, number)
        if user_error is None and isinstance(error, Exception):
            raise PipelineError(f"{type(error).__name__}: {error}; {log} has the whole") from error
        raise user_error or error from None
    _flush()


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
