"""Measure how well the made-up company's labels can be predicted: from one hint alone, and from the hidden traits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from jobs.synthetic.attributes import attribute_rows
from jobs.synthetic.company import ATTRIBUTE_LABELS, DAY, LABELS, Chunk, Events, user_ids
from jobs.synthetic.event_texts import COLUMNS, SOURCES, texts

WINDOW = 365
"""Days before the first day whose events give hints."""


@dataclass(frozen=True, kw_only=True)
class Signal:
    """How well each label can be predicted, measured on the first chunk of users."""

    share: dict[str, float]
    """Share of users whose label is 1."""
    text: dict[str, tuple[str, float]]
    """The event text whose count (or presence) ranks users best, and its AUC."""
    column: dict[str, tuple[str, float]]
    """The attribute, count per value of a column, count per source or amount that does best, and its AUC."""
    ceiling: dict[str, float]
    """AUC of a logistic regression on the hidden traits and activity, 5-fold cross-validated.

    A label with a gate has a weight of each trait on either side of the gate.
    """

    def lines(self) -> list[tuple[str, str]]:
        """Return the name and value of everything, for printing."""
        return [
            (
                f"label {name}",
                f"share {self.share[name]:.3f}, best text {self.text[name][1]:.3f} "
                f"({self.text[name][0]}), best column {self.column[name][1]:.3f} ({self.column[name][0]}), "
                f"ceiling {self.ceiling[name]:.3f}",
            )
            for name in self.share
        ]


def measure(chunk: Chunk) -> Signal:
    """Measure how well events and attributes before the first day predict a chunk's labels."""
    events = {source: chunk.events(source) for source in SOURCES}
    label = chunk.labels(events)
    text_hints, column_hints = _text_hints(chunk, events), _column_hints(chunk, events)
    traits_UK, activity = chunk.traits_on_first_day(), chunk.activity()
    return Signal(
        share={name: float(label[name].mean()) for name in LABELS},
        text={name: _best(text_hints, label[name]) for name in LABELS},
        column={name: _best(column_hints, label[name]) for name in LABELS},
        ceiling={name: _ceiling(np.hstack([_sides(name, traits_UK), activity]), label[name]) for name in LABELS},
    )


def _sides(name: str, traits_UK: np.ndarray) -> np.ndarray:
    """Return the traits of users above the label's gate, and those of the others in columns of their own, [U, 2K]."""
    above_U = (
        ATTRIBUTE_LABELS[name].above_gate(traits_UK) if name in ATTRIBUTE_LABELS else np.ones(len(traits_UK), bool)
    )
    return np.hstack([traits_UK * above_U[:, None], traits_UK * ~above_U[:, None]])


def _ceiling(hidden: np.ndarray, label_U: np.ndarray) -> float:
    model = LogisticRegression(solver="newton-cholesky")
    predicted = cross_val_predict(model, hidden, label_U, cv=5, method="predict_proba")[:, [1]]
    return float(_auc(rankdata(predicted, axis=0), label_U)[0])


Hints = tuple[list[str], np.ndarray]
"""Names, and the ranks of users by each, float [U, hints]."""


def _before(chunk: Chunk, events: Events) -> np.ndarray:
    end = chunk.company.midnight
    return (events.time_E < end) & (events.time_E >= end - WINDOW * DAY)


def _counts(chunk: Chunk, source: str, events: Events) -> csr_matrix:
    """Return the number of events of each user with each text, [U, T]."""
    seen = _before(chunk, events)
    shape = (chunk.users, len(texts(source)))
    return csr_matrix((np.ones(seen.sum()), (events.user_E[seen] - chunk.start, events.text_E[seen])), shape=shape)


def _text_hints(chunk: Chunk, events: dict[str, Events]) -> Hints:
    names: list[str] = []
    ranks = []
    for source in SOURCES:
        counts = _counts(chunk, source, events[source]).toarray()
        common = np.flatnonzero((counts > 0).mean(axis=0) >= 0.01)
        rendered = texts(source).render()
        has = counts[:, common] > 0
        names += [f"{kind} {rendered[i]}" for kind in ("count", "has") for i in common]
        # Users with the text share one mean rank, and users without it another.
        ranks += [rankdata(counts[:, common], axis=0), (chunk.users - has.sum(axis=0) + 1) / 2 + has * chunk.users / 2]
    return names, np.hstack(ranks)


def _column_hints(chunk: Chunk, events: dict[str, Events]) -> Hints:
    hints: dict[str, np.ndarray] = {}
    for source in SOURCES:
        counts = _counts(chunk, source, events[source])
        hints[f"{source}: count"] = counts.sum(axis=1).A1
        columns = dict(texts(source).columns)
        if source == "page_paths":
            columns["root"] = np.array([path.split(" > ")[1] for path in columns["path"]], dtype=object)
        for name in (name for name in columns if len(COLUMNS[source]) > 1 or name == "root"):
            values, value_T = np.unique(columns[name].astype(str), return_inverse=True)
            per_value = counts @ np.eye(len(values))[value_T]
            hints.update({f"{source}: {name} {value}": per_value[:, i] for i, value in enumerate(values)})
    bills = events["bills"]
    seen = _before(chunk, bills)
    hints["bills: amount"] = np.bincount(bills.user_E[seen] - chunk.start, bills.amount_E[seen], chunk.users)
    hints["bills: mean amount"] = hints["bills: amount"] / np.maximum(hints["bills: count"], 1)
    hints.update(_attribute_hints(chunk))
    return list(hints), rankdata(np.column_stack(list(hints.values())), axis=0)


def _attribute_hints(chunk: Chunk) -> dict[str, np.ndarray]:
    rows = attribute_rows(chunk, chunk.company.midnight).to_pandas().dropna(subset=["user_id", "valid_from"])
    last = rows.sort_values("valid_from").groupby("user_id").last().sort_index()
    last = last.reindex(user_ids(chunk.start + np.arange(chunk.users)).to_pylist())
    hints = {}
    for name in last.columns.drop("valid_from"):
        if last[name].dtype == object:
            hints.update({f"{name} {v}": (last[name] == v).to_numpy(float) for v in last[name].dropna().unique()})
        else:
            hints[name] = last[name].fillna(last[name].median()).to_numpy(float)
    return hints


def _best(hints: Hints, label_U: np.ndarray) -> tuple[str, float]:
    names, ranks = hints
    scores = _auc(ranks, label_U)
    best = int(np.abs(scores - 0.5).argmax())
    return names[best], float(max(scores[best], 1 - scores[best]))


def _auc(ranks: np.ndarray, label_U: np.ndarray) -> np.ndarray:
    """Return the AUC of each column of ranks (ties averaged), float [hints]; 0.5 where all labels are equal."""
    ones = int(label_U.sum())
    zeros = len(label_U) - ones
    if not ones or not zeros:
        return np.full(ranks.shape[1], 0.5)
    return np.asarray((label_U @ ranks - ones * (ones + 1) / 2) / (ones * zeros))
