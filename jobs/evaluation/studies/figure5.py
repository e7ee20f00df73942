"""The paper's figure 5: a sample of users, embedded without an instruction and in the scenarios, on a plane (t-SNE).

Each user of the sample stands for one scenario, as in the paper, whose scenarios have users of their own. Universal
vectors cannot know it; the instructed ones gather by it as far as instructions move vectors. How far is told by the
silhouette of the vectors themselves (cosine distance), not of the picture.

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

from jobs.evaluation import plots as pictures
from jobs.evaluation.result_cache import Cell
from jobs.evaluation.results import Result, Table
from jobs.evaluation.studies.study import Study, StudyError
from jobs.evaluation.studies.table2 import MANUAL, UNIVERSAL
from jobs.training.labels import LabelledUsers
from model.atomic_write import atomic_write_text

SAMPLE = 150
"""Users of each scenario, where there are as many."""
PERPLEXITY = 30
FEWEST = 5
"""Users of a scenario below which nothing can be seen."""
TITLES = {UNIVERSAL: "universal", MANUAL: "instructed"}


def figure_5(study: Study) -> Result:
    """Draw the sample's vectors of the first seed's network, and tell their silhouettes by scenario.

    Raises
    ------
    StudyError
        One scenario only, or too few users of one.
    """
    if len(study.groups) < 2:
        raise StudyError("the figure tells scenarios apart, and there is one with labels: name labels of another")
    seed = study.seeds[0]
    [found] = study.run_cells([_cell(study, seed)])
    names, scenario_Z = found["scenarios"], np.array(found["scenario"])
    picture, page = study.folder / "figure_5.png", study.folder / "figure_5.html"
    _draw({mode: np.array(found["plane"][mode]) for mode in TITLES}, names, scenario_Z, found["silhouette"], picture)
    rows = tuple(
        (title, *(f"{found['by_scenario'][mode][name]:+.3f}" for name in names), f"{found['silhouette'][mode]:+.3f}")
        for mode, title in TITLES.items()
    )
    table = Table(title="Silhouette by scenario", columns=("vectors", *names, "all"), rows=rows)
    counts = ", ".join(f"{name} {int((scenario_Z == number).sum())}" for number, name in enumerate(names))
    title = "Universal and instructed vectors on a plane"
    notes = (
        f"users, each in one scenario: {counts}; seed {seed}, {study.plan.training.steps:,} steps of training",
        "silhouette: of the vectors, by cosine; 1 is a cluster of its own, 0 no difference, below 0 among others",
        f"t-SNE by cosine, perplexity {_perplexity(len(scenario_Z))}: distances between clusters mean nothing",
    )
    _page(page, title, notes, table, picture)
    return Result(
        name="figure_5",
        title=title,
        tables=(table,),
        notes=notes,
        pictures=(picture, page),
        data={name: found[name] for name in ("silhouette", "by_scenario")},
    )


def sample(groups: Sequence[LabelledUsers], most: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the profiles, and the number of the scenario that each stands for; no row stands for two.

    Raises
    ------
    StudyError
        A scenario with too few users that no other has.
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
        if (scenario_Z == number).sum() < FEWEST:
            raise StudyError(
                f"the figure needs {FEWEST} users of scenario {group.scenario!r} that stand for no other "
                f"scenario, and there are {(scenario_Z == number).sum()}: label more users"
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
        found: dict[str, Any] = {
            "scenarios": [*study.names],
            "scenario": scenario_Z.tolist(),
            "plane": {},
            "silhouette": {},
            "by_scenario": {},
        }
        for mode, vectors_ZH in chosen.items():
            plane = TSNE(perplexity=_perplexity(len(row_Z)), metric="cosine", init="random", random_state=seed)
            found["plane"][mode] = np.round(plane.fit_transform(vectors_ZH), 3).tolist()
            value_Z = silhouette_samples(vectors_ZH, scenario_Z, metric="cosine")
            found["silhouette"][mode] = float(value_Z.mean())
            found["by_scenario"][mode] = {
                name: float(value_Z[scenario_Z == number].mean()) for number, name in enumerate(study.names)
            }
        return found

    return study.cell(
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
    figure, plots = pictures.axes(len(planes), "One vector a user, coloured by the scenario that the user stands for")
    for plot, (mode, plane_Z2) in zip(plots, planes.items(), strict=True):
        for number, name in enumerate(names):
            x, y = plane_Z2[scenario_Z == number].T
            plot.scatter(x, y, s=9, alpha=0.75, linewidths=0, label=name, color=f"C{number % 10}")
        plot.set_title(f"{TITLES[mode]} (silhouette {silhouettes[mode]:+.3f})", fontsize=10)
        plot.set_xticks([])
        plot.set_yticks([])
    handles, labels = plots[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=len(names), frameon=False, markerscale=2, fontsize=9
    )
    pictures.save(figure, path)


def _page(path: Path, title: str, notes: Sequence[str], table: Table, picture: Path) -> None:
    """One HTML page that needs no other file."""

    def row(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    image = b64encode(picture.read_bytes()).decode()
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
