"""The paper's Table 2: vectors without an instruction, with the scenario's own, and with one tuned on labels.

Tuning (eq. 6) reads only the fit half of a split. Each split has its own tuning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jobs.config.sections import Scenario
from jobs.evaluation.figures import DIFFERENCES, PROTOTYPES, TITLES, difference, line, tables
from jobs.evaluation.result_cache import Cell
from jobs.evaluation.results import Result
from jobs.evaluation.scores import Probe, Score, comparable, score
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
    """Probe universal, manual and tuned vectors, with a training for each seed.

    Parameters
    ----------
    shots
        The numbers of labelled users that an instruction is tuned on, a row each; None: all of the fit half.
    """
    plain = [modes(study, "universal and manual", study.plan, seed) for seed in study.seeds]
    tuned = [
        _tuned(study, scenario, group, some, seed)
        for seed in study.seeds
        for some in shots
        for scenario, group in zip(study.scenarios, study.groups, strict=True)
    ]
    # Cells of one network follow each other, so that it is loaded once.
    order = sorted([*plain, *tuned], key=lambda cell: cell.inputs["trained"]["seed"])
    results = dict(zip((cell.digest for cell in order), study.run_cells(order), strict=True))
    scores_N: list[list[Score]] = [[*results[cell.digest]] for cell in plain]
    for cell in tuned:
        scores_N[study.seeds.index(cell.inputs["trained"]["seed"])] += results[cell.digest]
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
        notes=(PAPER, *notes, PROTOTYPES, "tuned (n): tuned on n labelled users of the fit half"),
        data={"lines": lines, "scores": scores_N},
    )


def modes(study: Study, name: str, plan: Plan, seed: int, only: str | None = None) -> Cell:
    """Return the cell with the scores of one network's universal and manual vectors, in all scenarios or in one."""
    selected = [
        (scenario, group)
        for scenario, group in zip(study.scenarios, study.groups, strict=True)
        if only in (None, scenario.name)
    ]
    instructions, groups = [scenario.instruction for scenario, _ in selected], [group for _, group in selected]

    def work() -> list[dict[str, Any]]:
        return score(mode_probes(groups, study.trained(plan, seed).embed([None, *instructions])))

    return study.network_cell(name, plan, seed, work, groups=groups, kind="modes", instructions=instructions)


def mode_probes(groups: Sequence[LabelledUsers], vectors_UKH: NDArray[np.float32]) -> list[Probe]:
    """Return probes of the universal vectors, the first of the K, and of each scenario's manual vectors."""
    return [
        Probe(group=group, method=mode, features=vectors_UKH[group.row_U, column], prototypes=True)
        for number, group in enumerate(groups, start=1)
        for mode, column in ((UNIVERSAL, 0), (MANUAL, number))
    ]


def tuned_vectors(
    cache: ProfileKVCache,
    group: LabelledUsers,
    start_IH: NDArray[np.float32],
    split_seed: str,
    shots: int | None,
    seed: int,
) -> NDArray[np.float32]:
    """Tune an instruction's vectors `[I, H]` on users of the split's fit half; `cache` has the group's profiles."""
    from model.training.shots import draw_shots
    from model.training.tuning import tune

    users = np.array(group.user_ids)
    half = np.flatnonzero(fit_half(group.user_ids, split_seed))
    chosen = half[draw_shots(group.label_U[half], shots, seed, user_ids=users[half])]
    return tune(cache, chosen, group.label_U[chosen], start_IH, user_ids=users[chosen], seed=seed).vectors


def _tuned(study: Study, scenario: Scenario, group: LabelledUsers, shots: int | None, seed: int) -> Cell:
    """Return the cell with a scenario's scores for an instruction tuned on this number of shots."""
    from model.training.tuning import TuningConfig

    def work() -> list[dict[str, Any]]:
        from model.network.kv_cache import ProfileKVCache
        from model.training.shots import TuningError
        from model.training.tuning import start_vectors

        trained = study.trained(study.plan, seed)
        cache = ProfileKVCache(trained.network, trained.tokenizers, trained.profiles.take(group.row_U))
        start_IH = start_vectors(trained.network, trained.tokenizers, scenario.instruction)
        try:
            return score(
                [
                    Probe(
                        group=group,
                        method=_name(shots),
                        split_seeds=(split_seed,),
                        prototypes=True,
                        features=cache.embed(tuned_vectors(cache, group, start_IH, split_seed, shots, seed)),
                    )
                    for split_seed in SPLIT_SEEDS
                ]
            )
        except TuningError as error:  # the other scenarios keep their scores
            return [{"scenario": scenario.name, "method": _name(shots), "why": str(error)}]

    return study.network_cell(
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
