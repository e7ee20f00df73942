"""Export: a checkpoint -> a release, which is a candidate until it is promoted.

With `instructions_only`, the scenarios that the current release lacks are added to it: the new release has the same
graphs and `model_version`, so `embed` computes the new scenarios alone. Tuned scenarios stay tuned. In a release of new
graphs their instructions are those of the deployment file, because vectors tuned for one network do not fit another.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from jobs.config.deployment import Deployment
from jobs.lake import delta
from jobs.lake.errors import translate_table_errors
from jobs.lake.run_log import RunRecord
from jobs.training import registry
from jobs.training.train import check_training
from jobs.training.training_inputs import check_inputs
from model.serving import release as releases
from model.serving.release import Release, ReleaseError

SAMPLE_SIZE = 64
"""Profiles that the gates are tried on."""


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """The result of one run of export."""

    as_of: date
    """The cut-off of the profiles that the gates were tried on."""
    release: Path
    model_version: str
    checkpoint: Path
    scenarios: tuple[str, ...]
    gates: dict[str, float]
    """The least cosine that each gate measured."""
    manual_again: str | None
    """The scenarios that are tuned in the current release and not in this one, and what to do; None: there are none."""
    megabytes: float
    next: str
    """The next step."""
    seconds: float


def export(
    deployment: Deployment,
    *,
    from_checkpoint: Path | None = None,
    instructions_only: bool = False,
    decoder: bool = False,
    promote: bool = False,
) -> ExportResult:
    """Make a candidate: a release that has passed its gates.

    Parameters
    ----------
    from_checkpoint : Path, optional
        A checkpoint's folder; None: the one trained last or, with `instructions_only`, the current release's.
    instructions_only : bool
        Keep the current release's graphs and add this deployment's scenarios to it.
    decoder : bool
        Put the checkpoint in too; `ask` answers in words with it.
    promote : bool
        Promote the release at once.

    Raises
    ------
    NoCheckpointError
        There is no checkpoint to export.
    ReleaseError
        The checkpoint, the current release or the last userqa has another vector spec than the deployment, or a gate
        failed.
    TableError
        The last userqa did not succeed.
    """
    as_of = delta.last_day(delta.open_table(deployment, "training_profiles"))
    with RunRecord.kept(deployment, "export", as_of) as run:
        before = _tuned_scenarios(deployment)
        base = _base_release(deployment) if instructions_only else None
        checkpoint = from_checkpoint or _default_checkpoint(deployment, base)
        release = _make_release(run, base, checkpoint, decoder=decoder)
        next_step = register_release(deployment, release, promote=promote)
        manual_again = [] if base else before
        gates = json.loads((release.path / "metrics.json").read_text(encoding="utf-8"))["gates"]["cosines"]
        run.model_version = release.model_version
        run.details = {
            "release": release.path.name,
            "checkpoint": checkpoint.name,
            "gates": gates,
            "scenarios": list(release.scenarios),
            "manual_again": manual_again,
        }
        return ExportResult(
            as_of=as_of,
            release=release.path,
            model_version=release.model_version,
            checkpoint=checkpoint,
            scenarios=release.scenarios,
            gates=gates,
            manual_again=f"{', '.join(manual_again)}: run `instructue tune` for each" if manual_again else None,
            megabytes=_megabytes(release.path),
            next=next_step,
            seconds=run.seconds(),
        )


def register_release(deployment: Deployment, release: Release, *, promote: bool) -> str:
    """Make a release the candidate, or promote it at once, and return the next step."""
    if not registry.set_candidate(deployment, release):
        return "none: this release is the current one already"
    if promote:
        return registry.promote(deployment, release.path).next
    return "evaluate it with `instructue evaluate`, then `instructue promote`"


def sample_profiles(table: DeltaTable, deployment: Deployment, as_of: date) -> pa.Table:
    """Return a sample of a day's profiles that includes those with the most and with the fewest events.

    At most 1.5 * `SAMPLE_SIZE` rows are taken from the first 16 * `SAMPLE_SIZE` rows of the day.
    """
    with translate_table_errors(table.table_uri):
        rows = table.to_pyarrow_dataset().head(16 * SAMPLE_SIZE, filter=pc.field("day") == as_of)
    lengths = np.sum(
        [pc.fill_null(pc.list_value_length(rows[source.name]), 0).to_numpy() for source in deployment.sources], axis=0
    )
    order = np.argsort(lengths, kind="stable")
    extremes = min(SAMPLE_SIZE // 4, len(order))
    spread = order[np.linspace(0, len(order) - 1, min(SAMPLE_SIZE, len(order))).astype(np.int64)]
    return rows.take(np.unique(np.concatenate([order[:extremes], spread, order[len(order) - extremes :]])))


def _tuned_scenarios(deployment: Deployment) -> list[str]:
    """Return the tuned scenarios of the current release; none where it is missing or broken."""
    try:
        return [*registry.tuned_scenarios(releases.read(registry.current_release(deployment)))]
    except ReleaseError:
        return []


def _base_release(deployment: Deployment) -> Release:
    """Return the current release, whose graphs the new release keeps; it must have the deployment's vector spec."""
    base = releases.read(registry.current_release(deployment))
    base.check_deployment(deployment.vector_spec(), {})
    return base


def _default_checkpoint(deployment: Deployment, base: Release | None) -> Path:
    return registry.source_checkpoint(deployment, base) if base else registry.current_checkpoint(deployment)


def _make_release(run: RunRecord, base: Release | None, checkpoint: Path, *, decoder: bool) -> Release:
    """Make a release of the checkpoint, or with `base` a release of its graphs that has more scenarios."""
    from model.serving import export as exporter  # torch and transformers take seconds to import

    deployment = run.deployment
    if base is None:
        check_inputs(checkpoint, deployment)
    check_training(deployment)
    profiles = sample_profiles(run.open("training_profiles"), deployment, run.as_of)
    run.rows_in = len(profiles)
    scenarios, text = registry.scenario_instructions(deployment), deployment.path.read_text(encoding="utf-8")
    if base is not None:
        return exporter.add_instructions(
            base, checkpoint, scenarios, deployment=text, profiles=profiles, decoder=decoder
        )
    return exporter.export(
        checkpoint,
        registry.releases_folder(deployment),
        scenarios=scenarios,
        vector_spec=deployment.vector_spec(),
        deployment=text,
        profiles=profiles,
        decoder=decoder,
    )


def _megabytes(folder: Path) -> float:
    return round(sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6, 1)
