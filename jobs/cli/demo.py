"""The demo: a made-up company through all jobs for two days, from source tables to an online lookup.

    python -m jobs.cli.demo --users 300 --steps 30

Day 1 runs the jobs in this process; Airflow runs day 2. Each demo starts from nothing and writes only below demo/ and
logs/.
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
from jobs.console.text import count

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "conf" / "demo.yaml"
FOLDER = ROOT / "demo"
MARK = FOLDER / ".made-by-the-demo"
LOG, AIRFLOW_LOG = ROOT / "logs" / "demo.log", ROOT / "logs" / "demo-airflow.log"
DAY1, DAY2 = date(2026, 1, 1), date(2026, 1, 2)
SCENARIO = "food"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def demo(
    users: Annotated[int, typer.Option(min=100, help="The number of users of the company.")] = 2000,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1, show_default="model.training.steps of the deployment file", help="The number of training steps."
        ),
    ] = None,
) -> None:
    """Run all jobs on a made-up company for two days."""
    from jobs.synthetic.generate import generate

    os.chdir(ROOT)
    _reset_folder()
    deployment = Deployment.read(CONFIG)
    with pipeline.library_output_to(LOG):
        step = Steps()
        with step(f"generate {count(users, 'user')}"):
            generate(deployment, DAY1, users=users)
        evaluated = pipeline.first_day(deployment, DAY1, step, train_steps=steps)
        with step(f"generate: the rows of {DAY1} arrive"):
            generate(deployment, DAY2, users=users)
        run_second_day(deployment, step)
        answers = pipeline.ask(deployment, SCENARIO, step)
        terminal.out.print()
        pages = [pipeline.accounts(deployment), step.table(), evaluation_page(evaluated), *answers]
        for page in (*pages, _next_steps(deployment)):
            terminal.out.print(page)


def run_second_day(deployment: Deployment, step: Steps) -> None:
    """Run the next day with Airflow: three tasks, each a spark-submit.

    The run's logical date is at noon: scheduled runs are at midnight, and Airflow skips a scheduled run whose date
    another run has.
    """
    environment = airflow_environment(deployment)
    AIRFLOW_LOG.unlink(missing_ok=True)
    with step("set up Airflow"):
        _airflow(environment, "db", "migrate")
    with step(f"Airflow: assemble, embed, publish {DAY2}"):
        _airflow(environment, "dags", "test", "embed_users", f"{DAY2}T12:00")


def airflow_environment(deployment: Deployment) -> dict[str, str]:
    """Return the environment of an Airflow with its database below demo/ and an embedded Spark as its connection."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "AIRFLOW_HOME": str(FOLDER / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "INSTRUCTUE_CONFIG": str(deployment.path),
        "AIRFLOW_CONN_SPARK_DEFAULT": '{"conn_type": "spark", "host": "local[2]"}',
        # As in conf/demo.yaml, whose driver options have no effect on a JVM that spark-submit has already started.
        "SPARK_SUBMIT_OPTS": "-XX:TieredStopAtLevel=1",
    }


def _airflow(environment: dict[str, str], *arguments: str) -> None:
    with AIRFLOW_LOG.open("ab") as log:
        process = subprocess.run(
            [sys.executable, "-m", "airflow", *arguments],
            env=environment,
            cwd=ROOT,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
    if process.returncode:
        raise PipelineError(f"`airflow {' '.join(arguments)}` failed; the end of {AIRFLOW_LOG} says why")


def _reset_folder() -> None:
    """Empty the folder of an earlier demo; refuse any other folder of that name."""
    if FOLDER.exists() and not MARK.exists():
        raise PipelineError(f"{FOLDER} was not made by the demo, which would remove it: move it elsewhere")
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    MARK.touch()


def _next_steps(deployment: Deployment) -> RenderableType:
    """Return the folders that the demo wrote, and commands to try next."""
    folders = {
        "tables (Delta)": deployment.resolve(deployment.lake),
        "releases": deployment.resolve(deployment.releases),
        "online store": deployment.resolve(deployment.store.folder),
        "logs": str(LOG.parent),
    }
    written = [f"  {name:<16} {os.path.relpath(folder, ROOT)}" for name, folder in folders.items()]
    commands = [
        f"  .venv/bin/instructue lookup u0000012 --scenario {SCENARIO} --json",
        '  .venv/bin/instructue sql "SELECT * FROM left_out"',
        "  .venv/bin/instructue --help",
        "  the DAG in Airflow's page: docs/airflow.md",
    ]
    return Text("\n".join(["Written", *written, "Try next", *commands]))


if __name__ == "__main__":
    run(app)
