"""
### The day's vectors

`assemble` writes the profiles that changed, `embed` writes their vectors, and `publish` updates the online store. A
run's day is the end of its data interval: the run for 2026-01-01 to 2026-01-02 reads every event before
2026-01-02T00:00 UTC.

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
from datetime import UTC, datetime, timedelta
from pathlib import Path

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
