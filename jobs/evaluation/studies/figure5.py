"""The paper's figure 5: vectors of a sample of users, without and with an instruction, in two dimensions (t-SNE).

Each user of the sample is assigned to one scenario, as in the paper, whose scenarios have different users. Universal
vectors do not depend on the assignment. Manual vectors cluster by it if instructions change vectors; the silhouette of
the vectors (cosine distance) measures how much they do.

Shapes: Z users of the sample, H width of a vector.
"""

from __future__ import annotations

import html
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.evaluation import plots
from jobs.evaluation.result_cache import Cell
from jobs.evaluation.results import Result, Table
from jobs.evaluation.studies.study import Study, StudyError
from jobs.evaluation.studies.table2 import MANUAL, MODES, UNIVERSAL
from jobs.training.labels import LabelledUsers
from model.atomic_write import atomic_write_text

SAMPLE = 150
"""The maximum number of users of each scenario."""
PERPLEXITY = 30
MIN_USERS = 5
"""The minimum number of users of each scenario."""


def figure_5(study: Study) -> Result:
    """Draw the vectors of the first seed's network, and compute their silhouettes by scenario.

    Raises
    ------
    StudyError
        There is one scenario, or a scenario has too few users.
    """
    if len(study.groups) < 2:
        raise StudyError("the figure compares scenarios, and one alone has labels: name labels of another")
    seed = study.seeds[0]
    [result] = study.run_cells([_cell(study, seed)])
    names, scenario_Z = result["scenarios"], np.array(result["scenario"])
    plot_path, page_path = study.folder / "figure_5.png", study.folder / "figure_5.html"
    _draw({mode: np.array(result["plane"][mode]) for mode in MODES}, names, scenario_Z, result["silhouette"], plot_path)
    rows = tuple(
        (mode, *(f"{result['by_scenario'][mode][name]:+.3f}" for name in names), f"{result['silhouette'][mode]:+.3f}")
        for mode in MODES
    )
    table = Table(title="Silhouette by scenario", columns=("vectors", *names, "all"), rows=rows)
    counts = ", ".join(f"{name} {int((scenario_Z == number).sum())}" for number, name in enumerate(names))
    title = "Universal and manual vectors in two dimensions"
    notes = (
        f"users, each in one scenario: {counts}; seed {seed}, {study.plan.training.steps:,} steps of training",
        "silhouette of the vectors, by cosine: 1 is a separate cluster, 0 no difference, below 0 inside other clusters",
        f"t-SNE by cosine, perplexity {_perplexity(len(scenario_Z))}: distances between clusters mean nothing",
    )
    _write_page(page_path, title, notes, table, plot_path)
    return Result(
        name="figure_5",
        title=title,
        tables=(table,),
        notes=notes,
        plots=(plot_path, page_path),
        data={name: result[name] for name in ("silhouette", "by_scenario")},
    )


def sample(groups: Sequence[LabelledUsers], most: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows of the profiles and the number of the scenario to which each is assigned; each row has one.

    Raises
    ------
    StudyError
        A scenario has too few users that no other scenario has.
    """
    rng = np.random.default_rng([seed, 5])
    waiting = [rng.permutation(group.row_U).tolist() for group in groups]
    chosen: dict[int, int] = {}
    for _ in range(most):
        for number, rows in enumerate(waiting):
            while rows and rows[-1] in chosen:
                rows.pop()
            if rows:
                chosen[rows.pop()] = number
    scenario_Z = np.array([*chosen.values()], np.int64)
    for number, group in enumerate(groups):
        if (scenario_Z == number).sum() < MIN_USERS:
            raise StudyError(
                f"the figure needs {MIN_USERS} users of scenario {group.scenario!r} that no other scenario "
                f"has, and there are {(scenario_Z == number).sum()}: label more users"
            )
    return np.array([*chosen], np.int64), scenario_Z


def _cell(study: Study, seed: int) -> Cell:
    instructions = [scenario.instruction for scenario in study.scenarios]

    def work() -> dict[str, Any]:
        from sklearn.manifold import TSNE
        from sklearn.metrics import silhouette_samples

        row_Z, scenario_Z = sample(study.groups, SAMPLE, seed)
        trained = study.trained(study.plan, seed)
        vectors_ZKH = trained.embed([None, *instructions], trained.profiles.take(row_Z))
        chosen = {UNIVERSAL: vectors_ZKH[:, 0], MANUAL: vectors_ZKH[np.arange(len(row_Z)), 1 + scenario_Z]}
        result: dict[str, Any] = {
            "scenarios": [*study.names],
            "scenario": scenario_Z.tolist(),
            "plane": {},
            "silhouette": {},
            "by_scenario": {},
        }
        for mode, vectors_ZH in chosen.items():
            plane = TSNE(perplexity=_perplexity(len(row_Z)), metric="cosine", init="random", random_state=seed)
            result["plane"][mode] = np.round(plane.fit_transform(vectors_ZH), 3).tolist()
            value_Z = silhouette_samples(vectors_ZH, scenario_Z, metric="cosine")
            result["silhouette"][mode] = float(value_Z.mean())
            result["by_scenario"][mode] = {
                name: float(value_Z[scenario_Z == number].mean()) for number, name in enumerate(study.names)
            }
        return result

    return study.network_cell(
        "t-SNE",
        study.plan,
        seed,
        work,
        kind="figure 5",
        instructions=instructions,
        sample=SAMPLE,
        perplexity=PERPLEXITY,
    )


def _perplexity(users: int) -> int:
    return min(PERPLEXITY, max(2, users // 4))


def _draw(
    planes: dict[str, NDArray[np.float64]],
    names: Sequence[str],
    scenario_Z: NDArray[np.int64],
    silhouettes: dict[str, float],
    path: Path,
) -> None:
    figure, subplots = plots.axes(len(planes), "One vector for each user, coloured by scenario")
    for plot, (mode, plane_Z2) in zip(subplots, planes.items(), strict=True):
        for number, name in enumerate(names):
            x, y = plane_Z2[scenario_Z == number].T
            plot.scatter(x, y, s=9, alpha=0.75, linewidths=0, label=name, color=f"C{number % 10}")
        plot.set_title(f"{mode} (silhouette {silhouettes[mode]:+.3f})", fontsize=10)
        plot.set_xticks([])
        plot.set_yticks([])
    handles, labels = subplots[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=len(names), frameon=False, markerscale=2, fontsize=9
    )
    plots.save(figure, path)


def _write_page(path: Path, title: str, notes: Sequence[str], table: Table, plot: Path) -> None:
    """Write an HTML page that needs no other file."""

    def row(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    image = b64encode(plot.read_bytes()).decode()
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f"<title>{html.escape(title)}</title>",
        "<style>body{font:15px sans-serif;margin:2em auto;max-width:75em;padding:0 1em}img{max-width:100%}"
        "td,th{padding:.2em .8em;text-align:right}td:first-child,th:first-child{text-align:left}"
        "thead{border-bottom:1px solid}table{border-collapse:collapse}</style></head><body>",
        f"<h1>{html.escape(title)}</h1>",
        f'<img alt="t-SNE" src="data:image/png;base64,{image}">',
        f"<h2>{html.escape(table.title)}</h2>",
        f"<table><thead>{row(table.columns, 'th')}</thead><tbody>",
        *(row(cells, "td") for cells in table.rows),
        "</tbody></table>",
        "<ul>",
        *(f"<li>{html.escape(note)}</li>" for note in notes),
        "</ul></body></html>",
    ]
    atomic_write_text(path, "\n".join(lines) + "\n")
