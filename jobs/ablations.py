"""The paper's Table 3, and the same of our own switches: what is lost without a part of the model.

The paper's full row is its universal row of Table 2, so its ablations are probed on universal vectors; here both, and
the order is that of the manual ones.
"""

from __future__ import annotations

from collections.abc import Sequence

from jobs.modes import MANUAL, MODES, UNIVERSAL, modes
from jobs.results import Result
from jobs.scores import ALL, line, tables
from jobs.study import Study, StudyError
from jobs.variants import VARIANTS, Variant
from model.config import ConfigError

PAPER = ("the paper's Table 3 (rows marked *) is of universal vectors: its full row is Table 2's universal row",
         "rows by the mean AUC of manual vectors, the best first")


def ablations(study: Study, only: Sequence[str] = ()) -> Result:
    """Train and probe every variant, or only those named.

    Raises
    ------
    StudyError
        No such variant, or one that leaves nothing of this deployment's profiles.
    """
    chosen = _chosen(only)
    planned = [(variant, seed) for variant in chosen for seed in study.seeds]
    cells = []
    for variant, seed in planned:
        try:
            plan = variant.of(study.plan, study.deployment)
        except ConfigError as error:
            raise StudyError(f"the variant {variant.name!r} leaves nothing to train ({error}): name others with "
                             "--only") from error
        cells.append(modes(study, variant.name, plan, seed))
    scores = dict(zip(((variant.name, seed) for variant, seed in planned), study.run_cells(cells), strict=True))
    notes = study.notes([*scores.values()])
    lines = [line(variant.name + " *" * variant.paper, [scores[variant.name, seed] for seed in study.seeds], mode,
                  part=mode) for mode in MODES for variant in chosen]
    rank = sorted((row for row in lines if row.part == MANUAL), key=lambda row: -row.auc[ALL].mean)
    order = {row.name: place for place, row in enumerate(rank)}
    lines.sort(key=lambda row: ((MANUAL, UNIVERSAL).index(row.part), order[row.name]))
    return Result(name="ablations", title="What is lost without a part", tables=tables(lines, study.names, "variant"),
                  notes=(*PAPER, *notes, *(f"{variant.name}: {variant.says}" for variant in chosen)),
                  data={"lines": lines, "scores": {f"{name}, seed {seed}": some
                                                   for (name, seed), some in scores.items()}})


def _chosen(only: Sequence[str]) -> list[Variant]:
    for name in only:
        if name not in VARIANTS:
            raise StudyError(f"there is no variant {name!r}; use some of {', '.join(VARIANTS)}")
    return [variant for name, variant in VARIANTS.items() if not only or name in only]
