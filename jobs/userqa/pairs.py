"""The rows of `userqa`: each question's sentence for each user and cut-off, and the descriptions without a question.

Shapes: R profiles.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.lake.delta import midnight
from jobs.lake.spark_tables import midnight_column
from jobs.userqa.answer_templates import level_edges, numeric_answers, worded_answers
from jobs.userqa.question import Question
from jobs.userqa.questions import Questions

DESCRIPTION = -1
"""The number of the rows that are descriptions, where other rows have the position of their question."""
ANSWERS = "user_id string, as_of bigint, split string, question int, answer string"


@dataclass(frozen=True, kw_only=True)
class Spread:
    """The distribution of a question's answers over users and cut-offs."""

    rows: int
    answers: int
    """Distinct answers."""
    commonest: float
    """Share of the commonest answer."""
    auc: float | None = None
    """How well profiles tell the answers (`answer_sample`); None: not measured."""


def question_pairs(questions: Questions, values: DataFrame, validation_share: float) -> DataFrame:
    """Return the rows of `userqa` from the `values` of `question_values`, which is read twice: cache it."""
    values = values.withColumn("split", _split(validation_share))
    answers = _Answers(questions=questions, edges=_edges(questions, values))
    rows = values.withColumn("as_of", F.unix_micros("as_of")).mapInArrow(answers, ANSWERS)
    return rows.select(
        "user_id",
        F.timestamp_micros("as_of").alias("as_of"),
        _of_question([q.name for q in questions.questions], "general").alias("question"),
        _phrasing(questions).alias("instruction"),
        "answer",
        F.col("answer").eqNullSafe(_of_question([q.answer.none for q in questions.questions], None)).alias("is_none"),
        _of_question([q.axis for q in questions.questions], None).alias("axis"),
        "split",
    )


@dataclass(frozen=True, kw_only=True)
class _Answers:
    """Write the sentences of the values of any number of profiles."""

    questions: Questions
    edges: Mapping[str, Sequence[float]]

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            if len(batch):
                yield self._rows(batch)

    def _rows(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return a row per answer; `question` is a position in the questions, or `DESCRIPTION`."""
        answers = self._answers(batch)
        positions = {question.name: position for position, question in enumerate(self.questions.questions)}
        columns = [(positions[name], answer_R) for name, answer_R in answers.items()]
        for names in self.questions.general:
            parts = zip(*[answers[name].to_pylist() for name in names], strict=True)
            columns.append(
                (DESCRIPTION, pa.array([" ".join(filter(None, part)) or None for part in parts], pa.string()))
            )
        given = [(position, answer_R.is_valid(), answer_R) for position, answer_R in columns]
        repeated = {
            name: pa.concat_arrays([batch[name].filter(valid_R) for _, valid_R, _ in given])
            for name in ("user_id", "as_of", "split")
        }
        numbers = [pa.array(np.full(pc.sum(valid_R).as_py(), position, np.int32)) for position, valid_R, _ in given]
        texts = [answer_R.drop_null() for *_, answer_R in given]
        return pa.RecordBatch.from_pydict(
            {**repeated, "question": pa.concat_arrays(numbers), "answer": pa.concat_arrays(texts)}
        )

    def _answers(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        """Return the sentences of each question, one per profile; null where there is no pair."""
        answers = {}
        for position, question in enumerate(self.questions.numeric):
            number_R = pc.list_element(batch["numbers"], position).to_numpy(zero_copy_only=False)
            answers[question.name] = numeric_answers(question, number_R, self.edges[question.name])
        for position, question in enumerate(self.questions.worded):
            answers[question.name] = worded_answers(question, pc.list_element(batch["words"], position))
        for question in self.questions.questions:
            if question.last_as_of is not None:
                last = int(midnight(question.last_as_of).timestamp() * 1_000_000)
                has_question_R = pc.less_equal(batch["as_of"], last)
                answers[question.name] = pc.if_else(has_question_R, answers[question.name], None)
        return answers


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
    of_all = [(n, q) for n, q in enumerate(questions.numeric) if q.answer.of_all_users]
    if of_all:
        columns = [
            F.percentile_approx(_value_among_all(q, F.col("numbers")[n]), _shares_below(q), 10_000) for n, q in of_all
        ]
        row = values.where(F.col("split") == "train").agg(*columns).collect()[0]
        edges |= {q.name: _quantile_edges(q, quantiles) for (_, q), quantiles in zip(of_all, row, strict=True)}
    return edges


def _shares_below(question: Question) -> list[float]:
    """Return the shares of the users below each edge."""
    if question.answer.yes_share is not None:
        return [1 - question.answer.yes_share]
    levels = question.answer.levels or 1
    return [step / levels for step in range(1, levels)]


def _quantile_edges(question: Question, quantiles: Sequence[float] | None) -> Sequence[float]:
    """Return the edges of a question's intervals: its quantiles, rounded where the answer's text may have them.

    `quantiles` are None where no user has a value.
    """
    if question.answer.yes_share is not None:
        return quantiles or [0.0]
    return level_edges(quantiles, question.kind.whole)


def _value_among_all(question: Question, value: Column) -> Column:
    """Return the value that quantiles are of; null where the question is not asked, or no level is the answer."""
    if question.answer.levels is not None and question.answer.none is not None and question.kind.none_at_zero:
        value = F.when(value > 0, value)
    if question.last_as_of is not None:
        value = F.when(F.col("as_of") <= midnight_column(question.last_as_of), value)
    return value


def _of_question(values: Sequence[str | None], otherwise: str | None) -> Column:
    """Return the value of each row's question; `otherwise` for a description."""
    known = F.get(F.array(*map(F.lit, values)), F.col("question"))
    return F.when(F.col("question") == DESCRIPTION, F.lit(otherwise)).otherwise(known)


def _phrasing(questions: Questions) -> Column:
    """Return the user's phrasing of the instruction, by a hash of the user and the question."""
    phrasings = F.get(F.array(*[F.array(*map(F.lit, q.phrasings)) for q in questions.questions]), F.col("question"))
    name = _of_question([q.name for q in questions.questions], None)
    return F.get(phrasings, F.pmod(F.xxhash64("user_id", name), F.size(phrasings)).cast("int"))
