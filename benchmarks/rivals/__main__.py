"""InstructUE's vectors and its rivals', on the same profiles and the same salted halves; after `make demo`.

    python -m benchmarks.rivals --seeds 3
    python -m benchmarks.rivals --only CPC CoLES --lifestream build/lifestream/bin/python

Every cell (a rival, trained or not, of one seed) is kept in a file beside the releases and not done again while the
tables, the release and the rival's settings are the same. docs/rivals.md says how each rival is made.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from transformers.utils import logging as transformers_logging

from benchmarks.report import RESULTS, Row, write
from benchmarks.rivals.cells import Standing, standing
from benchmarks.rivals.contenders import chosen, contenders
from benchmarks.rivals.errors import RivalError
from benchmarks.rivals.language import PRETRAINED
from benchmarks.rivals.material import Material
from benchmarks.rivals.sequences import DEFAULT_PYTHON
from jobs.training.registry import releases_folder
from model.errors import InstructUEError

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.rivals", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, default=ROOT / "conf" / "demo.yaml", help="the deployment file")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of everything that is drawn")
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="WORD",
        help="do the rivals whose names hold a word; of the others the table has those that are done",
    )
    parser.add_argument(
        "--releases",
        nargs="+",
        type=Path,
        default=[],
        metavar="FOLDER",
        help="InstructUE's, one for each seed; by default the current one",
    )
    parser.add_argument("--lm", metavar="MODEL", help=f"a causal language model too: a folder or hub id ({PRETRAINED})")
    parser.add_argument("--embedder", metavar="FOLDER", help="a text embedder in the place of MiniLM")
    parser.add_argument(
        "--lifestream",
        type=Path,
        default=DEFAULT_PYTHON,
        metavar="PYTHON",
        help="the interpreter of an environment with pytorch-lifestream",
    )
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER", help="where the table goes")
    asked = parser.parse_args()
    transformers_logging.disable_progress_bar()
    try:
        compare(asked)
    except InstructUEError as error:
        sys.exit(str(error))


def compare(asked: argparse.Namespace) -> None:
    """Do every cell that is not done yet, and write the table."""
    material = Material.read(asked.config)
    kept = releases_folder(material.deployment) / "rivals"
    begin = time.perf_counter()

    def log(line: str) -> None:
        print(f"{time.perf_counter() - begin:6.0f}s  {line}", file=sys.stderr, flush=True)

    log(f"{len(material.training):,} training profiles, {len(material.profiles):,} labelled ones")
    standings: list[Standing] = []
    missing: list[str] = []
    listed = contenders(
        material, releases=asked.releases, lm=asked.lm, text_embedder=asked.embedder, python=asked.lifestream
    )
    wanted = chosen(listed, asked.only)
    for contender in listed:
        try:
            for trained in (True, False) if contender.untrained else (True,):
                seeds = contender.seeds if trained and contender.seeds is not None else range(asked.seeds)
                found = standing(
                    contender, material, kept, seeds=seeds, trained=trained, do=contender in wanted, log=log
                )
                standings += [found] if found else []
        except RivalError as error:
            log(str(error))
            missing.append(f"{contender.name} is left out: {error}.")
    if asked.lm is None:
        missing.append(f"No pretrained language model was given: fetch {PRETRAINED} and name its folder with --lm.")
    if standings:
        scenarios = [group.scenario for group in material.groups]
        labels = sum(len(group.label_U) for group in material.groups)
        write("rivals", rows(standings), text(standings, scenarios, labels, missing), asked.results)
    else:
        sys.exit("\n".join(missing))


def text(standings: Sequence[Standing], scenarios: Sequence[str], labels: int, missing: Sequence[str]) -> str:
    """What was measured, and both tables."""
    parts = [
        f"{labels:,} labels of {len(scenarios)} scenarios. Everybody's vectors are made of the same profiles and "
        "probed alike (logistic regression, standardised, its strength chosen inside; LightGBM as it is), half "
        "the users to fit and half to score, on five salted halves. A figure is the mean over seeds and halves, "
        "and its standard deviation over both. Untrained is the same network with fresh weights; `beats it` "
        "compares the mean AUC of both. docs/rivals.md says how each is made.",
        "## AUC\n\n" + table(standings, scenarios, "auc_NSA"),
        "## KS\n\n" + table(standings, scenarios, "ks_NSA"),
    ]
    return "\n\n".join([*parts, *missing, "## Means"])


def table(standings: Sequence[Standing], scenarios: Sequence[str], figure: str) -> str:
    """Rivals x scenarios as Markdown, the mean first; three digits."""
    lines = [["", "seeds", "mean", *scenarios]]
    for one in standings:
        values_NSA: NDArray[np.float64] = getattr(one, figure)
        spread = [values_NSA.mean(1), *values_NSA.swapaxes(0, 1)]
        lines.append([_line(one), str(len(values_NSA)), *(f"{some.mean():.3f} ± {some.std():.3f}" for some in spread)])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    rows = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    rows.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(rows)


def rows(standings: Sequence[Standing]) -> list[Row]:
    """The mean of each line, and how far each trained one is above its untrained self."""
    made = [Row(name=_line(one), value=round(float(one.auc_NSA.mean()), 4), unit="AUC") for one in standings]
    fresh = {one.name: float(one.auc_NSA.mean()) for one in standings if not one.trained}
    made += [
        Row(
            name=f"{one.name}: beats its untrained self by",
            unit="AUC",
            goal=">= 0",
            value=round(float(one.auc_NSA.mean()) - fresh[one.name], 4),
        )
        for one in standings
        if one.trained and one.name in fresh
    ]
    return made


def _line(one: Standing) -> str:
    return one.name if one.trained else f"{one.name}, untrained"


if __name__ == "__main__":
    main()
