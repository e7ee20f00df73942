"""Train CPC or CoLES of pytorch-lifestream on event sequences, and encode others, in a separate environment.

`python encode.py FOLDER` reads training.npz, profiles.npz and settings.json of the folder, which `event_sequences`
writes, and writes vectors.npy there. Modules, datasets, losses and samplers are the library's, with its defaults where
the settings name no value. The script imports nothing of this project.
"""

import json
import logging
import sys
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from ptls.data_load.utils import collate_feature_dict
from ptls.frames.coles import ColesDataset, CoLESModule
from ptls.frames.coles.split_strategy import SampleSlices
from ptls.frames.cpc import CpcDataset, CpcModule
from ptls.nn import RnnSeqEncoder, TrxEncoder

SPLITS, SHORTEST, LONGEST = 5, 5, 60
NEGATIVES, FORWARD_STEPS = 40, 6


def read(path: Path) -> list[dict[str, torch.Tensor]]:
    """Read each user's events in the library's form: a tensor for each column."""
    with np.load(path) as arrays:
        codes, gap, age, offsets = (
            torch.from_numpy(arrays[name]) for name in ("codes_EC", "gap_E", "age_E", "offsets_U1")
        )
    columns = {"source": codes[:, 0], "text": codes[:, 1], "event_time": -age, "gap": gap, "age": age}
    columns |= {f"part_{number}": codes[:, 2 + number] for number in range(codes.shape[1] - 2)}
    return [{name: column[start:end] for name, column in columns.items()} for start, end in pairwise(offsets.tolist())]


def encoder(parts: int, settings: dict[str, Any]) -> RnnSeqEncoder:
    """Return the library's encoder: embedded codes and two numbers, then a GRU."""
    embeddings = {
        "source": {"in": settings["sources"] + 1, "out": 8},
        "text": {"in": settings["buckets"], "out": settings["text_width"]},
    }
    embeddings |= {
        f"part_{number}": {"in": settings["buckets"], "out": settings["part_width"]} for number in range(parts)
    }
    return RnnSeqEncoder(
        trx_encoder=TrxEncoder(embeddings=embeddings, numeric_values={"gap": "log", "age": "log"}),
        hidden_size=settings["hidden"],
        type="gru",
    )


def train(network: RnnSeqEncoder, users: list[dict[str, torch.Tensor]], settings: dict[str, Any]) -> None:
    """Train the encoder in place with the library's module."""
    rates = {
        "optimizer_partial": partial(torch.optim.Adam, lr=settings["learning_rate"]),
        "lr_scheduler_partial": partial(torch.optim.lr_scheduler.StepLR, step_size=3, gamma=0.7),
    }
    if settings["method"] == "coles":
        module = CoLESModule(seq_encoder=network, **rates)
        data = ColesDataset(
            [user for user in users if len(user["gap"]) >= SHORTEST],
            SampleSlices(split_count=SPLITS, cnt_min=SHORTEST, cnt_max=LONGEST),
        )
    else:
        module = CpcModule(seq_encoder=network, n_negatives=NEGATIVES, n_forward_steps=FORWARD_STEPS, **rates)
        data = CpcDataset(
            [user for user in users if len(user["gap"]) > FORWARD_STEPS], min_len=SHORTEST * 4, max_len=LONGEST * 2
        )
    batches = torch.utils.data.DataLoader(
        data, settings["users_per_step"], shuffle=True, drop_last=True, collate_fn=data.collate_fn
    )
    pl.Trainer(
        max_epochs=settings["epochs"],
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(module, batches)


@torch.inference_mode()
def encode(network: RnnSeqEncoder, users: list[dict[str, torch.Tensor]], batch_size: int = 256) -> np.ndarray:
    """Return a vector for each user: the state of the encoder after the last event."""
    network.eval()
    network.is_reduce_sequence = True
    parts = [
        network(collate_feature_dict(users[start : start + batch_size])).numpy()
        for start in range(0, len(users), batch_size)
    ]
    return np.concatenate(parts)


def main() -> None:
    """Read the folder, train the encoder if the settings say so, and write the vectors."""
    folder = Path(sys.argv[1])
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    users = read(folder / "training.npz")
    pl.seed_everything(settings["seed"], verbose=False)
    network = encoder(sum(name.startswith("part_") for name in users[0]), settings)
    if settings["trained"]:
        train(network, users, settings)
    np.save(folder / "vectors.npy", encode(network, read(folder / "profiles.npz")))


if __name__ == "__main__":
    main()
