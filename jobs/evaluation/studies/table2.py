"""The paper's Table 2: vectors without an instruction, with the one somebody wrote, and with one tuned on labels.

Tuning (eq. 6) sees the fit half of each of the probe's salts and nothing of the half that is scored: every salt has a
tuning of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jobs.config.sections import Scenario
from jobs.evaluation.result_cache import Cell
from jobs.evaluation.results import Result
from jobs.evaluation.scores import (
    DIFFERENCES,
    PROTOTYPES,
    TITLES,
    Probe,
    Score,
    comparable,
    difference,
    line,
    score,
    tables,
)
from jobs.evaluation.studies.study import Study
from jobs.evaluation.studies.variants import Plan
from jobs.training.labels import LabelledUsers
from model.training.probe import SPLIT_SEEDS, fit_half

if TYPE_CHECKING:
    from model.network.kv_cache import ProfileKVCache

UNIVERSAL, MANUAL = "universal", "manual"
MODES = (UNIVERSAL, MANUAL)
PAPER = "the paper's Table 2: AUC and KS of a linear probe over scenarios"


def table_2(study: Study, shots: Sequence[int | None] = (None,)) -> Result:
    """AUC and KS of the universal, manual and tuned vectors, a training for each seed.

    Parameters
    ----------
    shots
        Labelled users that an instruction is tuned on, a row each; None: all of the fit half.
    """
    plain = [modes(study, "universal and manual", study.plan, seed) for seed in study.seeds]
    tuned = [
        _tuned(study, scenario, group, some, seed)
        for seed in study.seeds
        for some in shots
        for scenario, group in zip(study.scenarios, study.groups, strict=True)
    ]
    # Those of one network side by side.
    order = sorted([*plain, *tuned], key=lambda cell: cell.decides["trained"]["seed"])
    found = dict(zip((cell.digest for cell in order), study.run_cells(order), strict=True))
    scores_N: list[list[Score]] = [[*found[cell.digest]] for cell in plain]
    for cell in tuned:
        scores_N[study.seeds.index(cell.decides["trained"]["seed"])] += found[cell.digest]
    notes, scores_N = study.notes(scores_N), comparable(scores_N)
    names = [*MODES, *(_name(some) for some in shots)]
    lines = [line(name, scores_N, name) for name in names]
    lines += [
        difference(f"{name} - {plain}", (scores_N, name), (scores_N, plain), part=DIFFERENCES)
        for number, plain in enumerate(MODES, start=1)
        for name in names[number:]
    ]
    return Result(
        name="table_2",
        title="Universal, manual and tuned instructions",
        tables=tables(lines, study.names, "vectors", tuple(TITLES)),
        notes=(PAPER, *notes, PROTOTYPES, "tuned (n): on n labelled users of the half that the probe fits on"),
        data={"lines": lines, "scores": scores_N},
    )


def modes(study: Study, name: str, plan: Plan, seed: int, only: str | None = None) -> Cell:
    """The universal and manual vectors' scores of one network, in all scenarios or in one."""
    judged = [
        (scenario, group)
        for scenario, group in zip(study.scenarios, study.groups, strict=True)
        if only in (None, scenario.name)
    ]
    instructions, groups = [scenario.instruction for scenario, _ in judged], [group for _, group in judged]

    def work() -> list[dict[str, Any]]:
        return score(mode_probes(groups, study.trained(plan, seed).embed([None, *instructions])))

    return study.cell(name, plan, seed, work, groups=groups, kind="modes", instructions=instructions)


def mode_probes(groups: Sequence[LabelledUsers], vectors_UKH: NDArray[np.float32]) -> list[Probe]:
    """Probes of the universal vectors, the first of the K, and of each scenario's own."""
    return [
        Probe(group=group, method=mode, features=vectors_UKH[group.row_U, column])
        for number, group in enumerate(groups, start=1)
        for mode, column in ((UNIVERSAL, 0), (MANUAL, number))
    ]


def tuned_vectors(
    read: ProfileKVCache, group: LabelledUsers, start_IH: NDArray[np.float32], salt: str, shots: int | None, seed: int
) -> NDArray[np.float32]:
    """An instruction's vectors `[I, H]`, tuned on labelled users of this salt's fit half; `read` has the group's."""
    from model.training.shots import draw_shots
    from model.training.tuning import tune

    half = np.flatnonzero(fit_half(group.user_ids, salt))
    chosen = half[draw_shots(group.label_U[half], shots, seed)]
    return tune(read, chosen, group.label_U[chosen], start_IH, seed=seed).vectors


def _tuned(study: Study, scenario: Scenario, group: LabelledUsers, shots: int | None, seed: int) -> Cell:
    """A scenario's scores with instructions tuned on so many shots."""
    from model.training.tuning import TuningConfig

    def work() -> list[dict[str, Any]]:
        from model.network.kv_cache import ProfileKVCache
        from model.training.shots import TuningError
        from model.training.tuning import start_vectors

        trained = study.trained(study.plan, seed)
        read = ProfileKVCache(trained.network, trained.tokenizers, trained.profiles.take(group.row_U))
        start_IH = start_vectors(trained.network, trained.tokenizers, scenario.instruction)
        try:
            return score(
                [
                    Probe(
                        group=group,
                        method=_name(shots),
                        salts=(salt,),
                        features=read.embed(tuned_vectors(read, group, start_IH, salt, shots, seed)),
                    )
                    for salt in SPLIT_SEEDS
                ]
            )
        except TuningError as error:  # it must not cost the other scenarios theirs
            return [{"scenario": scenario.name, "method": _name(shots), "why": str(error)}]

    return study.cell(
        f"{scenario.name}, {_name(shots)}",
        study.plan,
        seed,
        work,
        groups=[group],
        kind="tuned",
        instructions=[scenario.instruction],
        shots=shots,
        tuning=asdict(TuningConfig()),
    )


def _name(shots: int | None) -> str:
    return f"tuned ({'all' if shots is None else shots})"
