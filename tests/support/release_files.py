"""A release whose graphs are a few bytes: for tests of the folder, which never runs a graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from model.serving import release, release_draft

VECTOR_SPEC: dict[str, Any] = {
    "sources": [
        {"name": "bill", "template": "{merchant}", "max_events": 8, "max_tokens": 6, "window_days": 90},
        {"name": "search", "template": "{query}", "max_events": 4, "max_tokens": 6, "window_days": 90},
    ],
    "numbers": ("age",),
    "categories": (),
    "aggregates": [],
    "precision": "fp32",
}
INSTRUCTIONS = {"universal": None, "food": "Predict food."}


def instruction_vectors(food: float = 1.0) -> dict[str, np.ndarray]:
    """Return the vectors of each scenario's instruction; `food` is the value that fills its own."""
    return {"universal": np.ones((1, 4), np.float32), "food": np.full((3, 4), food, np.float32)}


def fill(folder: Path, **changed: bytes) -> None:
    """Write the files of a draft, with these contents changed."""
    contents = {
        "event_bill.onnx": b"bill",
        "event_search.onnx": b"search",
        "user.onnx": b"user",
        "network.json": b"{}",
        "event_tokenizer.json": b"{e}",
        "language_tokenizer.json": b"{l}",
        "deployment.yaml": b"name: demo",
        "metrics.json": b"{}",
        "MODEL_CARD.md": b"# card",
    }
    for name, content in (contents | changed).items():
        (folder / name).write_bytes(content)
    release_draft.write_vectors(folder / release.INSTRUCTIONS, instruction_vectors())


def build(
    releases: Path, vector_spec: dict[str, Any] = VECTOR_SPEC, food: float = 1.0, **changed: bytes
) -> release.Release:
    """Write a draft with these changes, seal it and accept it."""
    with release_draft.new_draft(releases) as folder:
        fill(folder, **changed)
        release_draft.write_vectors(folder / release.INSTRUCTIONS, instruction_vectors(food))
        release_draft.seal(folder, checkpoint="c" * 64, precision="fp32", vector_spec=vector_spec, texts=INSTRUCTIONS)
        return release_draft.accept(folder, releases)
