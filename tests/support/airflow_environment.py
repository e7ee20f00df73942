"""The environment of an Airflow of a test's own, on an embedded Spark."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def airflow_environment(home: Path, **more: str) -> dict[str, str]:
    """Return the environment; `more` has the variables of the DAG."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "INSTRUCTUE"))}
    return {
        **kept,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_CONN_SPARK_DEFAULT": '{"conn_type": "spark", "host": "local[2]"}',
        **more,
    }
