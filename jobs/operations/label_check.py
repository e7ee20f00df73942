"""What evaluate and tune would make of each scenario's labels: rows by what happens to them, and users left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.config.deployment import Deployment
from jobs.lake.errors import TableError
from jobs.training.label_tables import LabelError
from jobs.training.labels import LabelSet, read_labels

LABEL_DAYS = 4
"""Of labels at more days, the users of the last ones are compared with the profiles."""


@dataclass(frozen=True, kw_only=True)
class LabelCheck:
    """The labels of a scenario.

    Attributes
    ----------
    table : str
    rows_in : int
        The scenario's rows in the table: labels, repeated and superseded ones.
    labels, repeated, superseded : int
    users : int
        Different users with a label at one of the last `LABEL_DAYS` days with labels.
    left_out : int
        Those of them without a profile at any of their labels' days, whom evaluate and tune leave out.
    """

    table: str
    rows_in: int
    labels: int
    repeated: int
    superseded: int
    users: int
    left_out: int


def read_checked_labels(deployment: Deployment) -> tuple[dict[str, LabelSet], list[str]]:
    """Return the labels of every scenario that has some, or nothing and the reasons why evaluate would refuse them."""
    scenarios = [scenario for scenario in deployment.scenarios if scenario.labels is not None]
    try:
        return read_labels(deployment, scenarios), []
    except (LabelError, TableError) as error:
        lines = str(error).splitlines()
        return {}, [line.strip() for line in lines[1:] or lines]


def label_days(labels: Mapping[str, LabelSet]) -> list[date]:
    """Return the last `LABEL_DAYS` days with labels."""
    return sorted({day for one in labels.values() for day in pc.unique(_days(one)).to_pylist()})[-LABEL_DAYS:]


def check_labels(labels: Mapping[str, LabelSet], profiles: DataFrame) -> dict[str, LabelCheck]:
    """Return the counts of each scenario's labels.

    Parameters
    ----------
    profiles : DataFrame
        `user_id` and `as_of` of the eligible users at least at `label_days`.
    """
    if not labels:
        return {}
    days = label_days(labels)
    rows = pa.concat_tables(
        pa.table({"scenario": pa.repeat(name, len(one.rows)), "user_id": one.rows["user_id"], "day": _days(one)})
        for name, one in labels.items()
    )
    labelled = profiles.sparkSession.createDataFrame(rows.filter(pc.is_in(rows["day"], pa.array(days))))
    served = profiles.select("user_id", F.to_date("as_of").alias("day"), F.lit(True).alias("served"))
    users = labelled.join(served, ["user_id", "day"], "left").groupBy("scenario", "user_id")
    counts = (
        users.agg(F.max("served").alias("served"))
        .groupBy("scenario")
        .agg(F.count(F.lit(1)).alias("users"), F.count_if(F.col("served").isNull()).alias("left_out"))
    )
    by_scenario = {row["scenario"]: row for row in counts.collect()}
    return {
        name: LabelCheck(
            table=one.table,
            rows_in=one.rows_in,
            labels=len(one.rows),
            repeated=one.repeated,
            superseded=one.superseded,
            users=by_scenario[name]["users"] if name in by_scenario else 0,
            left_out=by_scenario[name]["left_out"] if name in by_scenario else 0,
        )
        for name, one in labels.items()
    }


def _days(labels: LabelSet) -> pa.ChunkedArray:
    """Return the day of each label, whose midnight is that of the profile that belongs to it."""
    return labels.rows["as_of"].cast(pa.timestamp("us")).cast(pa.date32(), safe=False)
