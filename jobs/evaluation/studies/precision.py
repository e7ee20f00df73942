"""Instruction precision (paper, section 3.3.3): what an exact instruction is worth beside a vague and a wrong one."""

from __future__ import annotations

from typing import Any

from jobs.evaluation.result_cache import Cell
from jobs.evaluation.results import Result
from jobs.evaluation.scores import DIFFERENCES, PROTOTYPES, TITLES, Probe, difference, line, score, tables
from jobs.evaluation.studies.study import Study
from jobs.evaluation.studies.table2 import UNIVERSAL

VAGUE = ("Tell something about this user.", "Describe the user.", "What can be said about this user?")
"""Instructions that ask for nothing; a scenario's figure is the mean over them."""
EXACT, VAGUE_NAME, WRONG = "exact", "vague", "wrong"


def precision(study: Study) -> Result:
    """AUC and KS with the scenario's own instruction, with vague ones, with the other scenarios', and with none."""
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
        title="How precise an instruction must be",
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
                Probe(group=group, method=method, features=vectors_UKH[group.row_U, number])
                for method, number in columns
            ]
        return score(probes)

    return study.cell(
        "exact, vague and wrong", study.plan, seed, work, kind="precision", instructions=exact, vague=list(VAGUE)
    )
