"""Compare InstructUE's vectors with those of the baselines, on the same profiles and splits."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch

from jobs.config.deployment import UNIVERSAL
from jobs.evaluation.baselines.inputs import BaselineError, BaselineInputs, BaselineOptions
from jobs.evaluation.baselines.language_model import PRETRAINED
from jobs.evaluation.baselines.registry import BASELINES, Baseline, Vectors
from jobs.evaluation.figures import Line, difference, line_over_splits, tables
from jobs.evaluation.result_cache import Cell
from jobs.evaluation.results import Result
from jobs.evaluation.scores import Probe, Score, score
from jobs.evaluation.studies.study import Study, StudyError
from jobs.training.registry import candidate_release, current_checkpoint, open_release
from jobs.training.training_inputs import network_config
from model.network.inference import embed
from model.network.network import InstructUE
from model.serving.onnx_runtime import Runtime
from model.training.checkpoint import load_checkpoint

INSTRUCTUE = ("InstructUE, universal", "InstructUE, manual")
UNTRAINED = "trained less untrained"
"""The part of the tables that compares networks with the same networks with fresh weights."""
SETTING = (
    "logistic regression on standardised vectors, LightGBM on features as they are; ± is the standard deviation over "
    "seeds and splits; untrained: the same network with fresh weights; docs/baselines.md describes each baseline"
)
Seeds = list[list[Score]]
"""The scores of each seed."""


@dataclass(frozen=True, kw_only=True)
class _Work:
    """The cells of a baseline, trained or with fresh weights."""

    baseline: Baseline
    trained: bool
    cells: list[Cell]


def baselines(
    study: Study, *, only: Sequence[str] = (), releases: Sequence[Path] = (), options: BaselineOptions | None = None
) -> Result:
    """Probe the vectors of InstructUE and of every baseline, trained and with fresh weights.

    Parameters
    ----------
    only : sequence of str
        Run the baselines with a method whose name contains one of these words; the others appear if they ran before.
    releases : sequence of Path
        InstructUE's releases, one for each trained seed; empty: the newest candidate, or the current release.

    Raises
    ------
    StudyError
        A word is in no name, no training profile is older than the labels, or no baseline could run.
    """
    inputs = baseline_inputs(study, options or BaselineOptions())
    listed = [_instructue(study, releases), *BASELINES]
    notes = [SETTING]
    if inputs.options.language_model is None:
        listed = [one for one in listed if "language model, pretrained" not in one.methods]
        notes.append(f"no pretrained language model: download {PRETRAINED} and name its folder with --language-model")
    chosen = select(listed, only)
    works = [
        _Work(
            baseline=one,
            trained=trained,
            cells=[_cell(study, inputs, one, trained, seed) for seed in _seeds(study, one, trained)],
        )
        for one in listed
        for trained in ((True, False) if one.has_untrained else (True,))
    ]
    results, missing = _run(study, works, chosen)
    if not results:
        raise StudyError("no baseline could run:\n" + "\n".join(f"  {note}" for note in missing))
    scores = {
        f"{method}, seed {seed}": some for method, seeds_N in results.items() for seed, some in enumerate(seeds_N)
    }
    lines = _lines(results)
    return Result(
        name="baselines",
        title="InstructUE and baselines",
        tables=tables(lines, study.names, "vectors"),
        notes=(*study.notes([*scores.values()], trained=False), *notes, *missing),
        data={"lines": lines, "scores": scores},
    )


def select(listed: Sequence[Baseline], words: Sequence[str]) -> list[Baseline]:
    """Return the baselines with a method whose name contains one of the words; all when there is no word.

    Raises
    ------
    StudyError
        A word is in no name.
    """
    names = {method: one for one in listed for method in one.methods}
    for word in words:
        if not any(word.lower() in name.lower() for name in names):
            raise StudyError(f"there is no baseline {word!r}: name one of " + ", ".join(map(repr, names)))
    chosen = [one for name, one in names.items() if not words or any(word.lower() in name.lower() for word in words)]
    return list({id(one): one for one in chosen}.values())


def _run(study: Study, works: Sequence[_Work], chosen: Sequence[Baseline]) -> tuple[dict[str, Seeds], list[str]]:
    """Return the scores of each method and seed, and a note for each baseline that cannot run."""
    results: dict[str, Seeds] = {}
    missing: dict[str, str] = {}
    total = sum(len(work.cells) for work in works)
    done = 0
    for work in works:
        first = work.baseline.methods[0]
        results_of_cells: list[Any] | None = None
        if work.baseline in chosen and first not in missing:
            try:
                results_of_cells = study.run_cells(work.cells, before=done, total=total)
            except BaselineError as error:
                missing[first] = f"{first} is left out: {error}"
        else:
            results_of_cells = study.read_cells(work.cells)
        done += len(work.cells)
        for method in work.baseline.methods if results_of_cells is not None else ():
            name = method if work.trained else f"{method}, untrained"
            results[name] = [
                [one | {"method": name} for one in scores if one["method"] == method]
                for scores in results_of_cells or ()
            ]
    return results, [*missing.values()]


def _lines(results: Mapping[str, Seeds]) -> list[Line]:
    """Return a row for each method, and the difference of each trained network from its untrained one."""
    lines = [line_over_splits(name, seeds_N, name) for name, seeds_N in results.items()]
    for name, untrained_N in results.items():
        method = name.removesuffix(", untrained")
        if name != method and method in results:
            trained_N = results[method]
            # A network whose training has no seed is compared with the untrained network of every seed.
            trained_N = trained_N * len(untrained_N) if len(trained_N) == 1 else trained_N
            count = min(len(trained_N), len(untrained_N))
            lines.append(difference(method, (trained_N[:count], method), (untrained_N[:count], name), part=UNTRAINED))
    return lines


def _seeds(study: Study, baseline: Baseline, trained: bool) -> Sequence[int]:
    return range(baseline.trained_seeds) if trained and baseline.trained_seeds else study.seeds


def _cell(study: Study, inputs: BaselineInputs, baseline: Baseline, trained: bool, seed: int) -> Cell:
    def work() -> list[dict[str, Any]]:
        vectors = baseline.make(inputs, seed, trained)
        return score(
            [
                Probe(
                    group=group,
                    method=method,
                    features=_of_scenario(vectors[method], group.scenario)[group.row_U],
                    classifier=baseline.classifier,
                )
                for method in baseline.methods
                for group in study.groups
            ]
        )

    return study.cell(
        f"{baseline.methods[0]}, {'trained' if trained else 'untrained'}, seed {seed}",
        work,
        kind="baseline",
        methods=[*baseline.methods],
        settings=json.loads(json.dumps(baseline.settings(inputs.options), default=str)),
        trained=trained,
        seed=seed,
        versions={"training_profiles": study.run.versions["training_profiles"]},
        network=json.loads(inputs.config.to_json()),
    )


def _of_scenario(vectors: Vectors, scenario: str) -> np.ndarray[Any, Any]:
    return vectors if isinstance(vectors, np.ndarray) else vectors[scenario]


def baseline_inputs(study: Study, options: BaselineOptions) -> BaselineInputs:
    """Read the training profiles at the cut-offs before every label's as_of.

    Raises
    ------
    StudyError
        There is no such profile.
    """
    first = study.data.first_as_of
    training = study.read_table("training_profiles")
    training = training.filter(pc.less(training["as_of"], first))
    if not len(training):
        raise StudyError(
            f"{study.deployment.path}: no training profile is older than the labels of {first:%Y-%m-%d}: name "
            "earlier days under userqa.as_of, and run `instructue userqa`"
        )
    return BaselineInputs(
        deployment=study.deployment,
        config=network_config(study.deployment),
        training=training,
        profiles=study.profiles,
        options=options,
    )


def _instructue(study: Study, releases: Sequence[Path]) -> Baseline:
    """Return InstructUE itself: the releases, and the current checkpoint's network with fresh weights."""
    opened = [open_release(study.deployment, path) for path in releases or (candidate_release(study.deployment),)]

    def make(inputs: BaselineInputs, seed: int, trained: bool) -> Mapping[str, Vectors]:
        names = [UNIVERSAL, *study.names]
        if trained:
            runtime = Runtime(opened[seed], providers=study.deployment.model.providers)
            vectors_UKH = runtime.embed(inputs.profiles, names)
        else:
            _, tokenizers, config = load_checkpoint(current_checkpoint(study.deployment))
            torch.manual_seed(seed)
            network = InstructUE(config).eval()
            instructions = [None, *(scenario.instruction for scenario in study.scenarios)]
            vectors_UKH = embed(network, tokenizers, inputs.profiles, instructions)
        manual = {name: vectors_UKH[:, column] for column, name in enumerate(names) if name != UNIVERSAL}
        return dict(zip(INSTRUCTUE, (vectors_UKH[:, 0], manual), strict=True))

    return Baseline(
        methods=INSTRUCTUE,
        make=make,
        settings=lambda options: {"releases": [release.name for release in opened]},
        trained_seeds=len(opened),
    )
