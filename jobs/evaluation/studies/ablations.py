"""Ablations: the paper's Table 3 and our own switches, each a training without a part of the model.

The full row of the paper's table is the universal row of its Table 2, so its ablations are probed on universal vectors.
This study probes universal and manual vectors; rows are ordered by the manual ones.
"""

from __future__ import annotations

from collections.abc import Sequence

from jobs.evaluation.figures import ALL, line, tables
from jobs.evaluation.results import Result
from jobs.evaluation.studies.study import Study, StudyError
from jobs.evaluation.studies.table2 import MANUAL, MODES, UNIVERSAL, modes
from jobs.evaluation.studies.variants import VARIANTS, Plan
from model.errors import ConfigError

PAPER = (
    "rows marked * are the paper's Table 3, which has universal vectors: its full row is Table 2's universal row",
    "rows are ordered by the mean AUC of manual vectors, the best first",
)


def ablations(study: Study, only: Sequence[str] = ()) -> Result:
    """Train and probe every variant that this deployment allows, or only the named ones.

    Raises
    ------
    StudyError
        A variant is unknown, or a named one leaves nothing to train.
    """
    chosen, left_out = variant_plans(study, only)
    planned = {(name, seed): modes(study, name, plan, seed) for name, plan in chosen.items() for seed in study.seeds}
    scores = dict(zip(planned, study.run_cells([*planned.values()]), strict=True))
    notes = study.notes([*scores.values()])
    lines = [
        line(name + " *" * VARIANTS[name].paper, [scores[name, seed] for seed in study.seeds], mode, part=mode)
        for mode in MODES
        for name in chosen
    ]
    rank = sorted((row for row in lines if row.part == MANUAL), key=lambda row: -row.auc[ALL].mean)
    order = {row.name: place for place, row in enumerate(rank)}
    lines.sort(key=lambda row: ((MANUAL, UNIVERSAL).index(row.part), order[row.name]))
    return Result(
        name="ablations",
        title="Ablations",
        tables=tables(lines, study.names, "variant"),
        notes=(
            *PAPER,
            *notes,
            *(f"{name}: {VARIANTS[name].description}" for name in chosen),
            *(f"{name} was left out: {why}" for name, why in left_out.items()),
        ),
        data={"lines": lines, "scores": {f"{name}, seed {seed}": some for (name, seed), some in scores.items()}},
    )


def variant_plans(study: Study, only: Sequence[str]) -> tuple[dict[str, Plan], dict[str, str]]:
    """Return the plan of each variant, or of the named ones, and the reason for each variant that leaves nothing.

    Raises
    ------
    StudyError
        See `ablations`.
    """
    for name in only:
        if name not in VARIANTS:
            raise StudyError(f"there is no variant {name!r}; use some of {', '.join(VARIANTS)}")
    plans: dict[str, Plan] = {}
    left_out: dict[str, str] = {}
    for name, variant in VARIANTS.items():
        if only and name not in only:
            continue
        try:
            plans[name] = variant.of(study.plan, study.deployment)
        except ConfigError as error:
            if name in only:
                raise StudyError(
                    f"the variant {name!r} leaves nothing to train ({error}): leave --only {name} out"
                ) from error
            left_out[name] = str(error)
    return plans, left_out
