"""Assemble: source tables -> `user_profiles`, the day's partition holding the users who changed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.config.deployment import Deployment
from jobs.lake import spark_tables
from jobs.lake.handoff import AssembleHandoff
from jobs.lake.spark_tables import JobRun, SourceError, job_run, midnight_column
from jobs.profiles.build import Profiles, RowAccount, Totals, build_profiles, deactivated_rows

TABLE = "user_profiles"


@dataclass(frozen=True, kw_only=True)
class AssembleResult:
    """What one run of assemble did."""

    as_of: date
    accounts: dict[str, RowAccount]
    """Where the rows of each source went."""
    rejected: dict[str, dict[str, int]]
    """Refused rows per source and reason."""
    users: int
    """Eligible users."""
    changed: int
    """Users whose profile differs from their latest earlier one, the new ones among them."""
    ended: int
    """Users who fell out."""
    replaced: bool
    """False: the day held these rows already and was not written."""
    seconds: float


def assemble(
    spark: SparkSession, deployment: Deployment, as_of: date, *, source_versions: bool = False
) -> AssembleResult:
    """Replace the day's rows of `user_profiles` by the users whose profile changed, point in time.

    Parameters
    ----------
    source_versions
        Read each source at the version that the day's last run read, not at its newest.

    Raises
    ------
    SourceError
        A source is missing or mistyped, or more than `max_reject_share` of its rows were refused.
    TableError
        With `source_versions`: no run noted them, or a version's log is gone.
    """
    with job_run(spark, deployment, "assemble", as_of) as run:
        if source_versions:
            run.pin(deployment.source_tables)
        found = build_profiles(spark, deployment, [as_of], run.read, run.started_at)
        totals = found.totals[as_of]
        try:
            rejected = _account(run, found)
            changed = _changed(run, found.rows)
            replaced = run.replace(changed, TABLE)
            run.rows_out, kept = changed.agg(F.count(F.lit(1)), F.count("profile_hash")).collect()[0]
        finally:
            found.release()
        gone = run.rows_out - kept
        run.handoff = AssembleHandoff(vector_spec=deployment.vector_spec(), users=totals.users)
        run.details |= {"changed": kept, "ended": gone}
        return AssembleResult(
            as_of=as_of,
            accounts=totals.accounts,
            rejected=rejected,
            users=totals.users,
            changed=kept,
            ended=gone,
            replaced=replaced,
            seconds=run.seconds(),
        )


def _account(run: JobRun, found: Profiles) -> dict[str, dict[str, int]]:
    """Note where every row went and keep the refused ones; fail where a source has too many of them."""
    totals = found.totals[run.as_of]
    rejected = keep_rejected(run, found, totals)
    run.rows_in = sum(account.rows_in for account in totals.accounts.values())
    for name, account in totals.accounts.items():
        run.left_out |= {f"{name}: {reason}": count for reason, count in account.left_out().items()}
        run.left_out |= {f"{name}: rejected, {reason}": n for reason, n in rejected.get(name, {}).items()}
    run.details |= {
        "accounts": {name: asdict(account) for name, account in totals.accounts.items()},
        "aggregates": totals.aggregate_rows,
    }
    note_static(run)
    refuse_too_many(run, totals)
    return rejected


def note_static(run: JobRun) -> None:
    """Say in the run's details that attributes without a time were used."""
    if run.deployment.attributes and run.deployment.attributes.static:
        run.details["static"] = "attributes carry no time and hold for every as_of"


def refuse_too_many(run: JobRun, totals: Totals) -> None:
    """Raise SourceError where a source lost more than `max_reject_share` of its rows."""
    share = run.deployment.max_reject_share
    bad = [
        f"{name}: {account.rejected} of {account.rows_in}"
        for name, account in totals.accounts.items()
        if account.too_many_rejected(share)
    ]
    if bad:
        raise SourceError(
            f"more than max_reject_share = {share} of the rows were refused: {'; '.join(bad)}. "
            f"See rejected_rows of assemble; mend the source, or raise max_reject_share"
        )


def keep_rejected(run: JobRun, found: Profiles, totals: Totals) -> dict[str, dict[str, int]]:
    """Replace the day's `rejected_rows`; how many rows each source lost for each reason."""
    if not any(account.rejected for account in totals.accounts.values()):
        spark_tables.clear_day(run.spark, run.deployment.table("rejected_rows"), run.as_of)
        return {}
    refused = found.rejected().cache()
    counts: dict[str, dict[str, int]] = {}
    for row in refused.groupBy("source", "reason").count().orderBy("source", "reason").collect():
        counts.setdefault(row["source"], {})[row["reason"]] = row["count"]
    spark_tables.write_rejected(refused, run.deployment, run.as_of)
    refused.unpersist()
    return counts


def _changed(run: JobRun, rows: DataFrame) -> DataFrame:
    """The profiles that differ from the user's latest one before the day; a row for each who ended."""
    if not spark_tables.delta_exists(run.spark, run.deployment.table(TABLE)):
        return rows
    past = run.read(TABLE).select("user_id", "as_of", "day", "profile_hash")
    before = spark_tables.latest_per_key(past, ["user_id"], run.as_of, strictly_before=True).select(
        F.col("user_id").alias("__user"), F.col("profile_hash").alias("__hash")
    )
    both = rows.join(before, rows["user_id"] == before["__user"], "full_outer")
    differs = ~F.col("profile_hash").eqNullSafe(F.col("__hash"))
    gone = F.col("user_id").isNull()
    values = {
        column: F.when(gone, empty).otherwise(F.col(column))
        for column, empty in deactivated_rows(run.deployment).items()
    }
    whole = {"user_id": F.coalesce("user_id", "__user"), "as_of": midnight_column(run.as_of), **values}
    return both.where(differs).select(*[value.alias(name) for name, value in whole.items()])
