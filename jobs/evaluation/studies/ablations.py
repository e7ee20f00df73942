"""The paper's Table 3, and the same of our own switches: what is lost without a part of the model.

The paper's full row is its universal row of Table 2, so its ablations are probed on universal vectors; here both, and
the order is that of the manual ones.
"""

from __future__ import annotations

from collections.abc import Sequence

from jobs.evaluation.results import Result
from jobs.evaluation.scores import ALL, line, tables
from jobs.evaluation.studies.study import Study, StudyError
from jobs.evaluation.studies.table2 import MANUAL, MODES, UNIVERSAL, modes
from jobs.evaluation.studies.variants import VARIANTS, Plan
from model.errors import ConfigError

PAPER = (
    "the paper's Table 3 (rows marked *) is of universal vectors: its full row is Table 2's universal row",
    "rows by the mean AUC of manual vectors, the best first",
)


def ablations(study: Study, only: Sequence[str] = ()) -> Result:
    """Train and probe every variant that leaves something of the deployment, or only those named.

    Raises
    ------
    StudyError
        No such variant, or a named one leaves nothing.
    """
    chosen, left_out = plans(study, only)
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
        title="What is lost without a part",
        tables=tables(lines, study.names, "variant"),
        notes=(
            *PAPER,
            *notes,
            *(f"{name}: {VARIANTS[name].says}" for name in chosen),
            *(f"{name} was left out: {why}" for name, why in left_out.items()),
        ),
        data={"lines": lines, "scores": {f"{name}, seed {seed}": some for (name, seed), some in scores.items()}},
    )


def plans(study: Study, only: Sequence[str]) -> tuple[dict[str, Plan], dict[str, str]]:
    """The plan of each variant, or of those named; and why there is none, for each that leaves nothing.

    Raises
    ------
    StudyError
        See `ablations`.
    """
    for name in only:
        if name not in VARIANTS:
            raise StudyError(f"there is no variant {name!r}; use some of {', '.join(VARIANTS)}")
    made: dict[str, Plan] = {}
    left_out: dict[str, str] = {}
    for name, variant in VARIANTS.items():
        if only and name not in only:
            continue
        try:
            made[name] = variant.of(study.plan, study.deployment)
        except ConfigError as error:
            if name in only:
                raise StudyError(
                    f"the variant {name!r} leaves nothing to train ({error}): leave --only {name} out"
                ) from error
            left_out[name] = str(error)
    return made, left_out
