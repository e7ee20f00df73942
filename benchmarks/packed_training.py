"""Measure training on several pairs packed behind each profile, against a copy of the profile for each pair.

Run `python -m benchmarks.packed_training --profiles 16`.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
import yaml

from benchmarks import company
from benchmarks.report import Row, write
from jobs.config.deployment import Deployment
from jobs.training.training_inputs import network_config
from model.data.pairs import SampledBatch
from model.network.network import InstructUE
from model.training.dataset import Batches, prepare_dataset
from model.training.grad_cache import GradCache
from model.training.training_config import TrainingConfig

STEPS = 4
"""The number of steps of each kind, in turn; the first warms up."""
QUESTIONS = (
    "How many coffees will this user buy within the next month?",
    "Does this user travel by train?",
    "What does this user spend most on?",
    "When will this user next order a meal?",
)
LEVELS = ("never", "once or twice", "every week", "nearly every day")
AT = datetime(2025, 1, 1, tzinfo=UTC)
LONG = 7
"""The factor of the demo's events for about as many as the paper's limits allow, 560."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Pairs per second packed and apart, and the largest difference of their losses.

    `profile` and `suffix` are the mean tokens of a profile, and of an instruction and its answer, without padding.
    """

    packed: float
    apart: float
    difference: float
    profile: float
    suffix: float


def apart(sampled: SampledBatch) -> SampledBatch:
    """Return the same pairs, each behind a copy of its profile."""
    return SampledBatch(
        users_B=sampled.users_B[sampled.row_Q],
        row_Q=np.arange(len(sampled.row_Q)),
        pair_Q=sampled.pair_Q,
        instruction_Q=sampled.instruction_Q,
        is_universal_Q=sampled.is_universal_Q,
    )


def measure(deployment: Deployment, training: TrainingConfig, times: float) -> Measurement:
    """Train a few steps each way from the same weights on the same pairs; both encode each distinct text once."""
    table = company.profiles(deployment, training.profiles_per_step * 2, times=times)
    table = table.append_column("as_of", pa.array([AT] * len(table), pa.timestamp("us", "UTC")))
    config, _, dataset, _ = prepare_dataset(table, pairs(table), network_config(deployment), training)
    torch.manual_seed(0)
    network = InstructUE(config)
    frozen = training.encoder_rate == 0
    network.encoders.requires_grad_(not frozen)
    with torch.no_grad():
        texts = network.encode_texts(dataset.event_ids) if frozen else dataset.event_ids
    grad_caches = [
        GradCache(network=of, dataset=dataset, texts=texts, training=training, seed=0)
        for of in (network, copy.deepcopy(network))
    ]
    optimizers = [torch.optim.AdamW(grad_cache.network.parameters(), lr=1e-4) for grad_cache in grad_caches]
    batches, durations, losses = Batches(dataset, training, 0), np.zeros((STEPS, 2)), np.zeros((STEPS, 2))
    for step in range(STEPS):
        together = batches.batch(step)
        for kind, sampled in enumerate((together, apart(together))):
            begin = time.perf_counter()
            losses[step, kind] = grad_caches[kind].backward(sampled, step).total.item()
            optimizers[kind].step()
            durations[step, kind] = time.perf_counter() - begin
    packed, alone = (len(together.pair_Q) / float(seconds) for seconds in durations[1:].min(axis=0))
    batch = dataset.collate(together)
    return Measurement(
        packed=packed,
        apart=alone,
        difference=float(np.ptp(losses, axis=1).max()),
        profile=config.fixed_tokens + float(dataset.profiles.lengths_U.mean()),
        suffix=float((batch.segments_BL > 0).sum() / len(together.pair_Q)),
    )


def pairs(profiles: pa.Table) -> pa.Table:
    """Return four questions of each profile with random answers, and one description."""
    rng = np.random.default_rng(0)
    rows = [
        {
            "user_id": user,
            "as_of": AT,
            "instruction": question,
            "split": "train",
            "answer": f"The user does it {LEVELS[int(rng.integers(4))]}."
            if question
            else f"A user who pays {LEVELS[int(rng.integers(4))]} and travels {LEVELS[int(rng.integers(4))]}.",
        }
        for user in profiles["user_id"].to_pylist()
        for question in (*QUESTIONS, None)
    ]
    schema = {name: pa.timestamp("us", "UTC") if name == "as_of" else pa.string() for name in rows[0]}
    return pa.Table.from_pylist(rows, pa.schema(schema))


def main() -> None:
    """Measure short and long profiles and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profiles", type=int, default=16, help="In a batch.")
    arguments = parser.parse_args()
    rows, shapes = [], []
    with tempfile.TemporaryDirectory() as folder:
        deployment = company.deployment(Path(folder))
        for name, times in (("the demo's profiles", 1.0), ("long profiles", LONG)):
            sources = yaml.safe_load(deployment.path.read_text(encoding="utf-8"))["sources"]
            limits = [source | {"max_events": int(times * source["max_events"])} for source in sources]
            longer = company.changed(company.deployment(Path(folder) / name), sources=limits)
            for rate, encoders in ((0.0, "frozen"), (1.0, "trained")):
                training = TrainingConfig(profiles_per_step=arguments.profiles, encoder_rate=rate)
                measurement = measure(longer, training, times)
                rows += [
                    Row(name=f"{name}, encoders {encoders}, packed", value=measurement.packed, unit="pairs/s"),
                    Row(name=f"{name}, encoders {encoders}, apart", value=measurement.apart, unit="pairs/s"),
                    Row(
                        name=f"{name}, encoders {encoders}, ratio",
                        value=measurement.packed / measurement.apart,
                        goal=">= 3",
                    ),
                    Row(
                        name=f"{name}, encoders {encoders}, largest difference of a step's loss",
                        value=measurement.difference,
                        goal="<= 0.0001",
                    ),
                ]
            shapes.append(f"{name} have {measurement.profile:.0f} tokens and a pair {measurement.suffix:.0f}")
    write(
        "packed_training",
        rows,
        f"Steps of {arguments.profiles} profiles with five pairs each, the preset tiny from fresh weights on the "
        f"CPU: {' and '.join(shapes)}. Packed, a profile is read once for its five pairs; apart, once for each. Both "
        f"train from the same weights on the same pairs for {STEPS} steps, in turn, and encode each distinct event "
        "text of a step once, or never where the encoders are frozen; the best step after the first.",
    )


if __name__ == "__main__":
    main()
