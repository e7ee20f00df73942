"""
### The day's vectors

`assemble` writes the profiles that changed, `embed` writes their vectors, and `publish` updates the online store. The
run for day D reads every event before midnight (UTC) of D.

| run | its day |
| --- | --- |
| any, with the parameter `as_of` | `as_of`, at most today (UTC) |
| scheduled, catch-up or backfill | the end of its data interval |
| triggered by a person, another DAG or an asset | the UTC day of its logical date; without one, of its *run after* |

Any task may be cleared and run again, for today or for a past day: it replaces that day's rows. One run is active at a
time, the oldest day first. After a past day is replaced, clear the later days too: until then `publish` does not update
the online store.

| environment variable | value | default |
| --- | --- | --- |
| `INSTRUCTUE_CONFIG` | the deployment file | `conf/demo.yaml` of this checkout |
| `INSTRUCTUE_START` | the first day; every day since is run, the oldest first | the day on which the DAG is turned on |
| `INSTRUCTUE_END` | the last day | none |
| `INSTRUCTUE_DRIVER_MEMORY` | memory of each Spark driver | `2g` |
| `INSTRUCTUE_APPLICATION` | the application of spark-submit | `jobs/__main__.py` of this checkout |

The Spark connection is `spark_default`. The table `job_runs` says what each run read, wrote and left out.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk import DAG, Asset, CronDataIntervalTimetable, Param, chain

CHECKOUT = Path(__file__).resolve().parents[1]
ONE_DAY = timedelta(days=1)


def day(name: str) -> datetime | None:
    """Return a day of the environment as the start of the data interval that ends on it, None where it is not set."""
    value = os.environ.get(name)
    if not value:
        return None
    try:
        return datetime.fromisoformat(value).replace(tzinfo=UTC) - ONE_DAY
    except ValueError:
        raise ValueError(f"{name} = {value!r} is not a day; write it as 2026-01-31") from None


def as_of(params: Mapping[str, Any], dag_run: Any) -> str:
    """Return the day of a run: its parameter, or else what the table above says.

    Raises
    ------
    ValueError
        The day has not begun, so its events are incomplete.
    """
    moment = dag_run.data_interval_end
    if dag_run.run_type not in ("scheduled", "backfill"):
        # Airflow derives the data interval of such a run from the present, whatever its logical date is.
        moment = dag_run.logical_date or dag_run.run_after
    run_day = date.fromisoformat(params["as_of"]) if params["as_of"] else moment.astimezone(UTC).date()
    today = datetime.now(UTC).date()
    if run_day > today:
        raise ValueError(f"{run_day} has not begun (UTC), so its events are incomplete; name {today} or an earlier day")
    return run_day.isoformat()


start = day("INSTRUCTUE_START")

with DAG(
    "embed_users",
    description="From the day's source tables to vectors in Delta and in the online store",
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"),
    start_date=start,
    end_date=day("INSTRUCTUE_END"),
    catchup=start is not None,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1), "retry_exponential_backoff": True},
    params={
        "config": Param(
            os.environ.get("INSTRUCTUE_CONFIG", str(CHECKOUT / "conf" / "demo.yaml")),
            type="string",
            description="The deployment file; the Spark driver reads it",
        ),
        "as_of": Param(
            None,
            type=["null", "string"],
            format="date",
            description="The day; empty: the end of the data interval, or the UTC day of a manual run",
        ),
        "driver_memory": Param(os.environ.get("INSTRUCTUE_DRIVER_MEMORY", "2g"), type="string"),
    },
    user_defined_macros={"as_of": as_of},
    tags=["instructue"],
) as dag:
    chain(
        *(
            SparkSubmitOperator(
                task_id=job,
                name=f"instructue-{job}",
                application=os.environ.get("INSTRUCTUE_APPLICATION", str(CHECKOUT / "jobs" / "__main__.py")),
                application_args=[job, "--config", "{{ params.config }}", "--as-of", "{{ as_of(params, dag_run) }}"],
                conf={"spark.driver.memory": "{{ params.driver_memory }}", "spark.log.level": "WARN"},
                outlets=[Asset("user_vectors")] if job == "publish" else [],
            )
            for job in ("assemble", "embed", "publish")
        )
    )
