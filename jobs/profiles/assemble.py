"""Assemble: source tables -> `user_profiles`, whose day holds the profiles that changed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.config.deployment import Deployment
from jobs.lake import spark_tables
from jobs.lake.handoff import AssembleHandoff
from jobs.lake.spark_tables import JobRun, SourceError, job_run, midnight_column
from jobs.profiles.build import Profiles, build_profiles, deactivated_rows
from jobs.profiles.row_account import RowAccount, Totals
from jobs.profiles.source_tables import open_sources

TABLE = "user_profiles"


@dataclass(frozen=True, kw_only=True)
class AssembleResult:
    """The result of one run of assemble."""

    as_of: date
    accounts: dict[str, RowAccount]
    """Per source, the account of its rows."""
    rejected: dict[str, dict[str, int]]
    """Rejected rows per source and reason."""
    users: int
    """Eligible users."""
    changed: int
    """Users whose profile differs from their latest earlier one, new users included."""
    deactivated: int
    """Users who are no longer eligible."""
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
        A source is missing or mistyped, or more than `max_reject_share` of its rows were rejected.
    TableError
        With `source_versions`: no run noted the versions, or the log of a version was removed.
    """
    with job_run(spark, deployment, "assemble", as_of) as run:
        if source_versions:
            run.pin(deployment.source_tables)
        profiles = build_profiles(deployment, open_sources(deployment, run.read), [as_of], run.started_at)
        totals = profiles.totals[as_of]
        try:
            rejected = _record_accounts(run, profiles)
            rows = _changed_rows(run, profiles.rows)
            replaced = run.replace(rows, TABLE)
            run.rows_out, changed = rows.agg(F.count(F.lit(1)), F.count("profile_hash")).collect()[0]
        finally:
            profiles.release()
        deactivated = run.rows_out - changed
        run.handoff = AssembleHandoff(vector_spec=deployment.vector_spec(), users=totals.users)
        run.details |= {"changed": changed, "ended": deactivated}
        return AssembleResult(
            as_of=as_of,
            accounts=totals.accounts,
            rejected=rejected,
            users=totals.users,
            changed=changed,
            deactivated=deactivated,
            replaced=replaced,
            seconds=run.seconds(),
        )


def _record_accounts(run: JobRun, profiles: Profiles) -> dict[str, dict[str, int]]:
    """Record the account of every row and write the rejected rows; return their number per source and reason.

    Raises
    ------
    SourceError
        Too many rows of a source were rejected.
    """
    totals = profiles.totals[run.as_of]
    rejected = _keep_rejected(run, profiles, totals)
    run.rows_in = sum(account.rows_in for account in totals.accounts.values())
    for name, account in totals.accounts.items():
        run.left_out |= {f"{name}: {reason}": count for reason, count in account.left_out().items()}
        run.left_out |= {f"{name}: rejected, {reason}": n for reason, n in rejected.get(name, {}).items()}
    run.details |= {
        "accounts": {name: asdict(account) for name, account in totals.accounts.items()},
        "aggregates": totals.aggregate_rows,
    }
    note_static(run)
    check_reject_share(run, totals)
    return rejected


def note_static(run: JobRun) -> None:
    """Record in the run's details that it used attributes without a time."""
    if run.deployment.attributes and run.deployment.attributes.static:
        run.details["static"] = "attributes carry no time and hold for every as_of"


def check_reject_share(run: JobRun, totals: Totals) -> None:
    """Raise SourceError where more than `max_reject_share` of a source's rows were rejected."""
    share = run.deployment.max_reject_share
    exceeded = [
        f"{name}: {account.rejected} of {account.rows_in}"
        for name, account in totals.accounts.items()
        if account.too_many_rejected(share)
    ]
    if exceeded:
        raise SourceError(
            f"more than max_reject_share = {share} of the rows were rejected: {'; '.join(exceeded)}. "
            f"See rejected_rows of assemble; correct the source, or raise max_reject_share"
        )


def _keep_rejected(run: JobRun, profiles: Profiles, totals: Totals) -> dict[str, dict[str, int]]:
    """Replace the day's `rejected_rows`, and return the number of rows per source and reason."""
    if not any(account.rejected for account in totals.accounts.values()):
        spark_tables.clear_day(run.spark, run.deployment.table("rejected_rows"), run.as_of)
        return {}
    rows = profiles.rejected().cache()
    counts: dict[str, dict[str, int]] = {}
    for row in rows.groupBy("source", "reason").count().orderBy("source", "reason").collect():
        counts.setdefault(row["source"], {})[row["reason"]] = row["count"]
    spark_tables.write_rejected(rows, run.deployment, run.as_of)
    rows.unpersist()
    return counts


def _changed_rows(run: JobRun, rows: DataFrame) -> DataFrame:
    """Return the profiles that differ from the user's latest earlier one, and a row for each deactivated user."""
    if not spark_tables.delta_exists(run.spark, run.deployment.table(TABLE)):
        return rows
    past = run.read(TABLE).select("user_id", "as_of", "day", "profile_hash")
    before = spark_tables.latest_per_key(past, ["user_id"], run.as_of, strictly_before=True).select(
        F.col("user_id").alias("__user"), F.col("profile_hash").alias("__hash")
    )
    both = rows.join(before, rows["user_id"] == before["__user"], "full_outer")
    differs = ~F.col("profile_hash").eqNullSafe(F.col("__hash"))
    deactivated = F.col("user_id").isNull()
    values = {
        column: F.when(deactivated, empty).otherwise(F.col(column))
        for column, empty in deactivated_rows(run.deployment).items()
    }
    columns = {"user_id": F.coalesce("user_id", "__user"), "as_of": midnight_column(run.as_of), **values}
    return both.where(differs).select(*[value.alias(name) for name, value in columns.items()])
