"""Check that the rows of a day can be used: their inputs were not replaced since, and no row was dropped."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from jobs.config.deployment import Deployment
from jobs.lake import catalog
from jobs.lake.handoff import MaintainHandoff
from jobs.lake.run_log import RefusedError, Run, read_runs


def stale_reason(deployment: Deployment, job: str, as_of: date) -> str | None:
    """Return why the day's rows of a job cannot be used; None where they can.

    A day is stale if its own run failed or never finished. It is also stale if a day that it was made from was replaced
    after its run had started: an earlier day of the same job, or the same or an earlier day of a job that feeds it.
    """
    return _reason(_history(deployment, job, as_of), job, as_of)


def first_stale(deployment: Deployment, job: str, as_of: date) -> date:
    """Return the day from which to run a job again: the first of the consecutive stale days that end at `as_of`."""
    history = _history(deployment, job, as_of)
    first = as_of
    for run in reversed(history):
        if run.job != job or run.day == as_of or not run.left_rows:
            continue
        if not _reason(history, job, run.day):
            break
        first = run.day
    return first


def require_retained(deployment: Deployment, job: str, as_of: date) -> None:
    """Raise RefusedError for a day of which maintain has dropped rows.

    Raises
    ------
    RefusedError
        The day is at or before a horizon of maintain.
    """
    handoffs = [run.handoff(MaintainHandoff) for run in read_runs(deployment, "maintain")]
    horizon = max((handoff.horizon for handoff in handoffs if handoff.horizon), default=None)
    if horizon and as_of <= horizon:
        raise RefusedError(
            f"{job} for {as_of}: maintain has dropped rows of the days up to {horizon}, so that day "
            "cannot be made again; later ones can (`retention.rows` says how many are kept)"
        )


def _history(deployment: Deployment, job: str, last: date) -> list[Run]:
    """Return the runs of a job and of the jobs that feed it, the oldest day first."""
    return read_runs(deployment, job, *catalog.input_jobs(job), last=last)


def _reason(history: Sequence[Run], job: str, as_of: date) -> str | None:
    """Return why a day is stale by the runs up to it, None where it is not; `history` may contain later days."""
    past = [run for run in history if run.day <= as_of]
    own = next((run for run in reversed(past) if run.job == job and run.day == as_of), None)
    if own is None:
        return f"{job} has not run for {as_of}"
    if own.status != "ok":
        return f"{job}'s last run for {as_of} did not succeed"
    for run in past:
        if run is own:
            continue
        if run.finished_at is None:
            return f"{run.job} for {run.day} was replacing rows and has not finished"
        if run.replaced_at is not None and run.replaced_at > own.started_at:
            return f"{run.job} for {run.day} was replaced after {job} for {as_of} had started"
    return None
