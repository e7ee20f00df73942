"""UserQA: what training reads. Profiles at earlier cut-offs, and questions with answers true of each user.

Two tables: `training_profiles`, everybody's profile at each cut-off of `userqa.as_of`, and `userqa`, the
question-answer pairs. An attribute is measured before the cut-off, a future from it on, and every future
ends at or before the earliest label's as_of: of the labels' tables only that one date is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.config.deployment import Deployment
from jobs.console.text import list_errors
from jobs.lake import spark_tables
from jobs.lake.handoff import UserQAHandoff
from jobs.lake.spark_tables import JobRun, TableError, job_run, midnight_column
from jobs.profiles import source_tables
from jobs.profiles.assemble import note_static, refuse_too_many
from jobs.profiles.build import Totals, build_profiles
from jobs.userqa.answer_templates import answer_text, asked_of, level_edges
from jobs.userqa.question_values import measure_questions, question_errors
from jobs.userqa.questions import WHOLE, Question, QuestionError, Questions

PROFILES, PAIRS = "training_profiles", "userqa"


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How a question's answers spread over users and cut-offs."""

    rows: int
    answers: int
    """Distinct ones."""
    commonest: float
    """Share of the commonest answer."""


@dataclass(frozen=True, kw_only=True)
class UserQAResult:
    """What one run of userqa did."""

    as_of: tuple[date, ...]
    profiles: int
    pairs: int
    replaced: int
    """Days of the two tables that were written; the others held the same rows."""
    questions: dict[str, Spread]
    seconds: float


def userqa(spark: SparkSession, deployment: Deployment, *, source_versions: bool = False) -> UserQAResult:
    """Replace `training_profiles` and `userqa` at every cut-off, and drop what other cut-offs left there.

    The run is recorded in `job_runs` under the last cut-off. With `source_versions`, each source is read at the
    version that the last such run read, not at its newest.

    Raises
    ------
    QuestionError
        The questions do not fit the tables, or a future window ends after the earliest label's as_of.
    TableError
        A scenario names a table of labels that is not there; no run noted the versions to read.
    SourceError
        A source is missing or mistyped, or too many of its rows were refused.
    """
    asked = Questions.read(deployment.resolve(deployment.userqa.questions))
    cut_offs = sorted(set(deployment.userqa.as_of))
    with job_run(spark, deployment, "userqa", cut_offs[-1]) as run:
        run.handoff = UserQAHandoff(vector_spec=deployment.vector_spec())
        if source_versions:
            run.pin(deployment.source_tables)
        opened = source_tables.open_sources(deployment, run.read)
        end = _check(run, asked, opened, cut_offs)
        replaced = _write_profiles(run, cut_offs)
        run.versions.pop(PROFILES, None)
        people = run.read(PROFILES).where(F.col("day").isin(cut_offs))
        wide = measure_questions(deployment, asked, opened, people, cut_offs, end).cache()
        # Each cut-off is written apart: the sentences, the largest of plans, are made once for all of them.
        pairs = _pairs(deployment, asked, wide).cache()
        replaced += [
            run.replace(pairs.where(F.col("as_of") == midnight_column(cut_off)), PAIRS, as_of=cut_off)
            for cut_off in cut_offs
        ]
        count = wide.count()
        pairs.unpersist()
        wide.unpersist()
        for table in (PROFILES, PAIRS):
            _drop_others(run, table, cut_offs)
        spreads = _spreads(asked, spark_tables.read_table(spark, deployment, PAIRS))
        run.rows_out = sum(spread.rows for spread in spreads.values())
        run.details["questions"] = {name: asdict(spread) for name, spread in spreads.items()}
        return UserQAResult(
            as_of=tuple(cut_offs),
            profiles=count,
            pairs=run.rows_out,
            replaced=sum(replaced),
            questions=spreads,
            seconds=run.seconds(),
        )


def _write_profiles(run: JobRun, cut_offs: Sequence[date]) -> list[bool]:
    """Replace `training_profiles` at each cut-off; whether each was written."""
    found = build_profiles(run.spark, run.deployment, cut_offs, run.read, run.started_at)
    try:
        _account(run, found.totals)
        return [
            run.replace(found.rows.where(F.col("as_of") == midnight_column(cut_off)), PROFILES, as_of=cut_off)
            for cut_off in cut_offs
        ]
    finally:
        found.release()


def _account(run: JobRun, totals: Mapping[date, Totals]) -> None:
    """Note where every row went at each cut-off, which reads it anew; fail where too many were refused."""
    run.rows_in = sum(account.rows_in for at in totals.values() for account in at.accounts.values())
    for cut_off, at in totals.items():
        for name, account in at.accounts.items():
            left_out = account.left_out() | {"rejected": account.rejected}
            run.left_out |= {f"{cut_off} {name}: {reason}": n for reason, n in left_out.items() if n}
    run.details |= {
        "accounts": {
            str(cut_off): {name: asdict(account) for name, account in at.accounts.items()}
            for cut_off, at in totals.items()
        },
        "aggregates": {str(cut_off): at.aggregate_rows for cut_off, at in totals.items()},
    }
    note_static(run)
    for at in totals.values():
        refuse_too_many(run, at)


def _drop_others(run: JobRun, table: str, cut_offs: Sequence[date]) -> None:
    """A cut-off that the deployment no longer names must not be trained on."""
    there = spark_tables.read_table(run.spark, run.deployment, table).select("day").distinct().collect()
    for day in {row["day"] for row in there} - set(cut_offs):
        spark_tables.clear_day(run.spark, run.deployment.table(table), day)


def _check(run: JobRun, asked: Questions, opened: Mapping[str, DataFrame], cut_offs: Sequence[date]) -> date:
    """The day before which every event that a question reads must lie; all mistakes at once otherwise."""
    deployment = run.deployment
    mistakes = question_errors(run.spark, deployment, asked, opened)
    first_label = _first_label(run)
    ends = {cut_off: cut_off for cut_off in cut_offs}
    for question in asked.questions:
        for cut_off in cut_offs:
            end = cut_off + timedelta(days=question.span if question.future else 0)
            if question.last_as_of is not None and cut_off > question.last_as_of:
                continue
            ends[cut_off] = max(ends[cut_off], end)
            if question.future and first_label and end > first_label:
                mistakes.append(
                    f"  {question.name}.days = {question.span}: asked as of {cut_off}, its "
                    f"window ends on {end}, after the earliest label's as_of {first_label}; "
                    f"shorten it, or name an earlier `last_as_of`"
                )
    if first_label and cut_offs[-1] > first_label:
        mistakes.append(
            f"  userqa.as_of = {cut_offs[-1]}: after the earliest label's as_of {first_label}; name earlier cut-offs"
        )
    if mistakes:
        raise QuestionError(list_errors(deployment.resolve(deployment.userqa.questions), mistakes))
    return max(ends.values())


def _first_label(run: JobRun) -> date | None:
    """The earliest as_of of the scenarios' label tables; no other column of them is ever read."""
    named = {scenario.labels: scenario.name for scenario in run.deployment.scenarios if scenario.labels}
    missing = [
        f"  scenarios.{scenario}.labels = {table}: there is no Delta table at {run.deployment.table(table)}; "
        "write it first, for no question may see what it is judged on, or remove the key until there are labels"
        for table, scenario in named.items()
        if not spark_tables.delta_exists(run.spark, run.deployment.table(table))
    ]
    if missing:
        raise TableError(list_errors(run.deployment.path, missing))
    firsts = [run.read(table).agg(F.min(F.to_date("as_of")).alias("first")).collect()[0]["first"] for table in named]
    return min((first for first in firsts if first), default=None)


def _pairs(deployment: Deployment, asked: Questions, wide: DataFrame) -> DataFrame:
    """The rows of `userqa`: each question's sentence for each user and cut-off, and the descriptions."""
    split = _split(deployment.userqa.validation_share)
    wide = wide.withColumn("split", split)
    edges = _edges(asked, wide)
    sentences = {}
    for question in asked.questions:
        sentence = answer_text(question, F.col(question.name), edges[question.name])
        sentences[question.name] = _when_asked(question, sentence)
    told = wide.select("user_id", "as_of", "split", *[s.alias(name) for name, s in sentences.items()])
    entries = [_entry(q.name, _phrasing(q), F.col(q.name), q.axis) for q in asked.questions]
    entries += [_entry("general", F.lit(None).cast("string"), _description(names), None) for names in asked.general]
    entry = F.explode(F.filter(F.array(*entries), lambda e: e["answer"].isNotNull()))
    return told.select("user_id", "as_of", "split", entry.alias("e")).select(
        "user_id", "as_of", "e.question", "e.instruction", "e.answer", "e.axis", "split"
    )


def _when_asked(question: Question, value: Column) -> Column:
    """Null at the cut-offs after its last: its window is cut short there."""
    if question.last_as_of is None:
        return value
    return F.when(F.col("as_of") <= midnight_column(question.last_as_of), value)


def _entry(name: str, instruction: Column, sentence: Column, axis: str | None) -> Column:
    return F.struct(
        F.lit(name).alias("question"),
        instruction.alias("instruction"),
        sentence.alias("answer"),
        F.lit(axis).cast("string").alias("axis"),
    )


def _phrasing(question: Question) -> Column:
    phrasings = [F.lit(text) for text in question.phrasings]
    if len(phrasings) == 1:
        return phrasings[0]
    chosen = F.pmod(F.xxhash64("user_id", F.lit(question.name)), F.lit(len(phrasings)))
    return F.get(F.array(*phrasings), chosen.cast("int"))


def _description(names: Sequence[str]) -> Column:
    whole = F.concat_ws(" ", *[F.col(name) for name in names])
    return F.when(whole != "", whole)


def _split(validation_share: float) -> Column:
    """By a hash of the user alone: all of a user's pairs are on one side, whenever they are written."""
    draw = F.conv(F.substring(F.sha2(F.concat(F.lit("userqa|"), F.col("user_id")), 256), 1, 8), 16, 10)
    return F.when(draw.cast("bigint") < F.lit(int(validation_share * 2**32)), "validation").otherwise("train")


def _edges(asked: Questions, wide: DataFrame) -> dict[str, Sequence[float]]:
    """Where each question's intervals part: its bands, or quantiles of the training split where it is asked."""
    cut = {q.name: q for q in asked.questions if q.answer.levels is not None}
    edges: dict[str, Sequence[float]] = {q.name: q.answer.bands for q in asked.questions}
    if cut:
        shares = {n: [step / n for step in range(1, n)] for n in range(2, 8)}
        quantiles = [
            F.percentile_approx(_when_asked(q, asked_of(q, F.col(name))), shares[q.answer.levels or 2], 10_000).alias(
                name
            )
            for name, q in cut.items()
        ]
        found = wide.where(F.col("split") == "train").agg(*quantiles).collect()[0]
        edges |= {name: level_edges(found[name], q.measure in WHOLE) for name, q in cut.items()}
    return edges


def _spreads(asked: Questions, pairs: DataFrame) -> dict[str, Spread]:
    """By question, also of one that nobody could be asked: an interest or a value that no user has."""
    counts = pairs.groupBy("question", "answer").count()
    rows = (
        counts.groupBy("question")
        .agg(F.sum("count").alias("rows"), F.count(F.lit(1)).alias("answers"), F.max("count").alias("most"))
        .orderBy("question")
        .collect()
    )
    unasked = Spread(rows=0, answers=0, commonest=0.0)
    return {question.name: unasked for question in asked.questions} | {
        row["question"]: Spread(rows=row["rows"], answers=row["answers"], commonest=row["most"] / row["rows"])
        for row in rows
    }
