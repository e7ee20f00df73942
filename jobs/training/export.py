"""Export: a checkpoint -> a release, which is a candidate until it is promoted.

With `instructions`, the scenarios that the current release lacks are added to it: same graphs, same `model_version`,
a new folder, and only those scenarios are embedded again. Tuned scenarios stay tuned; in a release of new graphs their
instructions are the deployment file's again, for vectors tuned for one network say nothing to another.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from jobs.config.deployment import Deployment
from jobs.lake import delta
from jobs.lake.errors import translate_table_errors
from jobs.lake.run_log import RunRecord
from jobs.training.registry import (
    NoCheckpointError,
    current_checkpoint,
    current_release,
    releases_folder,
    scenario_instructions,
    set_candidate,
    source_checkpoint,
    tuned_scenarios,
)
from jobs.training.registry import promote as promote_release
from jobs.training.train import INPUTS, check_training, network_config
from model.serving import release as releases
from model.serving.release import Release, ReleaseError
from model.serving.vector_spec import VECTOR_SPEC_KEY, differences

SAMPLE = 64
"""Profiles that the gates are tried on."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What one run of export did."""

    as_of: date
    """The cut-off of the profiles that the gates were tried on."""
    release: Path
    model_version: str
    checkpoint: Path
    scenarios: tuple[str, ...]
    gates: dict[str, float]
    """Least cosines between onnxruntime's vectors and others."""
    manual_again: str | None
    """The scenarios that were tuned in the release before and are not in this one, and what to do."""
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
) -> Exported:
    """Make a candidate: a release that has passed its gates.

    Parameters
    ----------
    from_checkpoint : Path, optional
        A checkpoint's folder; None: the one trained last, or, for instructions, the current release's.
    instructions_only : bool
        Keep the current release's graphs and add this deployment's scenarios to it.
    decoder : bool
        Put the checkpoint in too, with which `ask` answers in words.
    promote : bool
        Promote the release at once.

    Raises
    ------
    NoCheckpointError
        There is nothing to export from.
    ReleaseError
        The checkpoint was trained on profiles that the deployment no longer makes, userqa made others, or a gate
        failed.
    TableError
        The last userqa did not succeed.
    """
    from model.serving import export as exporter  # torch and transformers: seconds that the command line need not wait

    as_of = delta.last_day(delta.open_table(deployment, "training_profiles"))
    with RunRecord.kept(deployment, "export", as_of) as run:
        scenarios, text = scenario_instructions(deployment), deployment.path.read_text(encoding="utf-8")
        lost = [] if instructions_only else _tuned(deployment)
        if instructions_only:
            before = releases.read(current_release(deployment))
            before.check_deployment(deployment.vector_spec(), {})
            source = from_checkpoint or source_checkpoint(deployment, before)
        else:
            source = from_checkpoint or current_checkpoint(deployment)
            _check_inputs(source, deployment)
        check_training(deployment)
        profiles = sample(run.open("training_profiles"), deployment, as_of)
        if instructions_only:
            made = exporter.add_instructions(
                before, source, scenarios, deployment=text, profiles=profiles, decoder=decoder
            )
        else:
            made = exporter.export(
                source,
                releases_folder(deployment),
                scenarios=scenarios,
                vector_spec=deployment.vector_spec(),
                deployment=text,
                profiles=profiles,
                decoder=decoder,
            )
        next_step = hand_over(deployment, made, promote=promote)
        gates = json.loads((made.path / "metrics.json").read_text(encoding="utf-8"))["gates"]["cosines"]
        run.model_version, run.rows_in = made.model_version, len(profiles)
        run.details = {
            "release": made.path.name,
            "checkpoint": source.name,
            "gates": gates,
            "scenarios": list(made.scenarios),
            "manual_again": lost,
        }
        size = sum(file.stat().st_size for file in made.path.rglob("*") if file.is_file()) / 1e6
        return Exported(
            as_of=as_of,
            release=made.path,
            model_version=made.model_version,
            checkpoint=source,
            scenarios=made.scenarios,
            gates=gates,
            manual_again=_again(lost),
            megabytes=round(size, 1),
            next=next_step,
            seconds=run.seconds(),
        )


def hand_over(deployment: Deployment, release: Release, *, promote: bool) -> str:
    """Make a release the candidate, or promote it at once; return the next step."""
    if not set_candidate(deployment, release):
        return "none: this release is the current one already"
    if promote:
        return promote_release(deployment, release.path).next
    return "judge it with `instructue evaluate`, then `instructue promote`"


def sample(table: DeltaTable, deployment: Deployment, as_of: date) -> pa.Table:
    """Some dozens of a day's profiles, those with most and with fewest events among them."""
    with translate_table_errors(table.table_uri):
        rows = table.to_pyarrow_dataset().head(16 * SAMPLE, filter=pc.field("day") == as_of)
    lengths = np.sum(
        [pc.fill_null(pc.list_value_length(rows[source.name]), 0).to_numpy() for source in deployment.sources], axis=0
    )
    order = np.argsort(lengths, kind="stable")
    few = min(SAMPLE // 4, len(order))
    spread = order[np.linspace(0, len(order) - 1, min(SAMPLE, len(order))).astype(np.int64)]
    return rows.take(np.unique(np.concatenate([order[:few], spread, order[len(order) - few :]])))


def _tuned(deployment: Deployment) -> list[str]:
    """The scenarios that the current release, if there is one, has tuned vectors for."""
    try:
        return [*tuned_scenarios(releases.read(current_release(deployment)))]
    except ReleaseError:  # none, or a broken one: an export repairs that
        return []


def _again(lost: list[str]) -> str | None:
    return f"{', '.join(lost)}: run `instructue tune` for each" if lost else None


def _check_inputs(source: Path, deployment: Deployment) -> None:
    """A network must be released with the profiles it was trained on."""
    try:
        inputs = json.loads((source / INPUTS).read_text(encoding="utf-8"))
        trained = inputs[VECTOR_SPEC_KEY]
    except OSError:
        raise NoCheckpointError(f"{source} was not written by `instructue train`: it has no {INPUTS}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise NoCheckpointError(f"{source / INPUTS} cannot be read ({error}); run `instructue train` again") from None
    varied = [key for key in ("rendered", "left_out") if key in inputs]
    if varied:
        raise ReleaseError(
            f"{source} was trained to be compared, without what an evaluation left out ({varied[0]}): "
            "export the checkpoint of `instructue train`"
        )
    found = differences(deployment.vector_spec(), trained, "training")
    if "network" in inputs:
        found += differences(
            _network(json.loads(network_config(deployment).to_json())),
            _network(inputs["network"]),
            "training",
            "model.network",
        )
    if found:
        raise ReleaseError(
            f"the deployment differs from what {source.name} was trained on:\n"
            + "\n".join(f"  {difference}" for difference in found)
            + "\nrestore these keys, or run userqa and train again"
        )


def _network(config: dict[str, Any]) -> dict[str, Any]:
    """What two networks are compared by: not where pretrained models lie, nor what a default has become since."""
    parts = {
        part: {key: value for key, value in config[part].items() if key != "pretrained"}
        for part in ("encoder", "backbone")
    }
    return {key: value for key, value in config.items() if key not in ("sources", "tabular")} | parts
