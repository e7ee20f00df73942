"""The rows of `userqa`: each question's sentence for each user and cut-off, and the descriptions without a question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.lake.spark_tables import midnight_column
from jobs.userqa.answer_templates import answer_text, level_edges, value_for_intervals
from jobs.userqa.question import Question
from jobs.userqa.questions import Questions


@dataclass(frozen=True, kw_only=True)
class Spread:
    """The distribution of a question's answers over users and cut-offs."""

    rows: int
    answers: int
    """Distinct answers."""
    commonest: float
    """Share of the commonest answer."""


def question_pairs(questions: Questions, values: DataFrame, validation_share: float) -> DataFrame:
    """Return the rows of `userqa` from the `values` of `question_values`."""
    values = values.withColumn("split", _split(validation_share))
    edges = _edges(questions, values)
    sentences = []
    for question in questions.questions:
        sentence = answer_text(question, F.col(question.name), edges[question.name])
        sentences.append(_until_last_as_of(question, sentence).alias(question.name))
    rows = values.select("user_id", "as_of", "split", *sentences)
    entries = [_entry(q.name, _phrasing(q), F.col(q.name), q.axis) for q in questions.questions]
    entries += [_entry("general", F.lit(None).cast("string"), _description(names), None) for names in questions.general]
    pairs = rows.select("user_id", "as_of", F.inline(F.array(*entries)), "split")
    return pairs.where(F.col("answer").isNotNull())


def answer_spreads(questions: Questions, pairs: DataFrame) -> dict[str, Spread]:
    """Return the spread of each question, and one of zeros for a question without any answer."""
    counts = pairs.groupBy("question", "answer").count()
    rows = (
        counts.groupBy("question")
        .agg(F.sum("count").alias("rows"), F.count(F.lit(1)).alias("answers"), F.max("count").alias("most"))
        .orderBy("question")
        .collect()
    )
    empty = Spread(rows=0, answers=0, commonest=0.0)
    return {question.name: empty for question in questions.questions} | {
        row["question"]: Spread(rows=row["rows"], answers=row["answers"], commonest=row["most"] / row["rows"])
        for row in rows
    }


def _split(validation_share: float) -> Column:
    """Return the split by a hash of the user alone, so that all pairs of a user are in one, at every cut-off."""
    draw = F.conv(F.substring(F.sha2(F.concat(F.lit("userqa|"), F.col("user_id")), 256), 1, 8), 16, 10)
    return F.when(draw.cast("bigint") < F.lit(int(validation_share * 2**32)), "validation").otherwise("train")


def _edges(questions: Questions, values: DataFrame) -> dict[str, Sequence[float]]:
    """Return the edges of each question's intervals: its bands, or quantiles of the training split."""
    edges: dict[str, Sequence[float]] = {q.name: q.answer.bands for q in questions.questions}
    with_levels = [q for q in questions.questions if q.answer.levels is not None]
    if with_levels:
        shares = {n: [step / n for step in range(1, n)] for n in range(2, 8)}
        quantiles = [
            F.percentile_approx(
                _until_last_as_of(q, value_for_intervals(q, F.col(q.name))), shares[q.answer.levels or 2], 10_000
            ).alias(q.name)
            for q in with_levels
        ]
        row = values.where(F.col("split") == "train").agg(*quantiles).collect()[0]
        edges |= {q.name: level_edges(row[q.name], q.kind.whole) for q in with_levels}
    return edges


def _until_last_as_of(question: Question, value: Column) -> Column:
    """Return the value, null at the cut-offs after the question's last, where its window is incomplete."""
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
    """Return the user's phrasing of the instruction, by a hash of the user and the question."""
    phrasings = [F.lit(text) for text in question.phrasings]
    if len(phrasings) == 1:
        return phrasings[0]
    number = F.pmod(F.xxhash64("user_id", F.lit(question.name)), F.lit(len(phrasings)))
    return F.get(F.array(*phrasings), number.cast("int"))


def _description(names: Sequence[str]) -> Column:
    """Return the answers of these questions joined, null where the user has none of them."""
    joined = F.concat_ws(" ", *[F.col(name) for name in names])
    return F.when(joined != "", joined)
