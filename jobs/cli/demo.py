"""The demo: a made-up company through the whole line, two days, from nothing to an online lookup.

    python -m jobs.cli.demo --users 300 --steps 30

Day 1 runs the jobs one after the other; day 2 is left to the DAG, with Airflow's own command. It starts afresh each
time, and writes only below demo/ and logs/.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from jobs.cli import pipeline
from jobs.cli.exit_codes import run
from jobs.cli.pages.evaluate import evaluation_page
from jobs.cli.pipeline import PipelineError, Steps
from jobs.config.deployment import Deployment
from jobs.console import terminal

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "conf" / "demo.yaml"
FOLDER = ROOT / "demo"
MARK = FOLDER / ".made-by-the-demo"
LOG, AIRFLOW_LOG = ROOT / "logs" / "demo.log", ROOT / "logs" / "demo-airflow.log"
DAY1, DAY2 = date(2026, 1, 1), date(2026, 1, 2)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def demo(
    users: Annotated[int, typer.Option(min=100, help="How many users the company has.")] = 2000,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps; by default the deployment file's.")] = None,
) -> None:
    """Run a made-up company through the whole line for two days."""
    from jobs.synthetic.generate import generate

    os.chdir(ROOT)
    _start_afresh()
    deployment = Deployment.read(CONFIG)
    with pipeline.library_output_to(LOG):
        step = Steps()
        with step(f"generate {users:,} users"):
            generate(deployment, DAY1, users=users)
        evaluated = pipeline.first_day(deployment, DAY1, step, train_steps=steps)
        with step(f"generate: the rows of {DAY1} arrive"):
            generate(deployment, DAY2, users=users)
        second_day(deployment, step)
        answers = pipeline.ask(deployment, "food", step)
        terminal.out.print()
        for part in (
            pipeline.accounts(deployment),
            step.table(),
            evaluation_page(evaluated),
            *answers,
            _where(deployment),
        ):
            terminal.out.print(part)


def second_day(deployment: Deployment, step: Steps) -> None:
    """Airflow runs the next day: three spark-submits in a row.

    At noon, for the scheduler's own runs are at midnight: one of the same moment would keep them from coming.
    """
    environment = airflow_environment(deployment)
    AIRFLOW_LOG.unlink(missing_ok=True)
    with step("set Airflow up"):
        _airflow(environment, "db", "migrate")
    with step(f"Airflow: assemble, embed, publish {DAY2}"):
        _airflow(environment, "dags", "test", "embed_users", f"{DAY2}T12:00")


def airflow_environment(deployment: Deployment) -> dict[str, str]:
    """An Airflow of the demo's own: its database below demo/, an embedded Spark behind its connection."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "AIRFLOW_HOME": str(FOLDER / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "INSTRUCTUE_CONFIG": str(deployment.path),
        "AIRFLOW_CONN_SPARK_DEFAULT": '{"conn_type": "spark", "host": "local[2]"}',
        # As in conf/demo.yaml, whose driver options come too late for a JVM that spark-submit has started.
        "SPARK_SUBMIT_OPTS": "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m",
    }


def _airflow(environment: dict[str, str], *arguments: str) -> None:
    with AIRFLOW_LOG.open("ab") as log:
        done = subprocess.run(
            [sys.executable, "-m", "airflow", *arguments],
            env=environment,
            cwd=ROOT,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
    if done.returncode:
        raise PipelineError(f"`airflow {' '.join(arguments)}` failed; the end of {AIRFLOW_LOG} says why")


def _start_afresh() -> None:
    if FOLDER.exists() and not MARK.exists():
        raise PipelineError(f"{FOLDER} was not made by the demo: move it elsewhere, the demo starts afresh in it")
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    MARK.touch()


def _where(deployment: Deployment) -> RenderableType:
    shown = {
        "tables (Delta)": deployment.resolve(deployment.lake),
        "releases": deployment.resolve(deployment.releases),
        "online store": deployment.resolve(deployment.store.folder),
        "logs": str(LOG.parent),
    }
    places = [f"  {name:<16} {os.path.relpath(place, ROOT)}" for name, place in shown.items()]
    tries = [
        "  .venv/bin/instructue lookup u0000012 --scenario food --json",
        '  .venv/bin/instructue sql "SELECT * FROM left_out"',
        "  .venv/bin/instructue --help",
        "  the DAG in Airflow's page: docs/airflow.md",
    ]
    return Text("\n".join(["Written", *places, "Try next", *tries]))


if __name__ == "__main__":
    run(app)
