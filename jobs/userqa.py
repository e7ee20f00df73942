"""UserQA: what training reads. Profiles at earlier cut-offs, and questions with answers true of each user.

Two tables: `training_profiles`, everybody's profile at each cut-off of `userqa.as_of`, and `userqa`, the
question-answer pairs. An attribute is measured before the cut-off, a future from it on, and every future
ends at or before the earliest label's as_of: of the labels' tables only that one date is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from typing import Any

from pyspark.errors import AnalysisException, IllegalArgumentException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import BooleanType, NumericType

from jobs import sources, tables, templates
from jobs.answers import EMPTY_IS_ZERO, answer, asked_of, level_edges
from jobs.assemble import SAME, note_static, refuse_too_many
from jobs.deployment import Deployment, EventSource
from jobs.profiles import DAY_MICROS, EXACT, Totals, profiles, whole_days
from jobs.questions import TABULAR, WHOLE, Question, QuestionError, Questions
from jobs.tables import JobRun, TableError, job_run, moment

PROFILES, PAIRS = "training_profiles", "userqa"
PAIR = ("user_id", "question", "instruction", "answer", "axis", "split")
TIMES = {"weekday": templates.weekday, "daypart": templates.daypart, "month": templates.month,
         "hour": templates.hour}
"""Columns of the event's time that a question may name."""
INTEREST, FOUND = "interest", "__interest"
"""The column of what the event's text is about, and its name before a source's own column may take its place."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How a question's answers spread over users and cut-offs."""

    rows: int
    answers: int
    """Distinct ones."""
    commonest: float
    """Share of the commonest answer."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What one run of userqa did."""

    as_of: tuple[date, ...]
    profiles: int
    pairs: int
    replaced: int
    """Days of the two tables that were written; the others held the same rows."""
    questions: dict[str, Spread]
    seconds: float


def userqa(spark: SparkSession, deployment: Deployment) -> Asked:
    """Replace `training_profiles` and `userqa` at every cut-off, and drop what other cut-offs left there.

    The run is recorded in `job_runs` under the last cut-off.

    Raises
    ------
    QuestionError
        The questions do not fit the tables, or a future window ends after the earliest label's as_of.
    TableError
        A scenario names a table of labels that is not there.
    SourceError
        A source is missing or mistyped, or too many of its rows were refused.
    """
    asked = Questions.read(deployment.resolve(deployment.userqa.questions))
    cut_offs = sorted(set(deployment.userqa.as_of))
    with job_run(spark, deployment, "userqa", cut_offs[-1]) as run:
        run.details["shaping"] = deployment.shaping()
        opened = sources.opened(deployment, run.read)
        end = _check(run, asked, opened, cut_offs)
        replaced = _write_profiles(run, cut_offs)
        run.versions.pop(PROFILES, None)
        people = run.read(PROFILES).where(F.col("day").isin(cut_offs))
        wide = _measured(deployment, asked, opened, people, cut_offs, end).cache()
        # Each cut-off is written apart: the sentences, the largest of plans, are made once for all of them.
        pairs = _pairs(deployment, asked, wide).cache()
        replaced += [run.replace(pairs.where(F.col("as_of") == moment(cut_off)), PAIRS, PAIR, cut_off)
                     for cut_off in cut_offs]
        count = wide.count()
        pairs.unpersist()
        wide.unpersist()
        for table in (PROFILES, PAIRS):
            _drop_others(run, table, cut_offs)
        spreads = _spreads(tables.read(spark, deployment, PAIRS))
        run.rows_out = sum(spread.rows for spread in spreads.values())
        run.details["questions"] = {name: asdict(spread) for name, spread in spreads.items()}
        return Asked(as_of=tuple(cut_offs), profiles=count, pairs=run.rows_out, replaced=sum(replaced),
                     questions=spreads, seconds=run.seconds())


def _write_profiles(run: JobRun, cut_offs: Sequence[date]) -> list[bool]:
    """Replace `training_profiles` at each cut-off; whether each was written."""
    found = profiles(run.spark, run.deployment, cut_offs, run.read, run.started_at)
    try:
        _account(run, found.totals)
        return [run.replace(found.rows.where(F.col("as_of") == moment(cut_off)), PROFILES, SAME, cut_off)
                for cut_off in cut_offs]
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
        "accounts": {str(cut_off): {name: asdict(account) for name, account in at.accounts.items()}
                     for cut_off, at in totals.items()},
        "aggregates": {str(cut_off): at.aggregate_rows for cut_off, at in totals.items()}}
    note_static(run)
    for at in totals.values():
        refuse_too_many(run, at)


def _drop_others(run: JobRun, table: str, cut_offs: Sequence[date]) -> None:
    """A cut-off that the deployment no longer names must not be trained on."""
    there = tables.read(run.spark, run.deployment, table).select("day").distinct().collect()
    for day in {row["day"] for row in there} - set(cut_offs):
        tables.clear_day(run.spark, run.deployment.table(table), day)


def _check(run: JobRun, asked: Questions, opened: Mapping[str, DataFrame], cut_offs: Sequence[date]) -> date:
    """The day before which every event that a question reads must lie; all mistakes at once otherwise."""
    deployment = run.deployment
    mistakes = [words for question in asked.questions
                for words in _mistakes(question, asked.interests, deployment, opened)]
    mistakes += _unsearchable(run.spark, asked.interests)
    first_label = _first_label(run)
    ends = {cut_off: cut_off for cut_off in cut_offs}
    for question in asked.questions:
        for cut_off in cut_offs:
            end = cut_off + timedelta(days=question.span if question.future else 0)
            if question.last_as_of is not None and cut_off > question.last_as_of:
                continue
            ends[cut_off] = max(ends[cut_off], end)
            if question.future and first_label and end > first_label:
                mistakes.append(f"  {question.name}.days = {question.span}: asked as of {cut_off}, its "
                                f"window ends on {end}, after the earliest label's as_of {first_label}; "
                                f"shorten it, or name an earlier `last_as_of`")
    if first_label and cut_offs[-1] > first_label:
        mistakes.append(f"  userqa.as_of = {cut_offs[-1]}: after the earliest label's as_of {first_label}; "
                        "name earlier cut-offs")
    if mistakes:
        raise QuestionError(f"{deployment.resolve(deployment.userqa.questions)}: {len(mistakes)} mistake(s)\n"
                            + "\n".join(mistakes))
    return max(ends.values())


def _first_label(run: JobRun) -> date | None:
    """The earliest as_of of the scenarios' label tables; no other column of them is ever read."""
    named = {scenario.labels: scenario.name for scenario in run.deployment.scenarios if scenario.labels}
    missing = [f"  scenarios.{scenario}.labels = {table}: there is no Delta table at {run.deployment.table(table)}; "
               "write it first, for no question may see what it is judged on, or remove the key until there are labels"
               for table, scenario in named.items() if not tables.exists(run.spark, run.deployment.table(table))]
    if missing:
        raise TableError(f"{run.deployment.path}: {len(missing)} mistake(s)\n" + "\n".join(missing))
    firsts = [run.read(table).agg(F.min(F.to_date("as_of")).alias("first")).collect()[0]["first"] for table in named]
    return min((first for first in firsts if first), default=None)


def _unsearchable(spark: SparkSession, interests: Mapping[str, str]) -> list[str]:
    """Patterns that Java, which searches for them, does not take."""
    java: Any = spark.sparkContext._jvm
    found = []
    for name, pattern in interests.items():
        try:
            java.java.util.regex.Pattern.compile(pattern)
        except IllegalArgumentException as error:
            problem = str(error).splitlines()[0]
            found.append(f"  interests.{name} = {pattern}: no regular expression ({problem})")
    return found


def _mistakes(question: Question, interests: Mapping[str, str], deployment: Deployment,
              opened: Mapping[str, DataFrame]) -> list[str]:
    """Where a question does not fit its source's columns."""
    name = question.name
    if question.source == TABULAR:
        if question.value in deployment.numbers:
            form = question.answer
            if form.bands or form.levels or form.yes_from is not None:
                return []
            return [f"  {name}.answer: {question.value} is a number; add bands, levels or yes_from"]
        if question.value in deployment.categories:
            return []
        return [f"  {name}.value = {question.value}: no tabular column; use one of "
                f"{', '.join([*deployment.numbers, *deployment.categories])}"]
    if question.source not in opened:
        known = [source.name for source in deployment.sources]
        return [f"  {name}.source = {question.source}: no source; use one of {', '.join([*known, TABULAR])}"]
    df = _with_words(opened[question.source], F.current_timestamp(),
                     F.lit("") if interests else None)
    found = []
    for key, expression in (("where", question.where), ("value", question.value)):
        if expression is None:
            continue
        try:
            dtype = df.select(F.expr(expression).alias("e")).schema["e"].dataType
            df.where(F.expr(expression).isNotNull())
        except AnalysisException as error:
            problem = str(error).split("\n")[0][:200]
            found.append(f"  {name}.{key} = {expression}: {problem}; columns are {', '.join(df.columns)}")
            continue
        if key == "where" and not isinstance(dtype, BooleanType):
            found.append(f"  {name}.where = {expression}: is {dtype.simpleString()}; write a condition")
        if key == "value" and question.measure in ("sum", "mean") and not isinstance(dtype, NumericType):
            found.append(f"  {name}.value = {expression}: is {dtype.simpleString()}; write a number")
    return found


def _with_words(df: DataFrame, time: Column, interest: Column | None) -> DataFrame:
    """What a question may name beside the source's own columns, which come first where names are equal."""
    words = {name: said(time) for name, said in TIMES.items()}
    if interest is not None:
        words[INTEREST] = interest
    own = {column.lower() for column in df.columns}  # Spark's names have no case
    return df.withColumns({name: column for name, column in words.items() if name not in own})


def _interests(events: DataFrame, interests: Mapping[str, str]) -> DataFrame:
    """What each distinct text is about: texts repeat, and hundreds of words are searched for in each."""
    about = F.coalesce(*[F.when(F.col("__text").rlike(f"(?iu){pattern}"), name)
                         for name, pattern in interests.items()])
    # Without a filter after it: Spark would move that, and the search with it, to before the texts are made distinct.
    return events.select("__text").distinct().withColumn(FOUND, about)


def _measured(deployment: Deployment, asked: Questions, opened: Mapping[str, DataFrame], people: DataFrame,
              cut_offs: Sequence[date], end: date) -> DataFrame:
    """One row per user and cut-off: user_id, as_of and a value per question, under its name."""
    tabular = [F.col("tabular")[q.value].alias(q.name) for q in asked.questions if q.source == TABULAR]
    wide = people.select("user_id", "as_of", *tabular)
    for source in deployment.sources:
        questions = [q for q in asked.questions if q.source == source.name]
        if questions:
            values = _source_values(opened[source.name], source, questions, asked.interests, cut_offs, end)
            wide = wide.join(values, ["user_id", "as_of"], "left")
    zeros = {q.name: F.coalesce(F.col(q.name), F.lit(0))
             for q in asked.questions if q.measure in EMPTY_IS_ZERO}
    return wide.withColumns(zeros)


def _source_values(df: DataFrame, source: EventSource, questions: Sequence[Question], interests: Mapping[str, str],
                   cut_offs: Sequence[date], end: date) -> DataFrame:
    """One grouping of a source: every question's value per user and cut-off."""
    named = " ".join(part for q in questions for part in (q.where, q.value) if part)
    judged = sources.judged_events(df, source)
    columns = [column for column in df.columns if column.lower() in named.lower()]  # SQL's names have no case
    past = max([q.span for q in questions if not q.future], default=0)
    ahead = max([q.span for q in questions if q.future], default=0)
    own = INTEREST in {column.lower() for column in df.columns}
    asked = interests if not own and re.search(rf"\b{INTEREST}\b", named.lower()) else {}
    since = cut_offs[0] - timedelta(days=past) if asked else None
    good = sources.events(judged, source, end, columns, texts_since=since).where(
        F.col("__rejected").isNull() & ~F.col("__repeated") & (F.col("__time") < moment(end)))
    if asked:
        good = good.join(_interests(good, asked), "__text", "left")
    rows = good.withColumn("as_of", F.explode(F.array(*[moment(c) for c in cut_offs])))
    away = F.unix_micros("__time") - F.unix_micros("as_of")
    rows = rows.where((away >= -past * DAY_MICROS) & (away < ahead * DAY_MICROS))
    # Whole days from the cut-off, rounded down: -1 is the day before it, 0 the day after its midnight.
    rows = rows.withColumn("__day", F.call_function("div", away - F.pmod(away, F.lit(DAY_MICROS)),
                                                    F.lit(DAY_MICROS)))
    rows = _with_words(rows, F.col("__time"), F.col(FOUND) if asked else None)
    # Questions share what they ask after: its words are made once.
    ranked = dict.fromkeys(str(q.value) for q in questions if q.measure in ("top", "distinct"))
    said = {value: f"__said_{number}" for number, value in enumerate(ranked)}
    rows = rows.withColumns({name: _words(value) for value, name in said.items()})
    top = [q for q in questions if q.measure == "top"]
    # A grouping needs one aggregate at least, and all questions may be about the commonest values.
    measured = [F.count(F.lit(1)).alias("__events"),
                *[_value(q, said).alias(q.name) for q in questions if q not in top]]
    values = rows.groupBy(F.col("__user").alias("user_id"), "as_of").agg(*measured).drop("__events")
    return values.join(_commonest(rows, top, said), ["user_id", "as_of"], "left") if top else values


def _inside(question: Question) -> Column:
    """Whether an event is one that the question asks about."""
    return _window(question) & F.expr(question.where) if question.where else _window(question)


def _window(question: Question) -> Column:
    day = F.col("__day")
    return (day >= 0) & (day < question.span) if question.future else (day < 0) & (day >= -question.span)


def _value(question: Question, said: Mapping[str, str]) -> Column:
    """The measure as an aggregate over a user's events near a cut-off; `said` has the column of a value's words."""
    inside, time, measure = _inside(question), F.col("__time"), question.measure
    if measure == "count":
        return F.count_if(inside)
    if measure == "share":
        return F.try_divide(F.count_if(inside) * 100.0, F.count_if(_window(question)))
    if measure == "recency":
        return whole_days(F.max(F.when(inside, time)), F.col("as_of"))
    if measure == "days_until":
        return whole_days(F.col("as_of"), F.min(F.when(inside, time)))
    if measure == "distinct":
        return F.size(F.collect_set(F.when(inside, F.col(said[str(question.value)]))))
    number = F.expr(str(question.value)).cast("double")
    # Exact decimals: a sum must not depend on the order of rows.
    exact = F.when(inside & ~F.isnan(number), number.try_cast(EXACT))
    total = F.try_sum(exact).cast("double")
    return total if measure == "sum" else F.try_divide(total, F.count(exact))


def _words(expression: str) -> Column:
    """The event's value as a text, null where there is none."""
    value = F.expr(expression).cast("string")
    words = F.substring(F.trim(F.regexp_replace(value, templates.BLANKS, " ")), 1, 100)
    return F.when(words != "", words)


def _commonest(rows: DataFrame, questions: Sequence[Question], said: Mapping[str, str]) -> DataFrame:
    """Each question's commonest texts per user and cut-off, the most frequent first; ties in alphabetical order.

    Counted by groups of rows, for comparing the elements of a list with one another takes their square.
    """
    asked = F.array(*[F.struct(F.lit(q.name).alias("question"),
                               F.when(_inside(q), F.col(said[str(q.value)])).alias("words")) for q in questions])
    said_rows = rows.select(F.col("__user").alias("user_id"), "as_of", F.inline(asked)).where("words IS NOT NULL")
    counted = said_rows.groupBy("user_id", "as_of", "question", "words").agg(F.count(F.lit(1)).alias("n"))
    ranked = F.struct((-F.col("n")).alias("n"), "words")
    return counted.groupBy("user_id", "as_of").agg(*[
        F.slice(F.sort_array(F.collect_list(F.when(F.col("question") == q.name, ranked))), 1, q.top)["words"]
        .alias(q.name) for q in questions])


def _pairs(deployment: Deployment, asked: Questions, wide: DataFrame) -> DataFrame:
    """The rows of `userqa`: each question's sentence for each user and cut-off, and the descriptions."""
    split = _split(deployment.userqa.validation_share)
    wide = wide.withColumn("split", split)
    edges = _edges(asked, wide)
    sentences = {}
    for question in asked.questions:
        sentence = answer(question, F.col(question.name), edges[question.name])
        sentences[question.name] = _when_asked(question, sentence)
    told = wide.select("user_id", "as_of", "split", *[s.alias(name) for name, s in sentences.items()])
    entries = [_entry(q.name, _phrasing(q), F.col(q.name), q.axis) for q in asked.questions]
    entries += [_entry("general", F.lit(None).cast("string"), _description(names), None)
                for names in asked.general]
    entry = F.explode(F.filter(F.array(*entries), lambda e: e["answer"].isNotNull()))
    return told.select("user_id", "as_of", "split", entry.alias("e")).select(
        "user_id", "as_of", "e.question", "e.instruction", "e.answer", "e.axis", "split")


def _when_asked(question: Question, value: Column) -> Column:
    """Null at the cut-offs after its last: its window is cut short there."""
    if question.last_as_of is None:
        return value
    return F.when(F.col("as_of") <= moment(question.last_as_of), value)


def _entry(name: str, instruction: Column, sentence: Column, axis: str | None) -> Column:
    return F.struct(F.lit(name).alias("question"), instruction.alias("instruction"), sentence.alias("answer"),
                    F.lit(axis).cast("string").alias("axis"))


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
        quantiles = [F.percentile_approx(_when_asked(q, asked_of(q, F.col(name))), shares[q.answer.levels or 2],
                                         10_000).alias(name) for name, q in cut.items()]
        found = wide.where(F.col("split") == "train").agg(*quantiles).collect()[0]
        edges |= {name: level_edges(found[name], q.measure in WHOLE) for name, q in cut.items()}
    return edges


def _spreads(pairs: DataFrame) -> dict[str, Spread]:
    counts = pairs.groupBy("question", "answer").count()
    rows = counts.groupBy("question").agg(F.sum("count").alias("rows"), F.count(F.lit(1)).alias("answers"),
                                          F.max("count").alias("most")).orderBy("question").collect()
    return {row["question"]: Spread(rows=row["rows"], answers=row["answers"],
                                    commonest=row["most"] / row["rows"]) for row in rows}

