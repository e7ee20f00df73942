"""Measure the embed job's Arrow UDF against a pandas UDF and a plain loop over onnxruntime.

Run `python -m benchmarks.embed_job --users 20000`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from deltalake import DeltaTable
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from benchmarks import company
from benchmarks.report import Row, seconds, write
from jobs.config.deployment import Deployment
from jobs.lake import spark_tables
from jobs.lake.session import get_session
from jobs.serving.embed import ROWS_PER_BATCH, batched, embedder_of
from jobs.serving.embed_udf import RETURNS, embed_rows, open_runtime
from jobs.training.registry import open_release

DAY = date(2026, 1, 1)
ROWS = int(ROWS_PER_BATCH)
REPEATS = 2
CPU = ("CPUExecutionProvider",)


def bare_loop(path: str, release: str, scenarios: tuple[str, ...], part: int, parts: int) -> int:
    """Embed a part of the profiles with one thread, as a Spark task does."""
    runtime = open_runtime(release, CPU, 1)
    rows = DeltaTable(path).to_pyarrow_table()
    rows = rows.slice(part * len(rows) // parts, (part + 1) * len(rows) // parts - part * len(rows) // parts)
    return sum(len(runtime.embed(rows.slice(start, ROWS), scenarios)) for start in range(0, len(rows), ROWS))


def arrow_form(spark: SparkSession, deployment: Deployment) -> Column:
    """Return the vectors as the job computes them."""
    embedder = embedder_of(spark, deployment, open_release(deployment))
    vectors = F.arrow_udf(embedder.function(), RETURNS)  # type: ignore[call-overload]
    return vectors(*map(F.col, embedder.columns))


def pandas_form(deployment: Deployment) -> Column:
    """Return the vectors by a pandas UDF, with texts and gaps as separate columns: arrays of structs are slower."""
    release = str(open_release(deployment).path)
    sources = [source.name for source in deployment.sources]
    columns = [
        *(f"{source}.{part}" for source in sources for part in ("text", "gap")),
        *(f"ages.{source}" for source in sources),
        *(f"tabular.{name}" for name in (*deployment.numbers, *deployment.categories)),
        "scenarios",
    ]
    numbers, categories = deployment.numbers, deployment.categories

    def vectors(batches: Iterator[tuple[pd.Series, ...]]) -> Iterator[pd.Series]:
        runtime = open_runtime(release, CPU, 1)
        for series in batches:
            values = dict(zip(columns, series, strict=True))
            table = {source: _events(values[f"{source}.text"], values[f"{source}.gap"]) for source in sources}
            table["ages"] = _struct({name: _array(values[f"ages.{name}"], pa.int32()) for name in sources})
            table["tabular"] = _struct(
                {name: _array(values[f"tabular.{name}"], pa.float64()) for name in numbers}
                | {name: _array(values[f"tabular.{name}"], pa.string()) for name in categories}
            )
            vectors_of_batch = embed_rows(runtime, pa.table(table), values["scenarios"].tolist())
            yield pd.Series(pd.arrays.ArrowExtensionArray(vectors_of_batch))

    return F.pandas_udf(vectors, RETURNS)(*map(F.col, columns))  # type: ignore[call-overload]


def _events(text_U: pd.Series, gap_U: pd.Series) -> pa.Array:
    offsets = np.concatenate([[0], np.cumsum([0 if texts is None else len(texts) for texts in text_U])])
    events = _struct({"text": _array(_flat(text_U), pa.string()), "gap": _array(_flat(gap_U), pa.int32())})
    return pa.ListArray.from_arrays(offsets.astype(np.int32), events)


def _flat(lists: pd.Series) -> np.ndarray[Any, Any]:
    parts = [part for part in lists if part is not None and len(part)]
    return np.concatenate(parts) if parts else np.empty(0, object)


def _array(values: Any, dtype: pa.DataType) -> pa.Array:
    return pa.array(values, dtype, from_pandas=True)


def _struct(fields: Mapping[str, pa.Array]) -> pa.StructArray:
    # Not imported from `company`: Spark workers have the installed packages, and this file only by its functions.
    return pa.StructArray.from_arrays(list(fields.values()), names=list(fields))


def measure(spark: SparkSession, deployment: Deployment, users: int) -> dict[str, float]:
    """Measure users per second of the three forms, the best of the repeats, with warm text caches."""
    company.release(deployment)
    path = deployment.table("user_profiles")
    spark_tables.replace_day(spark.createDataFrame(company.profiles(deployment, users)).repartition(2), path, DAY)
    profiles: DataFrame = (
        spark.read.format("delta").load(path).withColumn("scenarios", F.lit(",".join(deployment.scenario_names)))
    )
    forms = {"arrow": arrow_form(spark, deployment), "pandas": pandas_form(deployment)}
    durations: dict[str, list[float]] = {name: [] for name in (*forms, "bare")}
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool, batched(spark):
        release = str(open_release(deployment).path)

        def loop() -> None:
            parts = [pool.submit(bare_loop, path, release, deployment.scenario_names, part, 2) for part in range(2)]
            for part in parts:
                part.result()

        for _ in range(REPEATS + 1):
            for name, form in forms.items():
                durations[name].append(seconds(profiles.select(form).write.format("noop").mode("overwrite").save))
            durations["bare"].append(seconds(loop))
    return {name: users / min(turns) for name, turns in durations.items()}


def main() -> None:
    """Measure the three forms and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=20000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        deployment = company.deployment(Path(folder))
        spark = get_session(deployment, named=False)
        try:
            rates = measure(spark, deployment, arguments.users)
        finally:
            spark.stop()
    write(
        "embed_job",
        [
            Row(name="bare loop over onnxruntime, two processes", value=rates["bare"], unit="users/s"),
            Row(name="Arrow UDF in Spark, the job's", value=rates["arrow"], unit="users/s"),
            Row(name="pandas UDF in Spark", value=rates["pandas"], unit="users/s"),
            Row(name="Arrow UDF over the bare loop", value=rates["arrow"] / rates["bare"], goal=">= 0.7"),
            Row(name="Arrow UDF over pandas UDF", value=rates["arrow"] / rates["pandas"]),
        ],
        f"{arguments.users:,} users of the demo's shape in 7 scenarios, the preset tiny on onnxruntime's CPU provider, "
        f"batches of {ROWS} users, two cores each way; the best of {REPEATS} turns after one that warms caches.",
    )


if __name__ == "__main__":
    main()
