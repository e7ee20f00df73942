"""Instruction precision (paper, section 3.3.3): exact instructions compared with vague and wrong ones."""

from __future__ import annotations

from typing import Any

from jobs.evaluation.figures import DIFFERENCES, PROTOTYPES, TITLES, difference, line, tables
from jobs.evaluation.instructions import VAGUE
from jobs.evaluation.result_cache import Cell
from jobs.evaluation.results import Result
from jobs.evaluation.scores import Probe, score
from jobs.evaluation.studies.study import Study
from jobs.evaluation.studies.table2 import UNIVERSAL

EXACT, VAGUE_NAME, WRONG = "exact", "vague", "wrong"


def precision(study: Study) -> Result:
    """Probe vectors with the scenario's own instruction, vague ones, the other scenarios' and none."""
    cells = [_cell(study, seed) for seed in study.seeds]
    scores_N = study.run_cells(cells)
    notes = study.notes(scores_N)
    methods = [EXACT, VAGUE_NAME, *([WRONG] if len(study.deployment.scenarios) > 1 else []), UNIVERSAL]
    lines = [line(method, scores_N, method) for method in methods]
    lines += [
        difference(f"{EXACT} - {other}", (scores_N, EXACT), (scores_N, other), part=DIFFERENCES)
        for other in methods[1:]
    ]
    return Result(
        name="precision",
        title="Instruction precision",
        tables=tables(lines, study.names, "instruction", tuple(TITLES)),
        notes=(
            *notes,
            "exact: the scenario's own instruction; universal: none",
            "vague: the mean over " + ", ".join(f'"{text}"' for text in VAGUE),
            "wrong: the mean over the other scenarios' instructions",
            PROTOTYPES,
        ),
        data={"lines": lines, "scores": scores_N},
    )


def _cell(study: Study, seed: int) -> Cell:
    exact = {scenario.name: scenario.instruction for scenario in study.deployment.scenarios}
    texts = [None, *VAGUE, *exact.values()]

    def work() -> list[dict[str, Any]]:
        vectors_UKH = study.trained(study.plan, seed).embed(texts)
        column = {name: 1 + len(VAGUE) + number for number, name in enumerate(exact)}
        probes = []
        for group in study.groups:
            columns = [(UNIVERSAL, 0), (EXACT, column[group.scenario])]
            columns += [(VAGUE_NAME, 1 + number) for number in range(len(VAGUE))]
            columns += [(WRONG, other) for name, other in column.items() if name != group.scenario]
            probes += [
                Probe(group=group, method=method, features=vectors_UKH[group.row_U, number], prototypes=True)
                for method, number in columns
            ]
        return score(probes)

    return study.network_cell(
        "exact, vague and wrong", study.plan, seed, work, kind="precision", instructions=exact, vague=list(VAGUE)
    )
