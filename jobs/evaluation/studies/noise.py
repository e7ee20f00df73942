"""Noise: the quality of vectors when a profile contains events of other users.

Events of other labelled users are added to every source of a profile. The network is trained on clean profiles; the
probe is fitted and scored on noisy ones.

Shapes: U users, E events of a source before, F after.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.evaluation import plots
from jobs.evaluation.figures import ALL, Line, line, tables
from jobs.evaluation.profile_arrays import DAY, event_counts, microseconds, whole_column
from jobs.evaluation.result_cache import Cell
from jobs.evaluation.results import Result
from jobs.evaluation.scores import score
from jobs.evaluation.studies.study import Study
from jobs.evaluation.studies.table2 import MODES, mode_probes, modes
from model.data.arrays import Ints
from model.data.config import EventSource
from model.data.time_bands import NO_BAND, time_bands

SHARES = (0.0, 0.2, 0.4, 0.6)
"""The share of noise among the events that the model reads."""


def noise(study: Study) -> Result:
    """Probe vectors of profiles with increasing shares of noise."""
    cells = {(share, seed): _cell(study, share, seed) for seed in study.seeds for share in SHARES}
    scores = dict(zip(cells, study.run_cells([*cells.values()]), strict=True))
    notes = study.notes([*scores.values()])
    lines = [
        line(f"{share:.0%}", [scores[share, seed] for seed in study.seeds], mode, part=mode)
        for mode in MODES
        for share in SHARES
    ]
    plot_path = study.folder / "noise.png"
    _draw(lines, plot_path)
    return Result(
        name="noise",
        title="Noise",
        plots=(plot_path,),
        tables=tables(lines, study.names, "noise"),
        notes=(
            *notes,
            "noise: the share of events of other users in each source; training profiles have none, and tabular "
            "columns keep their values",
        ),
        data={"lines": lines, "scores": {f"{share}, seed {seed}": some for (share, seed), some in scores.items()}},
    )


def _cell(study: Study, share: float, seed: int) -> Cell:
    if share == 0:
        return modes(study, "no noise", study.plan, seed)
    instructions = [scenario.instruction for scenario in study.scenarios]

    def work() -> list[dict[str, Any]]:
        noisy = with_noise(study.profiles, study.plan.config.sources, share, seed)
        vectors_UKH = study.trained(study.plan, seed).embed([None, *instructions], noisy)
        return score(mode_probes(study.groups, vectors_UKH))

    return study.network_cell(
        f"noise {share:.0%}", study.plan, seed, work, kind="noise", share=share, instructions=instructions
    )


def with_noise(profiles: pa.Table, sources: Sequence[EventSource], share: float, seed: int = 0) -> pa.Table:
    """Return profiles with added events of other users.

    A user with n events of a source gets n * share / (1 - share) more, rounded, drawn with replacement from the other
    users' events of that source. An added event is as long before `as_of` as in its own profile, so it is in the
    source's window. Events are ordered by time (ties: the user's own first), the last `max_events` are kept, and gaps
    and ages are computed again as in `assemble`. A user without events of a source gets none.
    """
    rng = np.random.default_rng([seed, 3])
    as_of_U = microseconds(whole_column(profiles, "as_of"))
    ages = {
        field.name: pc.struct_field(whole_column(profiles, "ages"), field.name)
        for field in profiles.schema.field("ages").type
    }
    for source in sources:
        events, age = _mixed(
            whole_column(profiles, source.name), ages[source.name], as_of_U, source.max_events, share, rng
        )
        profiles = profiles.set_column(profiles.column_names.index(source.name), source.name, events)
        ages[source.name] = age
    column = pa.StructArray.from_arrays([*ages.values()], names=[*ages])
    return profiles.set_column(profiles.column_names.index("ages"), "ages", column)


def _mixed(
    events: pa.Array, age: pa.Array, as_of_U: Ints, max_events: int, share: float, rng: np.random.Generator
) -> tuple[pa.Array, pa.Array]:
    """Return a source's events with noise, and the ages of their last event."""
    count_U = event_counts(events)
    flat = pc.list_flatten(events)
    start_U, user_E = np.cumsum(count_U) - count_U, np.repeat(np.arange(len(count_U)), count_U)
    time_E = microseconds(pc.struct_field(flat, "event_time"))
    before_E = as_of_U[user_E] - time_E
    others_U = len(user_E) - count_U
    extra_U = np.where(others_U > 0, np.rint(count_U * share / (1 - share)), 0).astype(np.int64)
    to_F = np.repeat(np.arange(len(count_U)), extra_U)
    drawn_F = rng.integers(0, np.maximum(1, others_U)[to_F])
    drawn_F += np.where(drawn_F >= start_U[to_F], count_U[to_F], 0)  # skips the user's own events
    user_F, event_F = np.concatenate([user_E, to_F]), np.concatenate([np.arange(len(user_E)), drawn_F])
    time_F = as_of_U[user_F] - before_E[event_F]
    order_F = np.lexsort((time_F, user_F))  # stable: the user's own events come first
    user_F, event_F, time_F = user_F[order_F], event_F[order_F], time_F[order_F]
    total_U = np.bincount(user_F, minlength=len(count_U))
    from_end_F = np.cumsum(total_U)[user_F] - np.arange(len(user_F))
    kept_F = from_end_F <= max_events
    user_F, event_F, time_F = user_F[kept_F], event_F[kept_F], time_F[kept_F]
    total_U = np.bincount(user_F, minlength=len(count_U))
    end_U = np.cumsum(total_U)
    gap_F = time_bands(np.diff(time_F, prepend=0) // DAY)
    gap_F[(end_U - total_U)[total_U > 0]] = NO_BAND
    kind = flat.type
    parts = {
        "event_time": pa.array(time_F).cast(kind.field("event_time").type),
        "text": pc.struct_field(flat, "text").take(pa.array(event_F)),
        "gap": pa.array(gap_F).cast(kind.field("gap").type),
    }
    events_F = pa.StructArray.from_arrays([parts[field.name] for field in kind], fields=[*kind])
    lists = pa.ListArray.from_arrays(pa.array(np.concatenate([[0], end_U]), pa.int32()), events_F)
    some_U = total_U > 0
    last_U = np.where(some_U, time_F[np.maximum(end_U - 1, 0)] if len(time_F) else 0, 0)
    return lists, pa.array(time_bands((as_of_U - last_U) // DAY), mask=~some_U).cast(age.type)


def _draw(lines: Sequence[Line], path: Path) -> None:
    figure, [plot] = plots.axes(1, "Mean AUC over scenarios by share of noise")
    for mode in MODES:
        figures = [row.auc[ALL] for row in lines if row.part == mode]
        plot.errorbar(
            [100 * share for share in SHARES],
            [one.mean for one in figures],
            yerr=[one.spread or 0 for one in figures],
            marker="o",
            capsize=3,
            label=mode,
        )
    plot.set_xlabel("events of other users, %")
    plot.set_ylabel("AUC of a linear probe")
    plot.legend(frameon=False)
    plots.save(figure, path)
