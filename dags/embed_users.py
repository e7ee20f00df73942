"""
### The day's vectors

`assemble` writes the profiles of the users that changed, `embed` their vectors, and `publish` updates the online store.
The day of a run is the end of its data interval: the run for 2026-01-01 to 2026-01-02 holds every event before
2026-01-02T00:00 UTC.

Any task may be cleared and run again, for any day: it replaces the rows of that day. Runs go oldest first, one by one.
After replacing an old day, clear the later ones too; until then `publish` does not update the online store.

| variable | meaning | default |
| --- | --- | --- |
| `INSTRUCTUE_CONFIG` | the deployment file | `conf/demo.yaml` of this checkout |
| `INSTRUCTUE_START` | the first day; each day since is run, oldest first | when this DAG is turned on |
| `INSTRUCTUE_END` | the last day | none |
| `INSTRUCTUE_DRIVER_MEMORY` | memory of each Spark driver | `2g` |
| `INSTRUCTUE_APPLICATION` | what spark-submit runs | `jobs/__main__.py` of this checkout |

The Spark connection is `spark_default`. The table `job_runs` has the rows that each run read, wrote and left out.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk import DAG, Asset, CronDataIntervalTimetable, Param, chain

CHECKOUT = Path(__file__).resolve().parents[1]
ONE_DAY = timedelta(days=1)


def day(name: str) -> datetime | None:
    """Return the start of the data interval that ends on the day in a variable of the environment; None without one."""
    value = os.environ.get(name)
    if not value:
        return None
    try:
        return datetime.fromisoformat(value).replace(tzinfo=UTC) - ONE_DAY
    except ValueError:
        raise ValueError(f"{name} = {value!r} is not a day; write it as 2026-01-31") from None


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
            description="The deployment file, as the Spark driver finds it",
        ),
        "as_of": Param(
            None,
            type=["null", "string"],
            format="date",
            description="The day of a manual run; empty: the end of the run's data interval",
        ),
        "driver_memory": Param(os.environ.get("INSTRUCTUE_DRIVER_MEMORY", "2g"), type="string"),
    },
    tags=["instructue"],
) as dag:
    chain(
        *(
            SparkSubmitOperator(
                task_id=job,
                name=f"instructue-{job}",
                application=os.environ.get("INSTRUCTUE_APPLICATION", str(CHECKOUT / "jobs" / "__main__.py")),
                application_args=[
                    job,
                    "--config",
                    "{{ params.config }}",
                    "--as-of",
                    "{{ params.as_of or (data_interval_end | ds) }}",
                ],
                conf={"spark.driver.memory": "{{ params.driver_memory }}", "spark.log.level": "WARN"},
                outlets=[Asset("user_vectors")] if job == "publish" else [],
            )
            for job in ("assemble", "embed", "publish")
        )
    )
