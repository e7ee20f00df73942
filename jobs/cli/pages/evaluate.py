"""The page of `evaluate` on a release."""

from __future__ import annotations

from statistics import mean
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from jobs.console.tables import table
from jobs.console.text import count

if TYPE_CHECKING:
    from jobs.evaluation.evaluate import EvaluationResult


def evaluation_page(result: EvaluationResult) -> RenderableType:
    """Return AUC and KS of vectors and baselines per scenario, and the vectors' AUC less the best baseline's."""
    parts = [_scores(result)]
    if result.difference:
        parts.append(_differences(result))
    return Group(
        *parts,
        *(Text(f"{scenario} was not probed: {reason}") for scenario, reason in result.not_probed.items()),
        *(Text(f"{scenario}: {left_out}") for scenario, left_out in result.left_out.items() if str(left_out)),
        *(
            Text(f"{scenario} was tuned on {count(users, 'user')}: probed on the one split that scores none of them")
            for scenario, users in result.tuned.items()
        ),
        *([Text(result.unconverged)] if result.unconverged else []),
        *([Text(f"Next: {result.next}")] if result.next else []),
    )


def _scores(result: EvaluationResult) -> RenderableType:
    methods = list(dict.fromkeys(method for scores in result.auc.values() for method in scores))
    rows = [
        (
            scenario,
            result.users[scenario],
            *(
                f"{scores[method]:.3f} / {result.ks[scenario][method]:.3f}" if method in scores else ""
                for method in methods
            ),
        )
        for scenario, scores in result.auc.items()
    ]
    means = ("mean", None, *(f"{mean(scores[method] for scores in result.auc.values()):.3f}" for method in methods))
    title = f"Probe of release {result.release}: AUC / KS, means over {count(result.splits, 'split')}"
    return table(title, ("scenario", "users", *methods), [*rows, means])


def _differences(result: EvaluationResult) -> RenderableType:
    vectors = next(iter(result.difference.values()))
    rows = [
        (
            scenario,
            result.best_baseline[scenario],
            *(f"{over[vector]:+z.3f}" + _deviation(result, scenario, vector) for vector in vectors),
        )
        for scenario, over in result.difference.items()
    ]
    title = "AUC of the vectors less AUC of the best baseline, on the same splits"
    return table(title, ("scenario", "best baseline", *vectors), rows)


def _deviation(result: EvaluationResult, scenario: str, vector: str) -> str:
    """Return the standard deviation over splits; empty where there is one split."""
    single = result.splits == 1 or scenario in result.tuned
    return "" if single else f" ± {result.difference_std[scenario][vector]:.3f}"
