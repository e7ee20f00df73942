"""All rows of some users, and the values of the questions about them.

Shapes: N events of a source, M some of them, C conditions, W texts, R profiles, Q questions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from jobs.userqa.expressions import Expressions, Number, Window, condition, number, window
from jobs.userqa.measures import Events, Integers, Numbers
from jobs.userqa.question import Question
from jobs.userqa.questions import Questions
from model.data.arrays import equal_lists

PROFILE = -1
"""The `source` of a row that is a profile; its `time` is the cut-off. Other rows are events."""

CHUNK_ROWS = 100_000


@dataclass(frozen=True, kw_only=True)
class _SourceEvents:
    """The events of a source, and the values of its questions' expressions."""

    expressions: Expressions
    user_N: Integers
    time_N: Integers
    condition_NC: npt.NDArray[np.bool_]
    text_NW: Integers
    """Positions in the texts of the chunk, -1 for none."""
    numbers: pa.Array
    """The numbers of all events, those of an event beside each other."""

    @classmethod
    def of(cls, rows: pa.Table, user_N: Integers, texts: pa.Array, expressions: Expressions) -> _SourceEvents:
        """Read the rows of a source; `texts` are those of the chunk."""
        return cls(
            expressions=expressions,
            user_N=user_N,
            time_N=rows["time"].to_numpy(),
            condition_NC=_flat(rows["conditions"])
            .to_numpy(zero_copy_only=False)
            .reshape(len(rows), len(expressions.conditions)),
            text_NW=pc.fill_null(pc.index_in(_flat(rows["words"]), texts, skip_nulls=True), -1)
            .to_numpy(zero_copy_only=False)
            .astype(np.int64)
            .reshape(len(rows), len(expressions.words)),
            numbers=_flat(rows["numbers"]),
        )

    def number(self, number: Number, event_M: Integers) -> pa.Array:
        """Return a number of some of the events."""
        positions = self.expressions.numbers
        return self.numbers.take(pa.array(event_M * len(positions) + positions[number]))


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """The profiles and events of some users."""

    questions: Questions
    users: pa.Array
    user_R: Integers
    as_of_R: Integers
    """In microseconds."""
    tabular: pa.Array
    """The tabular numbers of all profiles, those of a profile beside each other."""
    tabular_words: pa.Array
    """The same of the tabular texts."""
    sources: Mapping[str, _SourceEvents]
    texts: Sequence[str]
    """The distinct texts of the events, in alphabetical order."""

    @classmethod
    def of(cls, rows: pa.Table, questions: Questions, sources: Sequence[str]) -> Chunk:
        """Read the rows of whole users; the `source` of an event is a position in `sources`."""
        user = rows["user_id"].combine_chunks().dictionary_encode()
        user_N, source_N = user.indices.to_numpy().astype(np.int64), rows["source"].to_numpy()
        is_profile = source_N == PROFILE
        profiles = rows.filter(pa.array(is_profile))
        texts = _flat(rows["words"].filter(pa.array(~is_profile))).unique().drop_null()
        texts = texts.take(pc.sort_indices(texts))
        return cls(
            questions=questions,
            users=user.dictionary,
            user_R=user_N[is_profile],
            as_of_R=profiles["time"].to_numpy(),
            tabular=_flat(profiles["tabular"]),
            tabular_words=_flat(profiles["words"]),
            sources={
                name: _SourceEvents.of(
                    rows.filter(pa.array(source_N == number)),
                    user_N[source_N == number],
                    texts,
                    Expressions.of(questions.about(name)),
                )
                for number, name in enumerate(sources)
            },
            texts=texts.to_pylist(),
        )

    def values(self) -> pa.Table:
        """Return user_id, as_of, numbers and words of each profile."""
        profiles = len(self.user_R)
        number_QR = np.full((len(self.questions.numeric), profiles), np.nan)
        word_QR = np.full((len(self.questions.worded), profiles), None, object)
        self._add_tabular(number_QR, word_QR)
        for as_of in np.unique(self.as_of_R):
            at = np.flatnonzero(self.as_of_R == as_of)
            cut_off = _CutOff(chunk=self, as_of=int(as_of), windows={})
            for question, number_R in zip(self.questions.numeric, number_QR, strict=True):
                if question.kind.number:
                    number_R[at] = question.kind.number(cut_off.events(question))[self.user_R[at]]
            for question, word_R in zip(self.questions.worded, word_QR, strict=True):
                if question.kind.words:
                    words = np.array(question.kind.words(cut_off.events(question)), object)
                    word_R[at] = words[self.user_R[at]]
        for question, number_R in zip(self.questions.numeric, number_QR, strict=True):
            if question.kind.zero_without_events:
                number_R[np.isnan(number_R)] = 0
        return pa.table(
            {
                "user_id": self.users.take(pa.array(self.user_R)),
                "as_of": self.as_of_R,
                "numbers": equal_lists(pa.array(number_QR.T.ravel(), from_pandas=True), profiles),
                "words": equal_lists(pa.array(word_QR.T.ravel().tolist(), pa.string()), profiles),
            }
        )

    def _add_tabular(self, number_QR: Numbers, word_QR: npt.NDArray[np.object_]) -> None:
        """Copy the values of the tabular questions."""
        for values, questions, value_QR in (
            (self.tabular, self.questions.numeric, number_QR),
            (self.tabular_words, self.questions.worded, word_QR),
        ):
            own = [position for position, question in enumerate(questions) if question.tabular]
            if own:
                value_RQ = values.to_numpy(zero_copy_only=False).reshape(-1, len(own))
                value_QR[own] = value_RQ.T


@dataclass(frozen=True, kw_only=True)
class _CutOff:
    """The events of a chunk as of a cut-off."""

    chunk: Chunk
    as_of: int
    windows: dict[tuple[str, Window], Integers]
    """The events of each window that was read: positions among the source's."""

    def events(self, question: Question) -> Events:
        """Return the events that a question reads."""
        parts = [
            (source, *self._inside(name, source, question))
            for name, source in self.chunk.sources.items()
            if question.reads(name)
        ]
        kind = question.kind.value
        return Events(
            user_N=np.concatenate([source.user_N[inside] for source, _, inside in parts]),
            user_in_window_N=np.concatenate([source.user_N[in_window] for source, in_window, _ in parts]),
            users=len(self.chunk.users),
            as_of=self.as_of,
            time_N=np.concatenate([source.time_N[inside] for source, _, inside in parts]),
            value_N=pa.concat_arrays([source.number(number(question), inside) for source, _, inside in parts])
            if kind == "number"
            else None,
            text_N=np.concatenate(
                [source.text_NW[inside, source.expressions.words[str(question.value)]] for source, _, inside in parts]
            )
            if kind == "text"
            else None,
            texts=self.chunk.texts,
            top=question.top,
        )

    def _inside(self, name: str, source: _SourceEvents, question: Question) -> tuple[Integers, Integers]:
        """Return the events of a source in the question's window, and those that also fulfil its condition."""
        near = window(question)
        if (name, near) not in self.windows:
            self.windows[name, near] = np.flatnonzero(near.contains(source.time_N - self.as_of))
        in_window = self.windows[name, near]
        if not question.where:
            return in_window, in_window
        condition_N = source.condition_NC[:, source.expressions.conditions[condition(question)]]
        return in_window, in_window[condition_N[in_window]]


def whole_users(batches: Iterable[pa.RecordBatch], rows_at_a_time: int = CHUNK_ROWS) -> Iterator[pa.Table]:
    """Yield rows that are sorted by user in tables that have all rows of their users.

    A table has about `rows_at_a_time` rows, and more where a single user has more.
    """
    kept: list[pa.RecordBatch] = []
    rows, least = 0, rows_at_a_time
    for batch in batches:
        kept.append(batch)
        rows += len(batch)
        if rows < least:
            continue
        table = pa.Table.from_batches(kept)
        last = pc.index(table["user_id"], table["user_id"][-1]).as_py()
        # For a user with more rows than that, the search is repeated when there are twice as many.
        least = rows_at_a_time if last else 2 * rows
        if last:
            yield table.slice(0, last)
            kept, rows = table.slice(last).to_batches(), len(table) - last
    if rows:
        yield pa.Table.from_batches(kept)


def _flat(lists: pa.ChunkedArray) -> pa.Array:
    return lists.combine_chunks().flatten()
